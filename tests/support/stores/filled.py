"""Collections whose vectors find nothing that is asked for, so that only words find it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection

from providers.run_async import run_async
from tests.support.api import Api
from tests.support.stores.place import Place
from tests.support.upstream import Connection, Sent, answering
from vectorstores.check_connection import look_up
from vectorstores.models import Collection, LocalVector
from vectorstores.retrieval import Knowledge, Passage

DECOYS = [{"id": f"decoy-{at}", "content": f"Decoy {at}"} for at in range(60)]  # more than a store is asked for


def misleading_embedding(connection: Connection) -> None:
    """Answer like OpenAI's /embeddings: to all questions, decoys are near, and other texts have a cosine of 0.3."""
    texts = connection.received.json["input"]
    data = [{"index": at, "embedding": values_of(text)} for at, text in enumerate(texts)]
    answering({"object": "list", "data": data, "model": "emb-1", "usage": {"prompt_tokens": 7}})(connection)


def values_of(text: str) -> list[float]:
    if text.startswith("Decoy"):
        return [1.0, 0.01 * int(text.removeprefix("Decoy ")), 0.0, 0.0]
    return [1.0, 0.0, 0.0, 0.0] if "?" in text else [0.3, 0.9539392, 0.0, 0.0]


@dataclass
class Filled:
    """A collection filled through the API, and searched as a chatbot searches it."""

    api: Api
    place: Place
    target: str

    def upsert(self, *items: dict[str, Any], namespace: str = "") -> None:
        body = {"provider": self.place.store.slug, "target_id": self.target, "vectors": list(items)}
        body |= {"embedding_provider": "openai", "embedding_model": "emb-1", "namespace": namespace}
        response = self.api.post("/vector-stores/upsert", json=body)
        assert response.status_code == 200, response.text

    def passages(self, question: str, namespace: str = "", top_k: int = 2, threshold: int = 25) -> list[Passage]:
        found = Knowledge(
            self.place.store.slug, [self.target], "openai", "emb-1", namespace, top_k=top_k, threshold=threshold
        )
        return list(run_async(lambda: look_up(question, found)).passages)

    def found(self, question: str, **options: Any) -> list[str]:
        """Return the ids of the documents that are found, without decoys."""
        ids = [passage.document_id for passage in self.passages(question, **options)]
        return [document_id for document_id in ids if not document_id.startswith("decoy")]

    @property
    def collection(self) -> Collection:
        return Collection.objects.get(store=self.place.store.slug, name=self.target)

    def words(self, namespace: str = "") -> dict[str, str]:
        """Return the indexed texts without decoys, by chunk."""
        rows = LocalVector.objects.filter(collection=self.collection, namespace=namespace)
        return dict(rows.exclude(text__startswith="Decoy").values_list("vector_id", "text"))

    def queries(self) -> list[Sent]:
        """Return the queries that the store has received, if a double plays it."""
        if self.place.name == "pinecone":
            return [sent for sent in self.place.server.indexes[self.target].sent if sent.path == "/query"]
        return [sent for sent in self.place.server.sent if sent.path.endswith("/points/query")]


@contextmanager
def broken_word_index() -> Iterator[None]:
    """Make every use of the word index fail, on both databases. The test must not run in a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE vectorstores_localvector RENAME TO elsewhere")
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE elsewhere RENAME TO vectorstores_localvector")
