"""Shared fixtures: an API client on the real ASGI application, one row of each kind, a stand-in for the providers."""

import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from chatbots.models import Chatbot
from puffer.models import ApiKey, Scope
from puffer.runtime.live_cache import invalidate_process
from tests.support.api import Api
from tests.support.installation import at_the_end, new_database
from tests.support.providers.answers import environment
from tests.support.upstream import Upstream, running
from tests.support.widget.browser import launched

# Fixtures that start processes once for a module.
STARTED_ONCE = {"server", "site", "started", "with_tables", "processes", "base_url"}


@pytest.fixture(autouse=True)
def clear_live_caches() -> Iterator[None]:
    """Clear the in-process caches after each test: they outlive the test's rolled-back rows."""
    yield
    invalidate_process()


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
    with running() as server:
        yield server


@pytest.fixture
def upstream(loopback_server: Upstream, settings: Settings) -> Upstream:
    """Return a server that plays every provider: it records the requests, and the test queues the answers."""
    loopback_server.forget()
    settings.PROVIDER_ENVIRONMENT = environment(loopback_server.url)
    return loopback_server


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | str], None]:
    """Return a function that sets the content of standard input."""

    def set_content(content: bytes | str) -> None:
        data = content.encode() if isinstance(content, str) else content
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return set_content


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of a new database for the processes that a test starts."""
    with new_database(request.param, tmp_path) as url:
        yield url


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Yield one Chromium for all tests; each test opens its own contexts."""
    with launched() as browser:
        yield browser


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run browser tests last, and keep the slow tests of a module that share processes on one worker.

    Once Playwright has started, its event loop runs until the session ends, so no other test may follow.
    """
    sizes = Counter(module_of(item) for item in items)
    items.sort(key=lambda item: -sizes[module_of(item)] if "browser" in fixtures_of(item) else -inf)
    for item in items:
        if item.get_closest_marker("slow") and STARTED_ONCE & fixtures_of(item):
            item.add_marker(pytest.mark.xdist_group(module_of(item)))


def module_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def fixtures_of(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


def pytest_sessionfinish() -> None:
    at_the_end.close()
