"""The nouns of storing vectors, and what a store is. No vendor's words, no Django."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Value = str | int | float | bool | list[str]
Metadata = dict[str, Value]
Floats = NDArray[np.float32]

# Every one of its pairs must hold: the metadata has this value, or one of those in the list.
Filter = Mapping[str, str | int | float | bool | Sequence[str | int | float | bool]]


class Metric(StrEnum):
    """How a collection measures nearness. Scores are cosines whichever it is; its own order follows the metric."""

    COSINE = "cosine"
    DOT = "dot product"
    EUCLIDEAN = "euclidean"


@dataclass(frozen=True, slots=True)
class Vector:
    """One chunk of a document with its embedding.

    `metadata` holds, beside what the document's owner gave: parent_vector_id (which document it belongs to), vector_id
    (its own id once more), chunk_index, total_chunks, char_start, char_end and source.
    """

    id: str
    values: Floats
    text: str
    metadata: Metadata

    @property
    def parent_id(self) -> str:
        return str(self.metadata["parent_vector_id"])


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. `text` is the question itself, for stores that search by keywords too."""

    values: Floats
    top_k: int
    text: str = ""
    filter: Filter = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """A stored chunk that answers a query. `score` is the cosine of both embeddings, -1 to 1."""

    id: str
    score: float
    text: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a store tells of one of its collections. `dimension` is None while the first vector still decides it."""

    name: str
    dimension: int | None
    metric: Metric
    count: int


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where a store is and who we are there. `tenant` and `database` are Chroma's."""

    api_key: str = field(default="", repr=False)
    base_url: str = ""
    tenant: str = ""
    database: str = ""


class VectorStore(ABC):
    """A driver: our nouns to one store's wire, its answers to our nouns.

    `target` names a collection (Pinecone's index). A namespace is a part of one; a store without namespaces ignores
    it, as AI Puffer does. Methods block, so async code calls them through store_threads.run(). Each raises ApiError for
    whatever goes wrong at the store: CollectionNotFound, DimensionMismatch and others of store_errors.py.
    """

    slug: ClassVar[str]
    label: ClassVar[str]
    default_base_url: ClassVar[str] = ""
    needs_api_key: ClassVar[bool] = False
    max_chunk_characters: ClassVar[int | None] = None
    keeps_lists: ClassVar[bool] = True  # of strings, in metadata
    has_namespaces: ClassVar[bool] = False
    in_database: ClassVar[bool] = False  # ours: its methods need a thread that may use it

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings

    @abstractmethod
    def list_targets(self) -> list[str]:
        """The names of the collections, sorted."""

    @abstractmethod
    def describe(self, target: str) -> CollectionInfo: ...

    @abstractmethod
    def create(self, target: str, dimension: int) -> None:
        """An empty collection that measures by cosine, ready to be used. Does nothing if there is one of that name."""

    @abstractmethod
    def upsert(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        """Store them, each in place of one with the same id."""

    @abstractmethod
    def delete_leftovers(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        """Of the documents that `vectors` belong to, remove whatever is not among `vectors`."""

    @abstractmethod
    def delete_parents(self, target: str, parent_ids: Sequence[str], namespace: str = "") -> None:
        """Remove whole documents. Ids that are not there are no error."""

    @abstractmethod
    def query(self, target: str, query: Query, namespace: str = "") -> list[Match]:
        """At most `top_k` matches, the best first."""

    @abstractmethod
    def scan(self, target: str, namespace: str = "") -> Iterator[Vector]:
        """Every vector of the collection, in no certain order, read in pages."""

    def replace(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        """Store whole documents in place of earlier versions, also of longer ones."""
        self.upsert(target, vectors, namespace)
        self.delete_leftovers(target, vectors, namespace)
