"""The events of a turn, in the order in which follow_turn() yields them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from chatbots.conversation.rewrite import Rewrite
from providers.base import CompletionRequest, Usage
from vectorstores.retrieval import Passage, Search


@dataclass(frozen=True, slots=True)
class Started:
    """The start of the turn, after all checks have passed. The ids are those of the log."""

    conversation_uuid: str
    question_id: str
    reply_id: str


@dataclass(frozen=True, slots=True)
class Searching:
    """The start of the search for passages."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of the search: `passages` are those in the prompt. `search` is None if it failed.

    `rewrite` is None if the question was not to be rewritten.
    """

    passages: Sequence[Passage]
    search: Search | None
    rewrite: Rewrite | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """The call of the provider. Without this event, the chatbot replies with a fixed text."""

    provider: str
    prompt: CompletionRequest


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the reply's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The complete reply. `passages` are those in the prompt, and none if the reply is the refusal.

    `cited` are the numbers of the sources that the text marks: see citations.source_numbers().
    """

    text: str
    usage: Usage | None
    model: str
    conversation_uuid: str
    message_id: str
    finish_reason: str = "stop"
    passages: Sequence[Passage] = ()
    cited: Collection[int] = ()


TurnEvent = Started | Searching | Found | Asking | Piece | Reply
