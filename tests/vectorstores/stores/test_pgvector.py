"""The local store on PostgreSQL with pgvector: its index, and the suites that run on this database again."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.support.repository import ROOT
from tests.support.stores.random_vectors import vectors
from vectorstores.base import Query, StoreSettings
from vectorstores.models import Collection
from vectorstores.stores.local.driver import Local, pgvector


@pytest.fixture
def store(db: None) -> Local:
    if not pgvector.can_hold(3):
        pytest.skip("this run's database is not PostgreSQL with pgvector; the last test of this file starts one")
    return Local(StoreSettings())


def pgvector_tables() -> set[str]:
    return {name for name in connection.introspection.table_names() if name.startswith("vectorstores_pgvector_")}


@pytest.mark.parametrize(
    ("dimension", "index"), [(3, "pgvector"), (2000, "pgvector"), (2001, "pgvector"), (16_001, "matrix")]
)
def test_the_dimension_determines_where_vectors_are(store, dimension, index):
    store.create("kb", dimension)
    assert Collection.objects.get(name="kb").index == index
    stored = vectors(5, dimension)
    store.upsert("kb", stored)
    assert store.query("kb", Query(stored[3].values, 1))[0].id == "doc-3"


def test_deleting_a_collection_drops_its_table(store):
    before = pgvector_tables()
    store.create("kb", 3)
    store.upsert("kb", vectors(5, 3))
    collection = Collection.objects.get(name="kb")
    store.delete_parents("kb", ["doc"])
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {collection.pgvector_table}")
        assert cursor.fetchone() == (0,)
    store.upsert("kb", vectors(5, 3))
    collection.delete()
    assert pgvector_tables() == before
    for name in ("a", "b"):
        store.create(name, 3)
        store.upsert(name, vectors(5, 3))
    assert len(pgvector_tables()) == len(before) + 2
    Collection.objects.filter(store="local").delete()
    assert pgvector_tables() == before


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """Start PostgreSQL 16 with pgvector from the package `pgserver`, and yield its URL."""
    package = importlib.util.find_spec("pgserver")
    if package is None:
        pytest.skip("the package pgserver, which contains PostgreSQL with pgvector, is not installed")
    programs = Path(package.submodule_search_locations[0], "pginstall", "bin")
    # PostgreSQL refuses to run as root.
    options: dict[str, Any] = {"user": "nobody", "cwd": "/"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="puffer-postgres-"))  # "nobody" cannot enter pytest's folders
    if options:
        shutil.chown(folder, "nobody")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, **options)

    try:
        try:
            run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync")
            settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
            run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "-o", settings)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = error.stderr.decode() if isinstance(error, subprocess.CalledProcessError) else error
            pytest.skip(f"pgserver's PostgreSQL does not start here: {reason}")
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"
        run("pg_ctl", "stop", "--mode=fast")
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_local_store_on_postgresql_with_pgvector(postgres_url):
    """Run the tests above, the local store's part of test_stores.py and test_processes.py again."""
    if connection.vendor == "postgresql":
        pytest.skip("this run is on PostgreSQL already")
    here = Path(__file__).parent
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider",
            "-k", "local or pgvector or processes",
            here / "test_stores.py", here / "test_pgvector.py", here / "test_pgvector_indexes.py",
            here.parent / "ingestion" / "test_processes.py",
        ],
        cwd=ROOT, env=os.environ | {"DATABASE_URL": postgres_url}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not PostgreSQL with pgvector" not in done.stdout
