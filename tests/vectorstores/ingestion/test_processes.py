"""The local store in several processes on one database, like workers: writes are visible to all at once."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.support.installation import new_database
from tests.support.repository import ROOT

pytestmark = pytest.mark.slow


class Process:
    """A process that runs commands on the local store; see tests/support/stores/process.py."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.stores.process"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def begin(self, command: str, *arguments: Any) -> None:
        assert self.process.stdin
        print(json.dumps([command, *arguments]), file=self.process.stdin, flush=True)

    def result(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def __call__(self, command: str, *arguments: Any) -> Any:
        self.begin(command, *arguments)
        return self.result()

    def end(self) -> None:
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Yield three processes on a new database of the same kind as this run's."""
    with new_database(connection.vendor, tmp_path_factory.mktemp("processes")) as url:
        environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
        processes = [Process(environment) for _ in range(3)]
        yield processes
        for process in processes:
            process.end()


@pytest.fixture
def target(processes: list[Process]) -> str:
    name = f"kb-{uuid.uuid4().hex[:8]}"
    processes[0]("create", name)
    return name


def test_writes_are_visible_to_other_processes_at_once(processes, target):
    one, other, _ = processes
    assert other("texts", target) == []
    for at in range(20):
        one("replace", target, f"doc{at}", "old", 2)
        assert len(other("texts", target)) == 2 * (at + 1)
    one("replace", target, "doc3", "new", 5)
    for found in (other("texts", target), other("texts", target, "new doc3"), one("texts", target)):
        assert [text for text in found if text.startswith("doc3 ")] == ["doc3 new 5"] * 5
    other("delete", target, "doc3")
    assert not [text for text in one("texts", target, "new doc3") if text.startswith("doc3 ")]
    assert len(one("texts", target)) == 38


def test_other_processes_use_a_recreated_collection(processes, target):
    one, other, _ = processes
    one("replace", target, "doc", "old", 3)
    assert other("texts", target) == ["doc old 3"] * 3
    one("drop", target)
    one("create", target)
    one("replace", target, "doc", "new", 1)
    assert other("texts", target) == ["doc new 1"]


def test_concurrent_replacements_of_a_document_are_atomic(processes, target):
    one, other, reader = processes
    one("replace", target, "doc", "first", 2)
    one("replace", target, "neighbor", "first", 1)
    assert reader("texts", target) == ["doc first 2"] * 2 + ["neighbor first 1"]
    reader.begin("texts_until_the_last_round", target, 60)
    one.begin("replace_often", target, "doc", "one", 60)
    other.begin("replace_often", target, "doc", "other", 60)
    seen = reader.result()
    one.result(), other.result()
    for found in [*seen, one("texts", target), one("scanned", target)]:
        assert found[-1] == "neighbor first 1"
        versions = found[:-1]
        assert len(set(versions)) == 1, found  # never a mixture of two versions
        assert len(versions) == int(versions[0].rpartition(" ")[2])  # never an incomplete version
    assert len({tuple(found) for found in seen}) > 1  # the reader saw changes
    assert one("texts", target) == other("texts", target) == reader("texts", target)
