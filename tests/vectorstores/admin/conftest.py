"""A collection in Qdrant with documents."""

import pytest

from tests.support.knowledge.admin_pages import OPENING, RETURNS, SECRET
from vectorstores.models import Collection, StoreConfig
from vectorstores.registry import settings_of, store_for


@pytest.fixture
def qdrant(qdrant_server, settings) -> StoreConfig:
    """Save a key and a URL for Qdrant; no store is configured by the environment."""
    settings.VECTOR_STORE_ENVIRONMENT = {}
    config = StoreConfig.objects.get(slug="qdrant")
    config.api_key, config.base_url = SECRET, qdrant_server.url
    config.save()
    return config


@pytest.fixture
def upsert(api, openai):
    """Return a function that upserts texts through the API and returns their collection."""

    def upsert(*items, target="shop", provider="local", **changes):
        body = {"provider": provider, "target_id": target, "vectors": list(items), **changes}
        response = api.post(
            "/vector-stores/upsert", json={**body, "embedding_provider": "openai", "embedding_model": "emb-1"}
        )
        assert response.status_code == 200, response.text
        openai.sent.clear()
        return Collection.objects.get(store=provider, name=target)

    return upsert


@pytest.fixture
def qdrant_collection(qdrant, qdrant_server, upsert) -> Collection:
    """Return a collection in Qdrant with two documents."""
    store_for("qdrant", settings_of(qdrant)).create("faq", 64)
    collection = upsert(RETURNS, OPENING, target="faq", provider="qdrant")
    qdrant_server.sent.clear()
    return collection
