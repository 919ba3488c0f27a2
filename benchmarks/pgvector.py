"""Compare imports into PostgreSQL with pgvector and into SQLite: python benchmarks/pgvector.py

    rows in a file -> manage.py import_vectors, in its own process -> SQLite, PostgreSQL with pgvector, in turn
    more rows -> the same collections, which have their indexes by now
    questions -> both

Embeddings come from a server that answers instantly, and all of them differ. PostgreSQL is that of the package pgserver
(a development requirement), with its default settings.
"""

import argparse
import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from import_vectors import REPOSITORY, instant_server, measure, own_process, rows

QUESTIONS = """
import json, time
import numpy as np
from vectorstores.base import Query, StoreSettings
from vectorstores.stores.local.driver import Local

store = Local(StoreSettings())
stored = np.stack([vector.values for vector in store.scan("kb")])
ids = [vector.id for vector in store.scan("kb")]
rng = np.random.default_rng(9)
seconds, recalls = [], []
for number in range(41):
    values = stored[rng.integers(len(stored))] + 0.02 * rng.normal(size=stored.shape[1])
    exact = {ids[at] for at in np.argsort(-(stored @ values))[:10]}
    begin = time.perf_counter()
    matches = store.query("kb", Query(values.astype(np.float32), 10))
    seconds.append(time.perf_counter() - begin)
    recalls.append(len(exact & {match.id for match in matches}) / 10)
print(json.dumps({"ms": 1000 * float(np.median(seconds[1:])), "recall": sum(recalls) / len(recalls)}))
"""


@contextmanager
def postgresql():
    """Start a PostgreSQL with pgvector, and yield the URL of its server."""
    package = importlib.util.find_spec("pgserver")
    if package is None:
        sys.exit("The package pgserver is not installed: pip install -r requirements-dev.lock")
    programs = Path(package.submodule_search_locations[0], "pginstall", "bin")
    folder = Path(tempfile.mkdtemp(prefix="puffer-postgres-"))
    options = {"stdout": subprocess.DEVNULL, "check": True}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "nobody")
        options |= {"user": "nobody", "cwd": "/"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = ["-D", folder / "data"]
    try:
        subprocess.run(
            [programs / "initdb", *data, "--auth=trust", "--username=postgres", "--encoding=UTF8"], **options
        )
        settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        start = ["start", "--wait", "--log", folder / "log", "-o", settings]
        subprocess.run([programs / "pg_ctl", *data, *start], **options)
        yield f"postgres://postgres@127.0.0.1:{port}"
        subprocess.run([programs / "pg_ctl", *data, "stop", "--mode=fast"], **options)
    finally:
        shutil.rmtree(folder)


class Checkout:
    """A checkout of puffer, this one or one to compare it with, on one database."""

    def __init__(self, folder, database_url, port):
        self.folder = folder
        self.environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {
            "PUFFER_ENV_FILE": "/nonexistent",
            "SECRET_KEY": "x",
            "OPENAI_API_KEY": "sk-benchmark",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "DATABASE_URL": database_url,
        }
        self.manage("migrate", "-v0")

    def manage(self, *arguments):
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, check=True, stdout=subprocess.PIPE)
        return done.stdout.decode()

    def imports(self, source):
        """Return the seconds of an import, with the time to build the index."""
        model = ["--embedding-provider=openai", "--embedding-model=m"]
        command = [sys.executable, "manage.py", "import_vectors", source, "--target=kb", *model, "--json"]
        return measure(command, self.environment, self.folder).seconds

    def asks(self):
        return json.loads(self.manage("shell", "--no-imports", "-c", QUESTIONS).splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--more", type=int, default=10_000, help="rows of the second import")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkout", type=Path, default=REPOSITORY, help="measure this checkout of puffer")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(prefix="puffer-pgvector-") as folder, postgresql() as server:
        scratch = Path(folder)
        sources = scratch / "rows.jsonl", scratch / "more.jsonl"
        for source, count, start in ((sources[0], options.rows, 0), (sources[1], options.more, options.rows)):
            source.write_text("".join(json.dumps(row) + "\n" for row in rows(count, start)))
        instant = subprocess.Popen(own_process(instant_server, "clustered"), stdout=subprocess.PIPE, text=True)
        try:
            port = int(instant.stdout.readline())
            for turn in range(options.rounds):
                for name, url in (
                    ("SQLite", f"sqlite:///{scratch}/{turn}.sqlite3"),
                    ("pgvector", f"{server}/benchmark_{turn}"),
                ):
                    print(f"round {turn + 1}: {name}", file=sys.stderr)
                    if name == "pgvector":
                        create_database(server, f"benchmark_{turn}")
                    checkout = Checkout(options.checkout, url, port)
                    found.setdefault(name, []).append(
                        {
                            "first": options.rows / checkout.imports(sources[0]),
                            "second": options.more / checkout.imports(sources[1]),
                            **checkout.asks(),
                        }
                    )
        finally:
            instant.terminate()
            instant.wait()
            instant.stdout.close()
    print_table(found, options)


def create_database(server, name):
    import psycopg

    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")


def print_table(found, options):
    print(f"{options.rows:,} rows of 384 dimensions, then {options.more:,} more: median (minimum to maximum)\n")
    print("| | SQLite | pgvector | pgvector / SQLite |\n| --- | ---: | ---: | ---: |")
    for name, key, form in (
        ("first import, rows/s", "first", ",.0f"),
        ("second import, rows/s", "second", ",.0f"),
        ("search afterwards, ms", "ms", ".1f"),
        ("recall of the 10 nearest", "recall", ".3f"),
    ):
        cells, medians = [], []
        for rounds in found.values():
            each = [one[key] for one in rounds]
            medians.append(statistics.median(each))
            cells.append(f"{medians[-1]:{form}} ({min(each):{form}} to {max(each):{form}})")
        ratios = [there[key] / here[key] for here, there in zip(*found.values(), strict=True)]
        print(f"| {name} | {' | '.join(cells)} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
