"""What tests share: an API client on the real ASGI application, one sensible row of each kind, and the providers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from asgiref.sync import async_to_sync
from pytest_django import Settings

from chatbots.models import Chatbot
from logs import usage
from providers import registry
from puffer.asgi import application
from puffer.fresh import forget
from puffer.models import ApiKey, Scope
from tests.support import upstream as providers
from tests.support.installation import empty_database
from tests.support.upstream import Upstream

BASE = "/wp-json/aipkit/v1"


class Api:
    """`api.post("/generate", json={...})`: a call of the ASGI application, with the key unless told otherwise."""

    def __init__(self, key: str) -> None:
        self.key = key

    def request(self, method: str, path: str, *, key: str | None = "", **options: Any) -> httpx2.Response:
        headers = dict(options.pop("headers", None) or {})
        key = self.key if key == "" else key
        if key:
            headers.setdefault("Authorization", f"Bearer {key}")
        url = path if path.startswith(("/wp-json", "/?", "http")) else BASE + path
        return async_to_sync(self._send)(method, url, headers=headers, **options)

    async def _send(self, method: str, url: str, **options: Any) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=application, raise_app_exceptions=True)
        try:
            async with httpx2.AsyncClient(transport=transport, base_url="http://testserver", timeout=60) as client:
                return await client.request(method, url, **options)
        finally:
            await usage.flush()
            await registry.close_clients()
            await asyncio.sleep(0)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("POST", path, **options)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Each test starts with the database's own truth: what workers keep in memory outlives a rolled-back row."""
    yield
    forget()


@pytest.fixture
def api_key(db: None) -> ApiKey:
    return ApiKey(name="tests", scopes=list(Scope.values))


@pytest.fixture
def api(api_key: ApiKey) -> Api:
    return Api(api_key.issue())


@pytest.fixture
def bot(db: None) -> Chatbot:
    return Chatbot.objects.create(
        name="Shop", provider="openai", model="gpt-4o-mini", instructions="Sell shoes.", status="published"
    )


@pytest.fixture(scope="session")
def loopback_server() -> Iterator[Upstream]:
    with providers.running() as server:
        yield server


@pytest.fixture
def upstream(loopback_server: Upstream, settings: Settings) -> Upstream:
    """Every provider. What they are sent is in `sent`; what they say is up to the test."""
    loopback_server.forget()
    settings.PROVIDER_ENVIRONMENT = providers.environment(loopback_server.url)
    return loopback_server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database for processes of a test's own."""
    with empty_database(request.param, tmp_path) as url:
        yield url
