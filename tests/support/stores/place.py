"""A running vector store, with operations that tests perform without its driver."""

import uuid
from dataclasses import dataclass
from typing import Any

from tests.support.upstream import Upstream
from vectorstores.base import Metric, VectorStore
from vectorstores.models import Collection
from vectorstores.stores.local import pgvector

KEYS = {"pinecone": "pcsk_0123456789abcdef", "qdrant": "qd-0123456789abcdef", "chroma": "", "local": ""}
DIMENSION = 4


@dataclass
class Place:
    """A running store: its driver and, if a test double plays it, the server."""

    name: str
    store: VectorStore
    server: Upstream | None = None

    def new_collection(self, metric: Metric = Metric.COSINE, dimension: int = DIMENSION) -> str:
        """Create a collection and return its name: with the driver if cosine, otherwise through the store's API."""
        target = f"kb-{uuid.uuid4().hex[:12]}"
        if metric is not Metric.COSINE:
            self.create_by_hand(target, metric, dimension)
        elif self.name == "local" and pgvector.can_hold(dimension):
            Collection.objects.create(store="local", name=target, dimension=dimension, index=Collection.Index.MATRIX)
        else:
            self.store.create(target, dimension)
        return target

    def create_by_hand(self, target: str, metric: Metric, dimension: int) -> None:
        dot = metric is Metric.DOT
        session: Any = self.store.session
        if self.name == "pinecone":
            body = {"name": target, "dimension": dimension, "metric": "dotproduct" if dot else "euclidean"}
            answer = session.call("POST", "/indexes", body)
        elif self.name == "qdrant":
            body = {"vectors": {"size": dimension, "distance": "Dot" if dot else "Euclid"}}
            answer = session.call("PUT", f"/collections/{target}", body)
        else:
            body = {"name": target, "configuration": {"hnsw": {"space": "ip" if dot else "l2"}}}
            answer = session.call("POST", "/collections", body)
        assert answer.status < 300, answer.body

    def delete_by_hand(self, target: str) -> None:
        if self.store.in_database:
            Collection.objects.filter(name=target).delete()
        else:
            path = {"pinecone": "/indexes", "qdrant": "/collections", "chroma": "/collections"}[self.name]
            assert self.store.session.call("DELETE", f"{path}/{target}").status < 300
