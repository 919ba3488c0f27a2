"""The stores to test against: a real Chroma server, doubles of Qdrant and Pinecone, and our own database."""

import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from pytest_django import Settings

from tests.support.stores.canned import KEY, WIRES
from tests.support.upstream import Upstream, embedding, running
from vectorstores import pgvector
from vectorstores.base import Metric, StoreSettings, VectorStore
from vectorstores.models import Collection
from vectorstores.registry import STORES

KEYS = {"pinecone": "pcsk_0123456789abcdef", "qdrant": "qd-0123456789abcdef", "chroma": "", "local": ""}
DIMENSION = 4
CHROMA_START = 30  # seconds


@dataclass
class Place:
    """A store that runs, and what cannot be seen from its driver."""

    name: str
    store: VectorStore
    server: Upstream | None = None

    def new_collection(self, metric: Metric = Metric.COSINE, dimension: int = DIMENSION) -> str:
        """Its name. By cosine it is made by the driver, by another metric as the store's own users make it."""
        target = f"kb-{uuid.uuid4().hex[:12]}"
        if metric is not Metric.COSINE:
            self.create_by_hand(target, metric, dimension)
        elif self.name == "local" and pgvector.can_hold(dimension):
            Collection.objects.create(store="local", name=target, dimension=dimension, index=Collection.Index.MATRIX)
        else:
            self.store.create(target, dimension)
        return target

    def create_by_hand(self, target: str, metric: Metric, dimension: int) -> None:
        dot = metric is Metric.DOT
        session: Any = self.store.session
        if self.name == "pinecone":
            body = {"name": target, "dimension": dimension, "metric": "dotproduct" if dot else "euclidean"}
            answer = session.call("POST", "/indexes", body)
        elif self.name == "qdrant":
            body = {"vectors": {"size": dimension, "distance": "Dot" if dot else "Euclid"}}
            answer = session.call("PUT", f"/collections/{target}", body)
        else:
            body = {"name": target, "configuration": {"hnsw": {"space": "ip" if dot else "l2"}}}
            answer = session.call("POST", "/collections", body)
        assert answer.status < 300, answer.body

    def delete_by_hand(self, target: str) -> None:
        if self.store.in_database:
            Collection.objects.filter(name=target).delete()
        else:
            path = {"pinecone": "/indexes", "qdrant": "/collections", "chroma": "/collections"}[self.name]
            assert self.store.session.call("DELETE", f"{path}/{target}").status < 300


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = Path(sys.executable).with_name("chroma")
    if not command.exists():
        pytest.skip("chromadb, whose server is tested against, is not installed")
    folder = tmp_path_factory.mktemp("chroma")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    arguments = [command, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log, subprocess.Popen(arguments, stdout=log, stderr=log) as server:
        try:
            deadline = time.monotonic() + CHROMA_START
            while not answers(f"{url}/api/v2/heartbeat"):
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "Chroma does not start"
                time.sleep(0.05)
            yield url
        finally:
            server.terminate()
    shutil.rmtree(folder)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


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
def in_environment(place: Place, settings: Settings) -> Place:
    """The place, as the API finds it."""
    if place.store.slug != "local":
        at = place.store.settings
        settings.VECTOR_STORE_ENVIRONMENT = {place.store.slug: {"api_key": at.api_key, "base_url": at.base_url}}
    return place


@pytest.fixture
def openai(upstream: Upstream) -> Upstream:
    """The provider of embeddings: texts that share words get vectors near each other."""
    upstream.pages["/v1/embeddings"] = embedding()
    return upstream


@pytest.fixture(params=WIRES)
def slug(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(slug: str, settings: Settings) -> Iterator[Upstream]:
    """The store, which does as it should until a test changes one of its pages."""
    with running() as server:
        for path, body in WIRES[slug].pages(server).items():
            server.serves(path, body)
        settings.VECTOR_STORE_ENVIRONMENT = {slug: {"api_key": KEY, "base_url": server.url}}
        yield server
