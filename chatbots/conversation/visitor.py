"""Who talks to a chatbot, and how they are refused."""

from dataclasses import dataclass
from typing import Any

from logs.conversations import Turn, visitor_key
from logs.models import Conversation
from puffer.api import ApiError, Caller


class Refusal(ApiError):
    """Its text is the owner's, and is meant for the visitor. With a `quota_notice` it is about how much was used."""

    quota_notice: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the site that embeds the widget, as that site has signed."""

    user_id: str
    name: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class Visitor:
    """The holder of an API key, a user who tries the bot in the admin, or a visitor of a site with the widget.

    `session_id` is the widget's own id of a browser, "" elsewhere.
    """

    caller: Caller | None = None
    user_id: int | None = None
    username: str = ""
    ip_address: str = ""
    source: Conversation.Source = Conversation.Source.API
    session_id: str = ""
    identity: Identity | None = None

    @property
    def key(self) -> str:
        """What the widget's limits know a visitor by."""
        return visitor_key(self.session_id, self.identity.user_id if self.identity else "")

    def turn(self, chatbot_id: int, conversation_uuid: str = "", question: str = "", **known: Any) -> Turn:
        """A turn of theirs for the log, or whose conversation is meant, where there is no question."""
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
