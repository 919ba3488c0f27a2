"""All vector stores by slug, their credentials and their drivers."""

from puffer.runtime import LiveCache
from vectorstores.base import StoreSettings, VectorStore
from vectorstores.models import StoreConfig
from vectorstores.stores.chroma import Chroma
from vectorstores.stores.local.driver import Local
from vectorstores.stores.pinecone import Pinecone
from vectorstores.stores.qdrant import Qdrant

# In the order in which enums and the admin list them.
STORES: dict[str, type[VectorStore]] = {store.slug: store for store in (Pinecone, Qdrant, Chroma, Local)}

_drivers: dict[str, VectorStore] = {}


async def _read_config(slug: str) -> StoreConfig:
    return await StoreConfig.objects.filter(slug=slug).afirst() or StoreConfig(slug=slug)


configs = LiveCache(_read_config)


def settings_of(config: StoreConfig) -> StoreSettings:
    """Return the saved settings; where a field is empty, those of the environment, then the vendor's address."""
    environment = config.environment
    return StoreSettings(
        api_key=(config.api_key or environment.get("api_key", "")).strip(),
        base_url=config.base_url or environment.get("base_url", "") or STORES[config.slug].default_base_url,
        tenant=config.tenant or environment.get("tenant", ""),
        database=config.database or environment.get("database", ""),
    )


async def get_store(slug: str) -> VectorStore:
    """Return the configured driver. Raise StoreNotConfigured."""
    config = await configs.get(slug)
    assert config is not None
    return store_for(slug, settings_of(config))


def store_for(slug: str, wanted: StoreSettings) -> VectorStore:
    """Return a driver with these settings: the previous one while the settings are the same."""
    driver = _drivers.get(slug)
    if driver is None or driver.settings != wanted:
        driver = _drivers[slug] = STORES[slug](wanted)
    return driver
