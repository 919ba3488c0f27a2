"""Stored conversations, and a search without cached results."""

import pytest

from logs.search import query as search
from logs.search.indexer import index_batch
from logs.search.tables import SEARCHED
from tests.support.searched_conversations import CONTENTS, make_conversation


@pytest.fixture(params=["indexed", "added"])
def conversations(request, db):
    """Store a conversation for each of CONTENTS, with and without indexing it; return them by name."""
    conversations = {
        name: make_conversation("Hello.", content, conversation_uuid=name) for name, content in CONTENTS.items()
    }
    if request.param == "indexed":
        for searched in SEARCHED:
            index_batch(searched)
    return conversations


@pytest.fixture
def empty_cache(transactional_db):
    """Clear the cache of search results before and after a test that commits transactions."""
    search.forget()
    yield
    search.forget()
