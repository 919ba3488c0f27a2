"""Compare queries of the local store with a numpy scan and Chroma's client: python benchmarks/retrieval.py

generated chunks and embeddings -> the local store, in its own database, and Chroma -> each question to each -> table

With `--database postgres://...`, it measures on that database, which must be empty.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from generated_logs import generated_word

HERE = Path(__file__).resolve().parent
DIMENSION = 384
TOP_K = 10
BATCH = 1000  # vectors per upsert
VOCABULARY = 60_000  # words; the n-th is about 1/n as frequent as the first (Zipf's law)
TOPICS = 1000  # cluster centers of the embeddings
QUESTION_WORDS = 9


class Chunks:
    """Generated texts and embeddings, the same in every run."""

    def __init__(self, count):
        self.random = np.random.default_rng(1)
        self.words = np.array([generated_word(number) for number in range(VOCABULARY)])
        frequencies = 1 / np.arange(1, VOCABULARY + 1) ** 1.05
        self.share = (frequencies / frequencies.sum()).cumsum()
        topics = self.random.standard_normal((TOPICS, DIMENSION), dtype=np.float32)
        self.values = topics[self.random.integers(TOPICS, size=count)]
        self.values += 0.7 * self.random.standard_normal((count, DIMENSION), dtype=np.float32)
        self.values /= np.linalg.norm(self.values, axis=1, keepdims=True)

    def text(self, words):
        at = np.searchsorted(self.share, self.random.random(words))
        return " ".join(self.words[np.minimum(at, VOCABULARY - 1)])

    def vectors(self, start, end):
        from vectorstores.base import Vector

        return [
            Vector(
                f"chunk-{number}",
                self.values[number],
                self.text(100),
                {
                    "parent_vector_id": f"document-{number // 10}",
                    "title": self.text(4),
                    "headings": " > ".join(self.text(4) for _ in range(2)),
                    "product": f"product {number % 100}",
                },
            )
            for number in range(start, end)
        ]

    def questions(self, count):
        """Return questions as (embedding near a chunk's, text)."""
        near = self.values[self.random.integers(len(self.values), size=count)]
        near = near + 0.03 * self.random.standard_normal(near.shape, dtype=np.float32)
        return [(values, self.text(QUESTION_WORDS)) for values in near]


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def seconds_of(call):
    begin = time.perf_counter()
    found = call()
    return time.perf_counter() - begin, found


def cpu_seconds_of(call):
    """Return the CPU seconds of this process's threads, which excludes PostgreSQL's, and the result of `call`."""
    begin = time.process_time()
    found = call()
    return time.process_time() - begin, found


def fill_chroma(chunks, folder):
    """Return a collection with all embeddings, or None if chromadb is not installed."""
    try:
        import chromadb
        from chromadb.config import Settings
    except ImportError:
        print("chromadb is not installed: Chroma is skipped.", file=sys.stderr)
        return None
    client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
    collection = client.create_collection("benchmark", configuration={"hnsw": {"space": "cosine"}})
    for start in range(0, len(chunks.values), BATCH):
        end = min(start + BATCH, len(chunks.values))
        ids = [f"chunk-{number}" for number in range(start, end)]
        collection.add(ids=ids, embeddings=chunks.values[start:end])
    return collection


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--database", help="default: SQLite in a temporary folder")
    parser.add_argument("--without-chroma", action="store_true", help="skip Chroma, whose index takes minutes to build")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="puffer-retrieval-") as scratch:
        os.environ["DATABASE_URL"] = options.database or f"sqlite:///{scratch}/benchmark.sqlite3"
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "puffer.settings",
            "SECRET_KEY": "x",
            "PUFFER_ENV_FILE": "/nonexistent",
        }
        sys.path.insert(0, str(HERE.parent))
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        measure(Chunks(options.vectors), options.questions, None if options.without_chroma else Path(scratch))
        from django.db import connections

        connections.close_all()


def measure(chunks, questions, chroma_folder):
    from vectorstores.base import Query, StoreSettings
    from vectorstores.models import Collection, LocalVector
    from vectorstores.stores.local.driver import Local

    count = len(chunks.values)
    store = Local(StoreSettings())
    store.create("benchmark", DIMENSION)
    collection = Collection.objects.get(store="local", name="benchmark")
    assert not LocalVector.objects.exists(), "the database is not empty"
    storing = 0.0
    for start in range(0, count, BATCH):
        vectors = chunks.vectors(start, min(start + BATCH, count))
        storing += seconds_of(lambda: store.replace("benchmark", vectors))[0]  # noqa: B023
    print(f"{count:,} vectors of {DIMENSION} dimensions, index {collection.index}: stored {count / storing:,.0f}/s")

    sample_questions = chunks.questions(questions)
    before = resident_mb()
    first, _ = seconds_of(lambda: store.query("benchmark", Query(sample_questions[0][0], TOP_K)))
    print(f"First query, which loads the table: {first:.2f} s, memory +{resident_mb() - before:.0f} MB")

    def scan(values):
        scores = chunks.values @ values
        best = np.argpartition(scores, -TOP_K)[-TOP_K:]
        return [f"chunk-{number}" for number in best[np.argsort(-scores[best])]]

    product = {"product": "product 7"}
    searches = {
        "vectors only": lambda values, text: store.query("benchmark", Query(values, TOP_K)),
        "keywords only": lambda values, text: keywords_only(collection, text),
        "hybrid": lambda values, text: store.query("benchmark", Query(values, TOP_K, text)),
        "hybrid, filter for 1 %": lambda values, text: store.query("benchmark", Query(values, TOP_K, text, product)),
        "numpy full scan, ids only": lambda values, text: scan(values),
    }
    chroma = None
    if chroma_folder:
        building, chroma = seconds_of(lambda: fill_chroma(chunks, chroma_folder))
    if chroma:
        print(f"Chroma: stored {count / building:,.0f}/s")
        searches["Chroma, vectors only, ids only"] = lambda values, text: chroma.query(
            query_embeddings=[values], n_results=TOP_K, include=["distances"]
        )["ids"][0]

    times, cpu_times = {search: [] for search in searches}, {search: [] for search in searches}
    hits = dict.fromkeys(("vectors only", "Chroma, vectors only, ids only"), 0)
    before = resident_mb()
    for values, text in sample_questions:
        nearest = set(scan(values))
        for search, ask in searches.items():
            elapsed, (busy, found) = seconds_of(lambda: cpu_seconds_of(lambda: ask(values, text)))  # noqa: B023
            times[search].append(elapsed * 1000)
            cpu_times[search].append(busy * 1000)
            if search in hits:
                hits[search] += len(nearest & {getattr(match, "id", match) for match in found})
    print(f"Memory during {questions} questions by each search: +{resident_mb() - before:.0f} MB")

    print(f"\n| {'search':30} | p50 ms | p95 ms | p50 CPU ms | recall@{TOP_K} |\n| --- | --- | --- | --- | --- |")
    for search, elapsed in times.items():
        share = f"{hits[search] / questions / TOP_K:.1%}" if search in hits else ""
        p50, p95, busy = np.median(elapsed), np.percentile(elapsed, 95), np.median(cpu_times[search])
        print(f"| {search:30} | {p50:6.1f} | {p95:6.1f} | {busy:10.1f} | {share:18} |")

    print("\nThe first query after writing 50 chunks, which reloads the changed rows:")
    for kind, numbers in (("new documents", count), ("replaced documents", 0)):
        elapsed = []
        for turn in range(10):
            values = chunks.values[: len(chunks.values)]
            new = [
                type(vector)(
                    f"{kind}-{vector.id}" if numbers else vector.id, vector.values, vector.text, vector.metadata
                )
                for vector in chunks.vectors(turn * 50, turn * 50 + 50)
            ]
            store.upsert("benchmark", new)
            elapsed.append(seconds_of(lambda: store.query("benchmark", Query(values[turn], TOP_K)))[0] * 1000)  # noqa: B023
        print(f"{kind}: p50 {np.median(elapsed):.1f} ms, maximum {max(elapsed):.1f} ms")


def keywords_only(collection, text):
    from vectorstores.word_index import keywords

    return keywords.search(collection, "", text, TOP_K)


if __name__ == "__main__":
    main()
