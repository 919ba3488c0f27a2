"""A web site on loopback, a source of it, and the worker that refreshes sources."""

from collections.abc import Callable, Iterator

import pytest
from django.core.management import call_command

from tests.support.knowledge.website import Website, running_website
from vectorstores.models import Source
from vectorstores.sources import sitemap, web


@pytest.fixture
def site(settings, monkeypatch) -> Iterator[Website]:
    """Yield a site that is read without pauses. PRIVATE_HOST_ALLOWLIST names it."""
    with running_website() as site:
        settings.PRIVATE_HOST_ALLOWLIST = [site.host]
        monkeypatch.setattr(sitemap, "DELAY", 0.0)
        monkeypatch.setattr(web, "FIRST_WAIT", 0.0)
        yield site


@pytest.fixture(autouse=True)
def worker(model, settings) -> Callable[[], None]:
    """Return a function that runs `manage.py worker --once` for sources."""
    settings.WORKER_JOBS = ["vectorstores.refresh.worker.run_due"]
    settings.VECTOR_STORE_ENVIRONMENT = {}
    return lambda: call_command("worker", once=True)


@pytest.fixture
def add(site) -> Callable[..., Source]:
    """Return a function that adds a source of the site, by default the whole site, approved and without a schedule."""

    def add(address="/", kind="site", **changes) -> Source:
        place = {"store": "local", "target": "kb", "embedding_provider": "openai", "embedding_model": "emb-1"}
        address = f"{site.url}{address}" if kind != "folder" else address
        values = {**place, "schedule": "off", "is_approved": True, **changes}
        return Source.objects.create(kind=kind, address=address, **values)

    return add


@pytest.fixture
def refresh(worker) -> Callable[[Source], Source]:
    """Return a function that refreshes a source now, and returns it as it is then."""

    def refresh(source: Source) -> Source:
        source.refresh_from_db()
        source.refresh()
        worker()
        source.refresh_from_db()
        return source

    return refresh
