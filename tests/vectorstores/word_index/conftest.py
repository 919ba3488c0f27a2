"""A collection in Pinecone, Qdrant or Chroma whose vectors find nothing that is asked for."""

import pytest

from tests.support.api import Api
from tests.support.stores.filled import DECOYS, Filled, misleading_embedding
from tests.support.stores.place import Place
from tests.support.upstream import Upstream


@pytest.fixture
def filled(api: Api, upstream: Upstream, configured_place: Place) -> Filled:
    """Return a collection with more decoys than a search takes from the store."""
    upstream.pages["/v1/embeddings"] = misleading_embedding
    filled = Filled(api, configured_place, configured_place.new_collection())
    filled.upsert(*DECOYS)
    return filled
