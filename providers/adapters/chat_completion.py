"""Chat completions as the many servers of OpenAI's protocol send them: whole or in events, in several shapes."""

from typing import Any

from providers.adapters.answer_state import AnswerState
from providers.adapters.token_counts import read_counts
from providers.base import Provider, Usage

TEXT_PARTS = (None, "text", "output_text")  # other parts hold thinking, or no text


class ChatState(AnswerState):
    """A chat completion. Of several choices the first counts."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self.index: Any = None  # of the choice
        self.pieces: list[str] = []

    def read(self, event: dict[str, Any]) -> str | None:
        self.usage = read_usage(event) or self.usage
        choices = event.get("choices")
        if not choices:
            return None
        choice = choices[0]
        if self.index is None:
            self.index = choice.get("index")
        elif choice.get("index", self.index) != self.index:
            return None
        piece = self.piece_of(choice)
        self.pieces.append(piece)
        self.finish(choice.get("finish_reason"))
        return piece

    def piece_of(self, choice: dict[str, Any]) -> str:
        """Return the text of a choice. In a stream, a `message` holds all the text so far."""
        piece = content_text(choice.get("delta") or {})
        if not piece and (message := choice.get("message")):
            piece = content_text(message).removeprefix("".join(self.pieces))
        return piece or choice.get("text") or ""  # as the older completions protocol has it


def content_text(message: dict[str, Any]) -> str:
    """Return the text of a message, or of a message delta in a stream."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(
            part.get("text") or "" for part in content if isinstance(part, dict) and part.get("type") in TEXT_PARTS
        )
    return content or message.get("refusal") or ""


def read_usage(answer: dict[str, Any]) -> Usage | None:
    """Read the token counts under either pair of names: prompt and completion tokens, or input and output tokens."""
    usage = answer.get("usage")
    if not usage or not isinstance(usage, dict):
        return None
    return read_counts(
        usage.get("prompt_tokens") or usage.get("input_tokens"),
        usage.get("completion_tokens") or usage.get("output_tokens"),
        usage.get("total_tokens"),
    )
