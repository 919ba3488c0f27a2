"""Measure how well chatbots find the answers of labeled conversations: python benchmarks/conversations.py

a shop's pages in eight languages -> import_vectors with the bundled model -> the questions of a turn -> retrieve() with
a chatbot's defaults -> tables

A passage is right if it contains the label's answer. Last messages are searched for alone, with their context, and as
rewritten by hand, which shows what a good model can reach. Nothing is asked of a completion model, and every run prints
the same tables, unless a model is named: `--rewrite openai gpt-4.1-mini` also has that model rewrite the messages, with
the key and the address in the environment.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean, median

HERE = Path(__file__).resolve().parent
LABELS = HERE / "conversations.json"
TARGET = "shop"
DEPTH = 3  # a chatbot's default number of passages
GROUPS = ("conversations", "single", "codes", "words")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--misses", action="store_true", help="also print the questions whose answer is not found")
    parser.add_argument("--rewrite", nargs=2, metavar=("PROVIDER", "MODEL"), help="a model that rewrites the messages")
    options = parser.parse_args()
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
            run_async(lambda: measure(options))
        connections.close_all()


async def measure(options):
    labels = json.loads(LABELS.read_text(encoding="utf-8"))
    rewriter = Rewriter(*options.rewrite) if options.rewrite else None
    for group in GROUPS:
        places = defaultdict(list)
        for label in labels[group]:
            for way, questions in (await ways_of(label, rewriter)).items():
                found = await passages_for(questions)
                place = place_of(label["answer"], found)
                for kind in {"all", label.get("kind") or label.get("form") or "all"}:
                    places[way, kind].append(place)
                if place is None and options.misses:
                    print(f"{group}, {way}: {questions} {[passage.title for passage in found]}")
        print_table(group, places)
    if rewriter:
        rewriter.print_outcome()
    await print_refusals(labels)


async def ways_of(label, rewriter):
    """Return what is searched for, by the name of the way."""
    from chatbots.conversation.search_questions import search_questions

    if "messages" not in label:
        return {"the question": [label["question"]]}
    *history, latest = label["messages"]
    question = latest["content"]
    rewritten = label.get("rewritten", question)  # without one, the message needs no context
    ways = {
        "latest message alone": [question],
        "with its context": search_questions(history, question),
        "rewritten by hand": list(dict.fromkeys([question, rewritten])),
    }
    if rewriter:
        ways[f"rewritten by {rewriter.model}"] = await rewriter.questions(history, question)
    return ways


class Rewriter:
    """A provider's model that rewrites messages as it does for a chatbot."""

    def __init__(self, provider, model):
        self.provider, self.model = provider, model
        self.failures, self.milliseconds = [], []

    async def questions(self, history, question):
        from chatbots.conversation.prompt import history_in_prompt
        from chatbots.conversation.rewrite import questions_to_search
        from chatbots.conversation.visitor import Visitor
        from chatbots.models import Chatbot

        bot = Chatbot(enable_vector_store=True, collections=[TARGET], rewrite_questions=True)
        earlier = history_in_prompt(bot, history)
        model = self.provider, self.model
        questions, rewrite = await questions_to_search(bot, model, history, earlier, question, Visitor())
        if rewrite and rewrite.failure:
            self.failures.append(str(rewrite.failure))
        elif rewrite:
            self.milliseconds.append(rewrite.milliseconds)
        return questions

    def print_outcome(self):
        rewritten = len(self.milliseconds)
        in_time = f", in {median(self.milliseconds):.0f} ms (median)" if rewritten else ""
        print(f"\n{self.model} rewrote {rewritten} of {rewritten + len(self.failures)} messages{in_time}.")
        for reason in sorted(set(self.failures)):
            print(f"{self.failures.count(reason)} were not rewritten: {reason}")


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
