"""The person or program that talks to a chatbot, and the error that refuses them."""

from dataclasses import dataclass, field
from typing import Any

from logs.conversations import Turn, visitor_key
from logs.models import Conversation
from puffer.api import ApiError, Caller


class Refusal(ApiError):
    """A refusal with a text by the chatbot's owner, shown to the visitor; `quota_notice` if a quota is used up."""

    quota_notice: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the embedding site, as signed by that site at `signed_at`, in Unix seconds."""

    user_id: str
    name: str = ""
    email: str = ""
    signed_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A caller with an API key, a user who tests the bot in the admin, or a visitor of a site with the widget.

    `session_id` is the widget's id of a browser, "" for the others.
    """

    caller: Caller | None = None
    user_id: int | None = None
    username: str = ""
    ip_address: str = ""
    source: Conversation.Source = Conversation.Source.API
    session_id: str = ""
    identity: Identity | None = None
    is_logged: bool = True  # an evaluation asks a visitor's question again, which the log has already

    @property
    def key(self) -> str:
        """Return the key under which the widget's limits and consents are stored."""
        return visitor_key(self.session_id, self.identity.user_id if self.identity else "")

    def turn(self, chatbot_id: int, conversation_uuid: str = "", question: str = "", **known: Any) -> Turn:
        """Return a turn of this visitor for the log, or, without a question, one that only names the conversation."""
        return Turn(
            question=question,
            chatbot_id=chatbot_id,
            conversation_uuid=conversation_uuid,
            api_key_id=self.caller.key_id if self.caller else None,
            user_id=self.user_id,
            session_id=self.session_id,
            external_user_id=self.identity.user_id if self.identity else "",
            external_name=self.identity.name if self.identity else "",
            external_email=self.identity.email if self.identity else "",
            ip_address=self.ip_address,
            source=self.source,
            **known,
        )
