"""Measure how well chatbots find the answers of labeled conversations: python benchmarks/conversations.py

a shop's pages in eight languages -> import_vectors with the bundled model -> the questions of a turn -> retrieve() with
a chatbot's defaults -> tables

A passage is right if it contains the label's answer. Nothing is asked of a completion model. Every run prints the same
tables.
"""

import json
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean

HERE = Path(__file__).resolve().parent
LABELS = HERE / "conversations.json"
TARGET = "shop"
DEPTH = 3  # a chatbot's default number of passages
GROUPS = ("conversations", "single", "codes", "words")


def main():
    with tempfile.TemporaryDirectory(prefix="puffer-conversations-") as scratch:
        os.environ |= {
            "DATABASE_URL": f"sqlite:///{scratch}/benchmark.sqlite3",
            "DJANGO_SETTINGS_MODULE": "puffer.settings",
            "SECRET_KEY": "x",
            "PUFFER_ENV_FILE": "/nonexistent",
        }
        sys.path.insert(0, str(HERE.parent))
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        from providers.bundled_model import bundled_model
        from providers.run_async import run_async

        call_command("migrate", verbosity=0)
        with bundled_model():
            call_command("import_vectors", str(HERE / "conversations"), target=TARGET, embedding_provider="local")
            run_async(measure)
        connections.close_all()


async def measure():
    from chatbots.conversation.search_questions import search_questions

    labels = json.loads(LABELS.read_text(encoding="utf-8"))
    ways = {"latest message alone": lambda history, question: [question], "with its context": search_questions}
    for group in GROUPS:
        places = defaultdict(list)
        for label in labels[group]:
            *history, latest = label.get("messages") or [{"role": "user", "content": label["question"]}]
            for way, questions in ways.items():
                if way == "latest message alone" or group == "conversations":
                    found = await passages_for(questions(history, latest["content"]))
                    place = place_of(label["answer"], found)
                    for kind in {"all", label.get("kind") or label.get("form") or "all"}:
                        places[way, kind].append(place)
                    if place is None and "--misses" in sys.argv:
                        print(f"{group}, {way}: {latest['content']} {[passage.title for passage in found]}")
        print_table(group, places)
    await print_refusals(labels)


async def passages_for(questions):
    from providers.local.engines import EMBEDDING_MODEL
    from vectorstores.retrieval import Knowledge, retrieve

    search = await retrieve(questions, Knowledge("local", [TARGET], "local", EMBEDDING_MODEL, top_k=DEPTH))
    return list(search.passages)


def place_of(answer, passages):
    """Return the place of the first passage with the answer, from 0; None if no passage has it."""
    answer = one_line(answer)
    return next((place for place, passage in enumerate(passages) if answer in one_line(passage.text)), None)


def one_line(text):
    return " ".join(text.split())


def print_table(group, places):
    print(f"\n| {group} | search | recall@1 | recall@{DEPTH} |\n| --- | --- | ---: | ---: |")
    for (way, kind), found in sorted(places.items(), key=lambda item: (item[0][1] != "all", item[0][1], item[0][0])):
        first, any_place = mean(place == 0 for place in found), mean(place is not None for place in found)
        print(f"| {kind} ({len(found)}) | {way} | {first:.2f} | {any_place:.2f} |")


async def print_refusals(labels):
    from chatbots.conversation.small_talk import is_small_talk

    kinds = defaultdict(list)
    for label in labels["unrelated"]:
        kinds[label["kind"]].append(not await passages_for([label["question"]]))
    print("\n| questions without an answer | no passage |\n| --- | ---: |")
    for kind, refused in sorted(kinds.items()):
        print(f"| {kind} ({len(refused)}) | {mean(refused):.2f} |")
    recognized = [is_small_talk(label["question"]) for label in labels["small_talk"]]
    print(f"\nSmall talk recognized: {sum(recognized)} of {len(recognized)}.")


if __name__ == "__main__":
    main()
