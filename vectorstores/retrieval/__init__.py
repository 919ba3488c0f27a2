"""Find the passages that may answer a question."""

from vectorstores.retrieval.evidence import least_cosine
from vectorstores.retrieval.passages import Knowledge, Passage, Reranking, Search, is_web_address
from vectorstores.retrieval.retrieve import retrieve

__all__ = ["Knowledge", "Passage", "Reranking", "Search", "is_web_address", "least_cosine", "retrieve"]
