"""The server that plays the providers, and all of them pointed at it."""

from collections.abc import Iterator

import pytest

from tests import providers_on_loopback
from tests.providers_on_loopback import Upstream


@pytest.fixture(scope="session")
def loopback_server() -> Iterator[Upstream]:
    with providers_on_loopback.running() as server:
        yield server


@pytest.fixture
def upstream(loopback_server: Upstream, settings: object) -> Upstream:
    """A provider for every slug. What it gets is in `sent`; what it says is up to the test."""
    loopback_server.forget()
    settings.PROVIDER_ENVIRONMENT = providers_on_loopback.environment(loopback_server.url)  # type: ignore[attr-defined]
    return loopback_server
