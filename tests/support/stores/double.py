"""A server that plays a vector store: it keeps what was sent, and does it, unless a test has queued something else."""

import threading
from abc import abstractmethod
from typing import Any

from tests.support.upstream import Behaviour, Connection, Sent, Upstream, answering


class Refused(Exception):
    def __init__(self, status: int, body: Any) -> None:
        super().__init__(body)
        self.status, self.body = status, body


class Double(Upstream):
    def __init__(self, api_key: str = "") -> None:
        super().__init__()
        self.api_key = api_key
        self.lock = threading.Lock()

    def behaviour_for(self, path: str) -> Behaviour:
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
        """Raises Refused."""

    @abstractmethod
    def answer(self, sent: Sent) -> tuple[int, Any]:
        """Status and body. Raises Refused."""
