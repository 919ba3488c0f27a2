"""The base of servers that play a vector store: they process requests unless a test has queued an answer."""

import threading
from abc import abstractmethod
from typing import Any

from tests.support.upstream import Behavior, Connection, Sent, Upstream, answering


class Refused(Exception):
    def __init__(self, status: int, body: Any) -> None:
        super().__init__(body)
        self.status, self.body = status, body


class Double(Upstream):
    def __init__(self, api_key: str = "") -> None:
        super().__init__()
        self.api_key = api_key
        self.lock = threading.Lock()

    def behaviour_for(self, path: str) -> Behavior:
        return super().behaviour_for(path) if self.queue or path in self.pages else self.play

    def play(self, connection: Connection) -> None:
        try:
            with self.lock:
                self.check_key(connection.received)
                status, body = self.answer(connection.received)
        except Refused as refusal:
            status, body = refusal.status, refusal.body
        answering(body, status)(connection)

    @abstractmethod
    def check_key(self, sent: Sent) -> None:
        """Raise Refused if the request lacks the right key."""

    @abstractmethod
    def answer(self, sent: Sent) -> tuple[int, Any]:
        """Process the request and return the status and body, or raise Refused."""
