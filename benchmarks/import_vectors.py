"""Compare puffer's import with bulk inserts by the stores' own clients: python benchmarks/import_vectors.py

    rows in a file -> manage.py import_vectors, in its own process -> an instant store, SQLite, Chroma
    the same rows with the same precomputed vectors -> sqlite3's executemany; chromadb's HttpClient, same server

Embeddings come from a server that answers instantly. puffer's time includes work that the others do not do: reading
the file, the HTTP calls for embeddings, detecting unchanged rows, a record per document, the keyword index.
"""

import argparse
import asyncio
import json
import os
import random
import re
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DIMENSION = 384
BATCH = 250  # rows per upsert or transaction of the clients compared with puffer
DISTINCT_VECTORS = 64
START_TIMEOUT = 60  # seconds
WORDS = ("shoes", "rain", "leather", "sole", "winter", "return", "within", "days", "of", "the", "shop", "by", "for")
NUMBER = re.compile(r"Row (\d+)")


def rows(count, start=0):
    rng = random.Random(1)
    for number in range(start, start + count):
        text = f"Row {number}: {' '.join(rng.choices(WORDS, k=60))}"
        metadata = {"title": f"Title {number}", "url": f"https://shop.example/{number}"}
        yield {"id": f"row-{number}", "content": text, "metadata": metadata}


def sample_vectors():
    rng = random.Random(2)
    return [[round(rng.uniform(-1, 1), 6) for _ in range(DIMENSION)] for _ in range(DISTINCT_VECTORS)]


# Each of these functions runs in its own process, started as this file with the function's name.


def instant_server(kind="few"):
    """Serve embeddings in OpenAI's format and a Chroma that stores nothing, and print the port.

    The embeddings are those of sample_vectors(); of the kind "clustered", all of them differ, as those of real texts.
    """
    import numpy as np
    import orjson

    texts_of = [json.dumps(vector) for vector in sample_vectors()]
    centers = np.random.default_rng(3).normal(size=(200, DIMENSION))

    def vector_text(number):
        if kind == "few":
            return texts_of[number % DISTINCT_VECTORS]
        rng = np.random.default_rng(number)
        vector = centers[rng.integers(len(centers))] + 0.7 * rng.normal(size=DIMENSION)
        return orjson.dumps(vector.astype(np.float32), option=orjson.OPT_SERIALIZE_NUMPY).decode()

    collection = {"id": "c", "name": "kb", "dimension": DIMENSION, "configuration_json": {"hnsw": {"space": "cosine"}}}

    def answer(path, body):
        if path.endswith("/embeddings"):
            numbers = [int(found[1]) if (found := NUMBER.search(text)) else 0 for text in orjson.loads(body)["input"]]
            vectors = [vector_text(number) for number in numbers]
            data = ",".join(
                f'{{"object":"embedding","index":{at},"embedding":{vector}}}' for at, vector in enumerate(vectors)
            )
            return f'{{"object":"list","data":[{data}],"model":"m","usage":{{"prompt_tokens":7,"total_tokens":7}}}}'
        if path.endswith("/count"):
            return "0"
        if path.endswith("/get"):
            return '{"ids": [], "metadatas": []}'
        return "{}" if body else json.dumps([collection])

    async def serve(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                answer_bytes = answer(head.split(" ")[1].partition("?")[0], body).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(answer_bytes) + answer_bytes)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def forever():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(forever())


def sqlite_client(file, count):
    """Insert the same rows into one table with one index, a transaction per batch, as a lower bound."""
    import numpy as np

    vectors = [np.asarray(vector, "<f4").tobytes() for vector in sample_vectors()]
    records = [
        (row["id"], vectors[number % DISTINCT_VECTORS], row["content"], json.dumps(row["metadata"]))
        for number, row in enumerate(rows(int(count)))
    ]
    begin = time.perf_counter()
    database = sqlite3.connect(file)
    database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
    database.execute("CREATE TABLE vectors (id TEXT PRIMARY KEY, vector BLOB, content TEXT, metadata TEXT)")
    for at in range(0, len(records), BATCH):
        with database:
            database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", records[at : at + BATCH])
    print(json.dumps({"seconds": time.perf_counter() - begin}))
    database.close()


def chroma_client(port, name, count):
    import chromadb
    import numpy as np

    vectors = np.asarray(sample_vectors(), np.float32)
    client = chromadb.HttpClient("127.0.0.1", int(port))
    collection = client.create_collection(name, configuration={"hnsw": {"space": "cosine"}})
    records = list(rows(int(count)))
    begin = time.perf_counter()
    for at in range(0, len(records), BATCH):
        batch = records[at : at + BATCH]
        collection.upsert(
            ids=[row["id"] for row in batch],
            embeddings=vectors[[number % DISTINCT_VECTORS for number in range(at, at + len(batch))]],
            documents=[row["content"] for row in batch],
            metadatas=[row["metadata"] for row in batch],
        )
    print(json.dumps({"seconds": time.perf_counter() - begin}))


PROCESSES = {process.__name__: process for process in (instant_server, sqlite_client, chroma_client)}


@dataclass
class Measured:
    seconds: float
    cpu: float
    megabytes: float


def measure(command, environment=None, folder=REPOSITORY):
    """Run a process whose last line of output is JSON with its seconds, and return its cost."""
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    answer_bytes = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}")
    seconds = json.loads(answer_bytes.splitlines()[-1])["seconds"]
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def own_process(process, *arguments):
    return [sys.executable, __file__, process.__name__, *map(str, arguments)]


class Puffer:
    def __init__(self, scratch, instant_port, source):
        self.scratch, self.source = scratch, source
        self.rounds = 0
        self.environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {
            "PUFFER_ENV_FILE": "/nonexistent",
            "SECRET_KEY": "x",
            "OPENAI_API_KEY": "sk-benchmark",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{instant_port}/v1",
        }

    def imports(self, store, target, chroma_port=None):
        """Import the rows into a new database, and return the cost."""
        self.rounds += 1
        environment = self.environment | {"DATABASE_URL": f"sqlite:///{self.scratch}/puffer-{self.rounds}.sqlite3"}
        if chroma_port:
            environment["CHROMA_URL"] = f"http://127.0.0.1:{chroma_port}"
        manage = [sys.executable, "manage.py"]
        subprocess.run([*manage, "migrate", "-v0"], cwd=REPOSITORY, env=environment, check=True)
        model = ["--embedding-provider=openai", "--embedding-model=m"]
        return measure(
            [*manage, "import_vectors", self.source, f"--provider={store}", f"--target={target}", "--create", *model,
             "--json"],
            environment,
        )  # fmt: skip


def chroma_server(scratch):
    """Start a Chroma server and return (process, port), or None if chromadb is not installed."""
    command = Path(sys.executable).with_name("chroma")
    if not command.exists():
        print("chromadb is not installed: Chroma is skipped.", file=sys.stderr)
        return None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (scratch / "chroma.log").open("wb") as log:
        process = subprocess.Popen(
            [command, "run", "--path", scratch / "chroma", "--host", "127.0.0.1", "--port", str(port)],
            stdout=log, stderr=log,
        )  # fmt: skip
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit((scratch / "chroma.log").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="puffer-import-") as folder:
        scratch = Path(folder)
        source = scratch / "rows.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows(options.rows)))
        instant = subprocess.Popen(own_process(instant_server), stdout=subprocess.PIPE, text=True)
        instant_port = int(instant.stdout.readline())
        chroma = chroma_server(scratch)
        try:
            puffer = Puffer(scratch, instant_port, source)
            measured = {}
            for turn in range(options.rounds):
                for variant, run_import in variants(
                    puffer, scratch, instant_port, chroma and chroma[1], options.rows, turn
                ):
                    print(f"round {turn + 1}: {variant}", file=sys.stderr)
                    measured.setdefault(variant, []).append(run_import())
        finally:
            for process in (instant, chroma and chroma[0]):
                if process:
                    process.terminate()
                    process.wait()
            instant.stdout.close()
        print_table(measured, options.rows)


def variants(puffer, scratch, instant_port, chroma_port, count, turn):
    yield "puffer, instant store", lambda: puffer.imports("chroma", "kb", instant_port)
    yield "puffer, local store (SQLite)", lambda: puffer.imports("local", "kb")
    yield "sqlite3, executemany", lambda: measure(own_process(sqlite_client, scratch / f"floor-{turn}.sqlite3", count))
    if chroma_port:
        yield "puffer, Chroma", lambda: puffer.imports("chroma", f"puffer-{turn}", chroma_port)
        yield (
            "chromadb's client, Chroma",
            lambda: measure(own_process(chroma_client, chroma_port, f"client-{turn}", count)),
        )


def print_table(measured, count):
    print(f"{count:,} rows of {DIMENSION} dimensions: median (minimum to maximum)\n")
    print("| import | rows/s | CPU s | memory MB |\n| --- | --- | --- | --- |")
    rates = {}
    for variant, found in measured.items():
        each = [count / one.seconds for one in found]
        rates[variant] = statistics.median(each)
        cpu = statistics.median(one.cpu for one in found)
        memory = statistics.median(one.megabytes for one in found)
        print(
            f"| {variant} | {rates[variant]:,.0f} ({min(each):,.0f} to {max(each):,.0f}) | {cpu:.1f} | {memory:.0f} |"
        )
    print()
    for ours, theirs in (
        ("puffer, local store (SQLite)", "sqlite3, executemany"),
        ("puffer, Chroma", "chromadb's client, Chroma"),
    ):
        if ours in rates:
            print(f"{ours}: {rates[ours] / rates[theirs]:.2f} times the rate of {theirs}")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in PROCESSES:
        PROCESSES[sys.argv[1]](*sys.argv[2:])
    else:
        main()
