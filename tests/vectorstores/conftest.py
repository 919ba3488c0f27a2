"""The stores under test: a real Chroma server, doubles of Qdrant and Pinecone, and puffer's own database."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from tests.support.stores.canned import KEY, WIRES
from tests.support.stores.chroma import running_chroma
from tests.support.stores.place import DIMENSION, KEYS, Place
from tests.support.upstream import Upstream, embedding, running
from vectorstores.base import StoreSettings
from vectorstores.registry import STORES
from vectorstores.stores.local.driver import pgvector


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_chroma(tmp_path_factory.mktemp("chroma")) as url:
        yield url


@pytest.fixture
def pinecone_server() -> Iterator[Upstream]:
    from tests.support.stores.pinecone import PineconeOnLoopback

    with running(PineconeOnLoopback(KEYS["pinecone"])) as server:
        yield server


@pytest.fixture
def qdrant_server() -> Iterator[Upstream]:
    pytest.importorskip("qdrant_client", reason="qdrant-client, the engine of the double, is not installed")
    from tests.support.stores.qdrant import QdrantOnLoopback

    with running(QdrantOnLoopback(KEYS["qdrant"])) as server:
        yield server


@pytest.fixture
def model(upstream: Upstream) -> Upstream:
    """Return the embedding provider that imports use by default."""
    upstream.pages["/v1/embeddings"] = embedding()
    return upstream


@pytest.fixture(params=["pinecone", "qdrant", "chroma", "local", "local with pgvector"])
def place(request: pytest.FixtureRequest) -> Place:
    name = request.param
    slug = name.split()[0]
    server, url = None, ""
    if slug == "chroma":
        url = request.getfixturevalue("chroma_url")
    elif slug == "local":
        request.getfixturevalue("db")
        if name != slug and not pgvector.can_hold(DIMENSION):
            pytest.skip("this run's database is not PostgreSQL with pgvector: see test_pgvector.py")
    else:
        server = request.getfixturevalue(f"{slug}_server")
        url = server.url
    return Place(name, STORES[slug](StoreSettings(KEYS[slug], url)), server)


@pytest.fixture
def configured_place(place: Place, settings: Settings) -> Place:
    """Configure the place's store in the environment, so that the API uses it, and return the place."""
    if place.store.slug != "local":
        at = place.store.settings
        settings.VECTOR_STORE_ENVIRONMENT = {place.store.slug: {"api_key": at.api_key, "base_url": at.base_url}}
    return place


@pytest.fixture
def openai(upstream: Upstream) -> Upstream:
    """Return the embedding provider: texts with words in common get similar vectors."""
    upstream.pages["/v1/embeddings"] = embedding()
    return upstream


@pytest.fixture(params=WIRES)
def slug(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(slug: str, settings: Settings) -> Iterator[Upstream]:
    """Yield a server that plays the store and answers correctly until a test changes one of its pages."""
    with running() as server:
        for path, body in WIRES[slug].pages(server).items():
            server.serves(path, body)
        settings.VECTOR_STORE_ENVIRONMENT = {slug: {"api_key": KEY, "base_url": server.url}}
        yield server
