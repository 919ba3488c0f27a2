"""Who talks to a chatbot."""

from dataclasses import dataclass

from logs.models import Conversation
from puffer.api.authentication import Caller


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
        """What the widget's limits know a visitor by: short, and the same for the same person."""
        return f"user:{self.identity.user_id}"[:80] if self.identity else f"guest:{self.session_id}"[:80]
