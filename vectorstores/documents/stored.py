"""Read a stored document back from its store: its chunks, its whole text and its metadata."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from vectorstores.base import Metadata, Vector, VectorStore
from vectorstores.errors import CollectionNotFound
from vectorstores.extraction import tables_in
from vectorstores.ingestion.documents import NewDocument, document_from_chunks, int_or
from vectorstores.models import Document
from vectorstores.registry import get_store
from vectorstores.stores.threads import call_store

FACTS_JOINT = "\n\n"  # between a text and its facts: see cut_with_facts()


@dataclass(frozen=True)
class StoredDocument:
    """The chunks of a document as the store has them, in their order."""

    vectors: Sequence[Vector]

    @property
    def is_complete(self) -> bool:
        """Return whether all chunks are of one version. An interrupted import may leave chunks of two."""
        count = len(self.vectors)
        return count > 0 and all(int_or(vector.metadata.get("total_chunks"), count) == count for vector in self.vectors)

    @cached_property
    def document(self) -> NewDocument:
        """Return the document as if it were new, without its embeddings."""
        return document_from_chunks(self.vectors, with_values=False)

    @property
    def with_values(self) -> NewDocument:
        """Return the document as if it were new, with its embeddings."""
        return document_from_chunks(self.vectors, with_values=True)

    @property
    def metadata(self) -> Metadata:
        """Return what all chunks have in common, without what ingestion writes."""
        return self.document.metadata if self.vectors else {}

    @property
    def title(self) -> str:
        return str(self.metadata.get("title", ""))

    @property
    def url(self) -> str:
        """Return the link that visitors see as the source."""
        return str(self.metadata.get("url") or self.metadata.get("uri") or "")

    @cached_property
    def facts(self) -> str:
        """Return the lines that end each chunk in addition to its text, such as a price; "" for texts without them."""
        endings = {vector.text[span(vector)[1] - span(vector)[0] :] for vector in self.vectors}
        ending = endings.pop() if len(endings) == 1 else ""
        return ending.removeprefix(FACTS_JOINT) if ending.startswith(FACTS_JOINT) else ""

    @cached_property
    def text(self) -> str:
        """Return the whole text, without what several chunks repeat, and with the facts at its end."""
        if not self.vectors:
            return ""
        text = "".join(pieces(self.vectors, len(FACTS_JOINT + self.facts) if self.facts else 0))
        return f"{text}{FACTS_JOINT}{self.facts}" if self.facts else text


async def read(document: Document) -> StoredDocument:
    """Read a document, which comes with its collection. It has no chunks if the store has lost it. Raise ApiError."""
    store = await get_store(document.collection.store)
    try:
        vectors = await call_store(store, vectors_of, store, document)
    except CollectionNotFound:  # deleted in the store, but not yet in our records
        vectors = []
    return StoredDocument(sorted(vectors, key=lambda vector: int_or(vector.metadata.get("chunk_index"), 0)))


def vectors_of(store: VectorStore, document: Document) -> list[Vector]:
    """Return the chunks of the document in any order."""
    return list(store.scan(document.collection.name, document.namespace, document.parent_vector_id))


def parent_id_of(vector_id: str, metadata: Mapping[str, object]) -> str:
    """Return the id of the document from the id of one of its chunks: see NewDocument.vector_id()."""
    return vector_id.rpartition("_chunk_")[0] if int_or(metadata.get("total_chunks"), 1) > 1 else vector_id


def span(vector: Vector) -> tuple[int, int]:
    """Return the characters of the original text, from and to, that the chunk contains."""
    start = int_or(vector.metadata.get("char_start"), 0)
    return start, int_or(vector.metadata.get("char_end"), start + len(vector.text))


def pieces(vectors: Sequence[Vector], repeated: int) -> Iterator[str]:
    """Yield what each chunk adds to the text. `repeated` is how many characters at the end of each chunk are facts."""
    text = above = ""
    done = 0  # characters of the original text
    for vector in vectors:
        start, end = span(vector)
        own = vector.text[: len(vector.text) - repeated]
        if header := header_of(own) if len(own) > end - start else "":  # not counted in the span: see cut_table()
            own, start = (own.removeprefix(header), start) if header in above else (own, start - len(header))
        overlap = done - start
        if not text:
            added = own
        elif overlap > 0:
            tail = text[-overlap:]
            added = own[overlap:] if own[:overlap] == tail[: len(own)] else f"\n\n{own}"
        else:  # chunks that were cut by structure lack the white space around them
            added = "\n" * min(-overlap, 2) + own
        text += added
        done = max(done, start + len(own))
        above = vector.text
        yield added


def header_of(chunk: str) -> str:
    """Return the header rows of the table with which the chunk begins; "" if it does not."""
    table = next(iter(tables_in(chunk)), None)
    return chunk[: table.body] if table and table.start == 0 else ""
