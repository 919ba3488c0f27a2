"""Measure searches of the local store while its documents are replaced: python benchmarks/replacing.py

generated chunks -> the local store -> a process that asks, first alone, then while this one replaces documents -> table

With `--database postgres://...`, it measures on that database, which must be empty.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from retrieval import BATCH, DIMENSION, TOP_K, Chunks, cpu_seconds_of, resident_mb, seconds_of

HERE = Path(__file__).resolve().parent
CHUNKS_PER_DOCUMENT = 10
REPLACE_EVERY = 0.3  # seconds
PAUSE = 0.02  # seconds between two questions, in which a chatbot would wait for its model


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=30, help="of each of the two phases")
    parser.add_argument("--database", help="default: SQLite in a temporary folder")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)  # the process that asks: a file of questions
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="puffer-replacing-") as scratch:
        if not options.ask:
            os.environ["DATABASE_URL"] = options.database or f"sqlite:///{scratch}/benchmark.sqlite3"
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "puffer.settings",
            "SECRET_KEY": "x",
            "PUFFER_ENV_FILE": "/nonexistent",
        }
        sys.path.insert(0, str(HERE.parent))
        import django

        django.setup()
        if options.ask:
            ask(np.load(options.ask, allow_pickle=True)["questions"], options.seconds)
        else:
            measure(Chunks(options.vectors), options.seconds, Path(scratch))
        from django.db import connections

        connections.close_all()


def measure(chunks, seconds, scratch):
    from django.core.management import call_command

    from vectorstores.base import StoreSettings
    from vectorstores.models import Collection
    from vectorstores.stores.local.driver import Local

    call_command("migrate", verbosity=0)
    store, count = Local(StoreSettings()), len(chunks.values)
    assert not Collection.objects.exists(), "the database is not empty"
    store.create("benchmark", DIMENSION)
    for start in range(0, count, BATCH):
        store.replace("benchmark", chunks.vectors(start, min(start + BATCH, count)))
    np.savez(scratch / "questions.npz", questions=np.array(chunks.questions(500), dtype=object))
    asker = subprocess.Popen(
        [sys.executable, __file__, "--ask", scratch / "questions.npz", "--seconds", str(seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    rows = [json.loads(asker.stdout.readline()) for _ in range(2)]
    begin, replacing = time.perf_counter(), []
    while time.perf_counter() < begin + seconds:
        at = CHUNKS_PER_DOCUMENT * int(chunks.random.integers(count // CHUNKS_PER_DOCUMENT))
        vectors = chunks.vectors(at, at + CHUNKS_PER_DOCUMENT)
        replacing.append(seconds_of(lambda: store.replace("benchmark", vectors))[0])  # noqa: B023
        time.sleep(max(0.0, REPLACE_EVERY - replacing[-1]))
    rows += [json.loads(line) for line in asker.communicate()[0].splitlines()]
    print(f"{count:,} vectors of {DIMENSION} dimensions, hybrid searches for {TOP_K} matches")
    print("\n| | searches | p50 ms | p95 ms | maximum ms | p50 CPU ms | memory MB | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, times, busy, memory, peak in rows:
        figures = f"{np.median(times):.1f} | {np.percentile(times, 95):.1f} | {max(times):.1f} | {np.median(busy):.1f}"
        print(f"| {name} | {len(times)} | {figures} | {memory:.0f} | {peak:.0f} |")
    took = 1000 * np.array(replacing)
    print(f"\n{len(took)} documents replaced: p50 {np.median(took):.1f} ms, maximum {max(took):.1f} ms")


def ask(questions, seconds):
    """Print a line of JSON per phase: its name, each search's time and CPU time in ms, and this process's memory."""
    from vectorstores.base import Query, StoreSettings
    from vectorstores.stores.local.driver import Local

    store = Local(StoreSettings())

    def phase(name, until):
        times, busy = [], []
        while not times or time.perf_counter() < until:
            values, text = questions[len(times) % len(questions)]
            query = Query(values, TOP_K, text)
            elapsed, (cpu, _) = seconds_of(lambda: cpu_seconds_of(lambda: store.query("benchmark", query)))  # noqa: B023
            times.append(1000 * elapsed)
            busy.append(1000 * cpu)
            time.sleep(PAUSE)
        print(json.dumps([name, times, busy, resident_mb(), peak_mb()]), flush=True)

    phase("first search, which loads the vectors", 0)
    phase("idle", time.perf_counter() + seconds)
    phase(f"one document replaced each {REPLACE_EVERY} s", time.perf_counter() + seconds)


def peak_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    main()
