"""What a search for passages is given, and what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from vectorstores.base import Match

MAX_EXCERPT, MAX_DATE = 200, 40  # characters


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The collections to search, and how similar a passage must be. `threshold` is in percent: see least_cosine().

    `reranker` is the name of a Reranker; "" keeps the order of the search.
    """

    store: str
    collections: Sequence[str]
    embedding_provider: str
    embedding_model: str
    namespace: str = ""
    top_k: int = 3
    threshold: int = 20
    reranker: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that may answer the question. `score` is a cosine, -1 to 1."""

    collection: str
    match: Match

    @property
    def score(self) -> float:
        return self.match.score

    @property
    def text(self) -> str:
        return self.match.text

    @property
    def document_id(self) -> str:
        return str(self.match.metadata.get("parent_vector_id") or self.match.id)

    @property
    def headings(self) -> str:
        return str(self.match.metadata.get("headings") or "")

    @property
    def url(self) -> str:
        """Return the document's web address; "" if it has none."""
        named = (self.match.metadata.get(name) for name in ("url", "uri", "source"))
        return next((url for url in named if isinstance(url, str) and is_web_address(url)), "")

    @property
    def title(self) -> str:
        """Return the document's title, otherwise the first of its headings, otherwise its id."""
        title = self.match.metadata.get("title")
        return (title if isinstance(title, str) else "") or self.headings.partition(" > ")[0] or self.document_id

    @property
    def date(self) -> str:
        """Return the day of the document's last change as YYYY-MM-DD, or as its metadata writes it; "" if unknown."""
        named = (self.match.metadata.get(name) for name in ("date", "date_modified", "updated_at", "last_modified"))
        return next((date[:MAX_DATE] for date in named if isinstance(date, str) and date.strip()), "")

    @property
    def excerpt(self) -> str:
        """Return the start of the text on one line."""
        line = " ".join(self.text.split())
        return line if len(line) <= MAX_EXCERPT else line[:MAX_EXCERPT].rpartition(" ")[0] + " …"


@dataclass(frozen=True, slots=True)
class Reranking:
    """What became of the order of a search. `before` are the passages that the reranker got, in the search's order.

    `failure` says why that order was kept; "" if the reranker's order is used.
    """

    reranker: str
    before: Sequence[Passage]
    milliseconds: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    """The passages found for `questions`; `too_far` lack evidence. `least` is the cosine that is enough by itself.

    `reranking` is None without a reranker.
    """

    passages: Sequence[Passage]
    too_far: Sequence[Passage]
    least: float
    questions: Sequence[str] = ()
    reranking: Reranking | None = None


def is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
