"""Refreshes as processes of their own: killed at any point they resume, and a large site needs little memory."""

import json
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from django.db import connection

from tests.support.installation import Installation, wait_until
from tests.support.knowledge.website import Website, running_website
from tests.support.upstream import Upstream, embedding, running

pytestmark = pytest.mark.slow

CREATE = """
from vectorstores.models import Source
source = Source.objects.create(
    kind="site", address="{url}/", store="local", target="kb", embedding_provider="openai", embedding_model="emb-1",
    schedule="off", is_approved=True,
)
"""
WITH_SHORT_PAUSES = """
from django.core.management import call_command
from vectorstores.sources import sitemap
sitemap.DELAY = 0.02
call_command("refresh_sources")
"""
WITHOUT_PAUSES = """
import json, re
from django.core.management import call_command
from vectorstores.sources import sitemap
sitemap.DELAY = 0
call_command("refresh_sources", json=True)
print(json.dumps({"peak": int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024}))
"""
MEGABYTES = 200
PAGES = 500


@pytest.fixture
def site() -> Iterator[Website]:
    with running_website() as site:
        yield site


@pytest.fixture
def provider() -> Iterator[Upstream]:
    with running() as provider:
        provider.pages["/v1/embeddings"] = embedding()
        yield provider


@pytest.fixture
def installation(tmp_path, site, provider) -> Iterator[Installation]:
    """Yield an installation with a source of the site, on a database of the kind of this run."""
    variables = {
        "PRIVATE_HOST_ALLOWLIST": site.host,
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": f"{provider.url}/v1",
    }
    with Installation.new(tmp_path, connection.vendor, **variables) as installation:
        installation.python(CREATE.format(url=site.url))
        yield installation


def embedded(provider: Upstream) -> Counter[str]:
    return Counter(text for sent in provider.sent for text in sent.json["input"])


def stored(installation: Installation) -> tuple[int, int, int]:
    """Return the counts of vectors, of distinct vectors, and of stored pages."""
    ((vectors, distinct),) = installation.rows(
        "SELECT count(*), count(DISTINCT parent_vector_id) FROM vectorstores_localvector"
    )
    return (
        vectors,
        distinct,
        installation.value("SELECT count(*) FROM vectorstores_sourcepage WHERE state = 'stored' AND documents = 1"),
    )


def test_a_refresh_that_is_killed_at_five_points_resumes(installation, site, provider):
    names = [f"page{number:03}" for number in range(110)]
    site.serve(**{name: f"This is the text of {name}." for name in names})
    site.map()
    seen = lambda path: any(request.path == path for request in site.requests)  # noqa: E731

    def rows(table: str) -> int:
        return int(installation.value(f"SELECT count(*) FROM vectorstores_{table}"))

    points: list[Callable[[], bool]] = [
        lambda: seen("/sitemap.xml"),
        lambda: seen("/page003"),
        lambda: bool(provider.sent),
        lambda: rows("document") >= 50,
        lambda: rows("document") >= 100,
    ]
    for is_reached in points:
        process = installation.start("shell", "--no-imports", "-c", WITH_SHORT_PAUSES)
        wait_until(is_reached)
        process.kill()
        process.wait()
        for table in ("source", "importrun"):  # what a minute does
            installation.rows(f"UPDATE vectorstores_{table} SET leased_until = '2020-01-01 00:00:00+00:00'")
    installation.python(WITH_SHORT_PAUSES)
    assert stored(installation) == (110, 110, 110)
    assert installation.rows("SELECT state, phase, run, new, failed FROM vectorstores_source") == [
        ("done", "", 1, 110, 0)
    ]
    read = Counter(request.path for request in site.requests)
    assert max(read[f"/{name}"] for name in names) <= 6
    assert sum(read[f"/{name}"] for name in names) < 110 + 5 * 50  # a kill loses a batch at most
    assert sum(embedded(provider).values()) <= 110 + 2 * 50
    provider.sent.clear(), site.requests.clear()
    installation.python(WITH_SHORT_PAUSES)
    assert installation.rows("SELECT state, unchanged FROM vectorstores_source") == [("done", 110)]
    assert not provider.sent
    assert {request.status for request in site.requests if request.path.startswith("/page")} == {304}


def test_a_large_site_with_10_changes(installation, site, provider):
    words = "Shoes may be returned within 45 days, if they were not worn outside. " * 40
    site.serve(**{f"page{number}": f"Number {number}. {words}" for number in range(PAGES)})
    site.map()
    first = refresh(installation)
    assert first[0]["new"] == PAGES
    assert stored(installation)[2] == PAGES
    for number in range(0, PAGES, PAGES // 10):
        site.serve(**{f"page{number}": f"Changed {number}. {words}"})
    provider.sent.clear(), site.requests.clear()
    second = refresh(installation)
    assert (second[0]["changed"], second[0]["unchanged"]) == (10, PAGES - 10)
    assert len({text[:30] for text in embedded(provider)}) >= 10
    assert all("Changed" in text or "Shoes" in text for text in embedded(provider))
    statuses = Counter(request.status for request in site.requests if request.path.startswith("/page"))
    assert statuses == {304: PAGES - 10, 200: 10}
    assert max(first[1]["peak"], second[1]["peak"]) < MEGABYTES


def refresh(installation: Installation) -> tuple[dict, dict]:
    """Refresh without pauses; return the result, and the peak of its memory in MB."""
    with (installation.folder / "out").open("w+") as out:
        process = installation.start("shell", "--no-imports", "-c", WITHOUT_PAUSES, stdout=out)
        assert process.wait(1200) == 0, installation.log_file.read_text()
        out.seek(0)
        results, memory = out.read().splitlines()
    return json.loads(results)[0], json.loads(memory)
