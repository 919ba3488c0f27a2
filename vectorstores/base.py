"""The interface of a vector store, and the data types that go in and out. No vendor terms, no Django."""

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

# Every pair must match: the metadata has this value, or one of the values in the list.
Filter = Mapping[str, str | int | float | bool | Sequence[str | int | float | bool]]


class Metric(StrEnum):
    """The metric by which a collection compares vectors and orders matches. Scores are always cosines."""

    COSINE = "cosine"
    DOT = "dot product"
    EUCLIDEAN = "euclidean"


@dataclass(frozen=True, slots=True)
class Vector:
    """One chunk of a document with its embedding.

    In addition to what the document's owner gave, `metadata` contains parent_vector_id (the document's id), vector_id
    (the chunk's id), chunk_index, total_chunks, char_start, char_end and source.
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
    """A search. `text` is the question itself, for stores that also search by keywords."""

    values: Floats
    top_k: int
    text: str = ""
    filter: Filter = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """A stored chunk found by a query. `score` is the cosine of both embeddings, -1 to 1."""

    id: str
    score: float
    text: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A store's description of a collection. `dimension` is None until the first vector decides it."""

    name: str
    dimension: int | None
    metric: Metric
    count: int


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The address of a store and our credentials. Only Chroma has `tenant` and `database`."""

    api_key: str = field(default="", repr=False)
    base_url: str = ""
    tenant: str = ""
    database: str = ""


class VectorStore(ABC):
    """A driver, which translates between these data types and the protocol of one store.

    `target` names a collection (for Pinecone, an index). A namespace is a part of a collection; a store without
    namespaces ignores it, as AI Puffer does. Methods block: async code calls them through stores.threads.call_store().
    Every failure at the store is raised as an ApiError, such as CollectionNotFound or DimensionMismatch.
    """

    slug: ClassVar[str]
    label: ClassVar[str]
    default_base_url: ClassVar[str] = ""
    needs_api_key: ClassVar[bool] = False
    max_chunk_characters: ClassVar[int | None] = None
    keeps_lists: ClassVar[bool] = True  # metadata values may be lists of strings
    has_namespaces: ClassVar[bool] = False
    in_database: ClassVar[bool] = False  # stored in our own database, so calls need a thread that may use it

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings

    def load(self, target: str, namespace: str = "") -> None:  # noqa: B027  most stores keep nothing in this process
        """Prepare this process for queries. A collection that does not exist is ignored."""

    @abstractmethod
    def list_targets(self) -> list[str]:
        """Return the names of the collections, sorted."""

    @abstractmethod
    def describe(self, target: str) -> CollectionInfo: ...

    @abstractmethod
    def create(self, target: str, dimension: int) -> None:
        """Create an empty collection that compares by cosine, ready for use. Do nothing if the name exists."""

    @abstractmethod
    def upsert(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        """Store the vectors, each in place of an existing one with the same id."""

    @abstractmethod
    def delete_leftovers(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        """Delete the vectors of the same documents that are not among `vectors`."""

    @abstractmethod
    def delete_parents(self, target: str, parent_ids: Sequence[str], namespace: str = "") -> None:
        """Delete whole documents. Unknown ids are ignored."""

    @abstractmethod
    def query(self, target: str, query: Query, namespace: str = "") -> list[Match]:
        """Return at most `top_k` matches, best first."""

    @abstractmethod
    def scan(self, target: str, namespace: str = "", parent_id: str = "") -> Iterator[Vector]:
        """Yield all vectors of the collection, or of the document `parent_id`, in any order, read page by page."""

    def needs_index(self, target: str) -> bool:
        """Return whether an index has to be built before searches are fast again. Most stores do that by themselves."""
        return False

    def build_index(self, target: str) -> None:  # noqa: B027
        """Build that index. This may take minutes, but searches and other imports go on."""

    def replace(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        """Store whole documents in place of earlier versions, including longer ones."""
        self.upsert(target, vectors, namespace)
        self.delete_leftovers(target, vectors, namespace)
