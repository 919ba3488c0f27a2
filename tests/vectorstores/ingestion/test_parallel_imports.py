"""Imports of one source at the same time: they share the work, and a killed one blocks nobody for long."""

import json
import os
import signal
import threading
import time
from collections import Counter

import pytest

from tests.support.knowledge.importer import Importer, wait_for
from tests.support.knowledge.imports import sent_texts
from tests.support.upstream import fast_embedding, running
from vectorstores.ingestion.claims import LEASE_SECONDS

pytestmark = pytest.mark.slow

ROWS = 2000
MANY_ROWS = 10_000  # so many that both imports are under way when the first is killed


@pytest.fixture(params=["sqlite", "postgresql"])
def importer(request, tmp_path):
    """Return an installation whose embedding provider takes 20 ms, so that imports overlap."""

    def slow_embedding(connection):
        time.sleep(0.02)
        fast_embedding(connection)

    with running() as upstream:
        upstream.pages["/v1/embeddings"] = slow_embedding
        openai = {"OPENAI_API_KEY": "sk-0123456789", "OPENAI_BASE_URL": f"{upstream.url}/v1"}
        with Importer.new(tmp_path, request.param, **openai, PRIVATE_HOST_ALLOWLIST="127.0.0.1") as importer:
            importer.upstream = upstream
            yield importer


def embedded_twice(importer: Importer, rows: int = ROWS) -> int:
    """Return how many texts the provider was sent more often than necessary."""
    times = Counter(text for text in sent_texts(importer.upstream) if text != "dimension")
    assert len(times) == rows
    return sum(times.values()) - rows


def left_behind(importer: Importer) -> tuple[int, int]:
    return tuple(
        importer.value(f"SELECT count(*) FROM vectorstores_{table}") for table in ("importrun", "documentclaim")
    )


@pytest.mark.parametrize("imports", [2, 3])
def test_imports_of_one_file_at_once_share_the_work(importer, imports):
    source = importer.source(ROWS)
    started = [importer.start_import(source, name=str(at)) for at in range(imports)]
    summaries = [importer.finish(process, name=str(at)) for at, process in enumerate(started)]
    for summary in summaries:
        assert summary["documents"] + summary["unchanged"] == ROWS
    assert sum(summary["documents"] for summary in summaries) == ROWS + embedded_twice(importer)
    assert embedded_twice(importer) <= 0.05 * ROWS
    assert importer.counts() == (ROWS,) * 4
    assert left_behind(importer) == (0, 0)
    assert all(summary["documents"] for summary in summaries)


def test_the_other_import_finishes_the_work_of_a_killed_one(importer):
    source = importer.source(MANY_ROWS)
    first = importer.start_import(source, name="first")
    wait_for(lambda: len(importer.upstream.sent) >= 20)
    second = importer.start_import(source, name="second")
    wait_for(lambda: len(importer.upstream.sent) >= 120)
    os.kill(first.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    summary = importer.finish(second, name="second")
    assert time.monotonic() - killed_at < LEASE_SECONDS + 30
    assert summary["documents"] + summary["unchanged"] == MANY_ROWS
    assert importer.counts() == (MANY_ROWS,) * 4
    assert embedded_twice(importer, MANY_ROWS) <= 0.05 * MANY_ROWS  # what the first was working on
    errors = (importer.folder / "seconderr").read_text()
    assert "Another import is storing" in errors
    assert "Waiting for it." in errors
    importer.finish(importer.start_import(source))
    assert importer.counts() == (MANY_ROWS,) * 4


def test_a_changed_version_is_stored_after_the_one_that_is_under_way(importer):
    old, new = (importer.folder / f"{name}.jsonl" for name in ("old", "new"))
    for file, words in ((old, "An old text. " * 900), (new, "A new text.")):
        file.write_text("".join(json.dumps({"id": f"row-{at}", "content": words}) + "\n" for at in range(100)))
    release = threading.Event()
    answer = importer.upstream.pages["/v1/embeddings"]

    def wait_then_answer(connection):
        if b"old text" in connection.received.body:
            assert release.wait(60)
        answer(connection)

    importer.upstream.pages["/v1/embeddings"] = wait_then_answer
    first = importer.start_import(str(old), name="first")
    wait_for(lambda: any("old text" in text for text in sent_texts(importer.upstream)))
    second = importer.start_import(str(new), name="second")
    wait_for(lambda: "Another import" in (importer.folder / "seconderr").read_text())
    release.set()
    assert importer.finish(first, name="first")["documents"] == 100
    assert importer.finish(second, name="second")["documents"] == 100
    assert importer.counts() == (100,) * 4  # the old version had more chunks, which are deleted
    assert importer.value("SELECT count(*) FROM vectorstores_localvector WHERE text LIKE '%old%'") == 0
