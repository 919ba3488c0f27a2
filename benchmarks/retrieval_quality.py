"""Measure how well retrieval finds the answers to labeled questions: python benchmarks/retrieval_quality.py

puffer's documents and Python's -> import_vectors with the bundled model -> each labeled question by vectors, by
keywords and hybrid -> tables

A chunk is relevant to a question if it contains the label's text. Every run prints the same tables. With
`--database postgres://...`, it measures on that database, which must be empty.
"""

import argparse
import json
import math
import os
import pydoc_data.topics
import re
import sys
import tempfile
from itertools import chain
from pathlib import Path
from statistics import mean, median, quantiles
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LABELS = HERE / "retrieval_questions.json"
TARGET = "quality"
DEPTH = 100  # matches per question
UNDERLINED = re.compile(r"^(\S.*)\n([*=\-~^])\2{2,}$", re.MULTILINE)
LEVELS = {"*": "#", "=": "##", "-": "###", "~": "####", "^": "#####"}
RANKED, RECALLED = 10, 5  # nDCG@10 and recall@5
TOP_K = 3  # a chatbot's default
THRESHOLDS = (0, 10, 20, 30, 40)  # percent; a chatbot's default is 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--database", help="default: SQLite in a temporary folder")
    parser.add_argument(
        "--misses", action="store_true", help="list the questions without an answer among the first five matches"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="puffer-quality-") as scratch:
        os.environ["DATABASE_URL"] = options.database or f"sqlite:///{scratch}/benchmark.sqlite3"
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "puffer.settings",
            "SECRET_KEY": "x",
            "PUFFER_ENV_FILE": "/nonexistent",
        }
        sys.path.insert(0, str(ROOT))
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        from providers.bundled_model import bundled_model

        call_command("migrate", verbosity=0)
        python = Path(scratch) / "python"
        write_python_documents(python)
        sources = [str(path) for path in (*sorted(ROOT.glob("*.md")), ROOT / "docs", python)]
        with bundled_model():
            call_command("import_vectors", *sources, target=TARGET, embedding_provider="local")
            measure(json.loads(LABELS.read_text(encoding="utf-8")), options.misses)
        connections.close_all()


def write_python_documents(folder):
    """Write Python's language reference as Markdown files, without topics that are contained in another."""
    topics = {name: UNDERLINED.sub(as_heading, text) for name, text in pydoc_data.topics.topics.items()}
    plain = {name: one_line(text.replace("#", "")) for name, text in topics.items()}
    folder.mkdir()
    for name, text in topics.items():
        body = plain[name][len(plain[name]) // 4 :]  # skips the introduction, which may differ there
        if not any(body in other for other_name, other in plain.items() if other_name != name):
            (folder / f"{name}.md").write_text(text, encoding="utf-8")


def as_heading(match):
    return f"{LEVELS[match[2]]} {match[1]}"


def one_line(text):
    return re.sub(r"\s+", " ", text)


def measure(labels, with_misses):
    from vectorstores.base import StoreSettings
    from vectorstores.models import Collection, LocalVector
    from vectorstores.registry import store_for

    store, collection = store_for("local", StoreSettings()), Collection.objects.get(store="local", name=TARGET)
    chunks = {chunk.vector_id: chunk for chunk in LocalVector.objects.all()}
    texts = {key: one_line(chunk.text) for key, chunk in chunks.items()}
    unrelated = labels.pop("unrelated")
    labeled = []
    for corpus, entries in labels.items():
        for label in entries:
            relevant = {key for key, text in texts.items() if one_line(label["answer"]) in text}
            if relevant:
                labeled.append((corpus, label["question"], relevant))
            else:  # the wording differs between Python versions
                print(f"Skipped, because no chunk contains its answer: {label}", file=sys.stderr)
    embeddings = embed_all([question for _, question, _ in labeled] + unrelated)

    searches = {
        "vectors": lambda embedding, question: by_embedding(store, embedding, ""),
        "keywords": lambda embedding, question: by_keywords(collection, question),
        "hybrid": lambda embedding, question: by_embedding(store, embedding, question),
    }
    scores = []
    for embedding, (_, question, relevant) in zip(embeddings, labeled, strict=False):
        found = {search: ask(embedding, question) for search, ask in searches.items()}
        scores.append(
            {search: scores_of([match.id for match in matches], relevant) for search, matches in found.items()}
        )
        if with_misses and not scores[-1]["hybrid"].recall:
            print(f"Not among the first {RECALLED}: {question} {sorted(relevant)}", file=sys.stderr)

    print(f"{len(chunks)} chunks, {len(labeled)} questions\n")
    print("| questions | search | nDCG@10 | recall@5 | MRR | nDCG@10 compared with vectors |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for corpus in labels:
        print_rows(corpus, [score for score, label in zip(scores, labeled, strict=True) if label[0] == corpus])
    print_rows("overall", scores)
    print_rows("half A", scores[::2])
    print_rows("half B", scores[1::2])
    print_threshold(store, embeddings, labeled, unrelated)


def embed_all(questions):
    import numpy as np

    from providers.base import EmbeddingRequest
    from providers.local.engines import EMBEDDING_MODEL
    from providers.run_async import run_async
    from providers.use_cases.embeddings import embed

    request = EmbeddingRequest(model=EMBEDDING_MODEL, texts=questions, task_type="RETRIEVAL_QUERY")
    return np.asarray(run_async(lambda: embed(None, "local", request)).vectors, np.float32)


def by_embedding(store, embedding, text, top_k=DEPTH):
    from vectorstores.base import Query

    return store.query(TARGET, Query(embedding, top_k, text))


def by_keywords(collection, question):
    from vectorstores.base import Match
    from vectorstores.models import LocalVector
    from vectorstores.word_index import keywords

    keys = [key for key, _ in keywords.search(collection, "", question, DEPTH)]
    rows = LocalVector.objects.in_bulk(keys)
    return [Match(rows[key].vector_id, 0.0, rows[key].text, rows[key].metadata) for key in keys]


class Scores(NamedTuple):
    ndcg: float
    recall: float
    reciprocal_rank: float


def scores_of(ids, relevant):
    ranks = [rank for rank, vector_id in enumerate(ids, 1) if vector_id in relevant]
    gain = sum(1 / math.log2(rank + 1) for rank in ranks if rank <= RANKED)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), RANKED) + 1))
    recalled = sum(rank <= RECALLED for rank in ranks)
    return Scores(gain / ideal, recalled / len(relevant), 1 / ranks[0] if ranks else 0.0)


def print_rows(name, scores):
    base = mean(score["vectors"].ndcg for score in scores)
    for search in scores[0]:
        ndcg, recall, rank = (mean(numbers) for numbers in zip(*(score[search] for score in scores), strict=True))
        gain_over_vectors = f"{ndcg / base - 1:+.1%}"
        print(f"| {name} ({len(scores)}) | {search} | {ndcg:.3f} | {recall:.3f} | {rank:.3f} | {gain_over_vectors} |")


def print_threshold(store, embeddings, labeled, unrelated):
    """Print which share of a chatbot's passages each threshold keeps and drops."""
    from providers.local.engines import EMBEDDING_MODEL
    from vectorstores.retrieval import least_cosine

    right, others = [], []  # cosines
    for embedding, (_, question, relevant) in zip(embeddings, labeled, strict=False):
        matches = by_embedding(store, embedding, question, TOP_K)
        right += [match.score for match in matches if match.id in relevant]
    for embedding, question in zip(embeddings[len(labeled) :], unrelated, strict=True):
        others.append([match.score for match in by_embedding(store, embedding, question, TOP_K)])
    print(f"\nCosines of {len(right)} passages with the answer, among the first {TOP_K}: {spread(right)}")
    print(
        f"Cosines of the first {TOP_K} passages of {len(unrelated)} unrelated questions: {spread([*chain(*others)])}\n"
    )
    print(
        "| threshold | minimum cosine | passages with the answer: kept | unrelated passages: dropped "
        "| unrelated questions without passages |"
    )
    print("| ---: | ---: | ---: | ---: | ---: |")
    for threshold in THRESHOLDS:
        minimum = least_cosine(EMBEDDING_MODEL, threshold)
        kept = mean(cosine >= minimum for cosine in right)
        dropped = mean(cosine < minimum for cosines in others for cosine in cosines)
        without = mean(max(cosines) < minimum for cosines in others)
        print(f"| {threshold} % | {minimum:.3f} | {kept:.0%} | {dropped:.0%} | {without:.0%} |")


def spread(cosines):
    tenth, *_, ninetieth = quantiles(cosines, n=10)
    return f"10th percentile {tenth:.3f}, median {median(cosines):.3f}, 90th percentile {ninetieth:.3f}"


if __name__ == "__main__":
    main()
