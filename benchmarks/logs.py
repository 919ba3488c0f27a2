"""Compare GET /logs with LIKE on one text per conversation, for every filter: python benchmarks/logs.py

generated conversations in a new database -> each request to the API, and to a table like AI Puffer's -> table of both;
then the cost of the index when a turn is written

The database is SQLite in a temporary folder (in TMPDIR; 2 million messages take 4 GB), or with
`--database postgres://...` a database that the benchmark creates on that server and drops afterwards.
"""

import argparse
import asyncio
import gc
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
from generated_logs import (
    BOTS,
    MESSAGES,
    SMILE,
    TOKYO,
    Texts,
    build,
    generated_word,
)

HERE = Path(__file__).resolve().parent
LIKE_REQUESTS = 3  # per filter: each takes seconds, and the times hardly differ


def cases():
    """Return each case as (name, the parameters of its requests)."""

    def words(first, last, step):
        return [{"message_search": generated_word(number)} for number in range(first, last, step)]

    def message(*texts):
        return [{"message_search": text} for text in texts]

    def visitor(*texts):
        return [{"user_search": text} for text in texts]

    return [
        ("no filter", [{}]),
        ("bot_id", [{"bot_id": number} for number in range(1, BOTS + 1)]),
        ("message: rare words", words(30_000, 36_000, 300)),
        ("message: words in a third", words(100, 140, 2)),
        ("message: the commonest words", words(0, 10, 1)),
        ("message: absent", [{"message_search": f"nowhere{number}"} for number in range(20)]),
        ("message: accents, in a tenth", message("deja vu", "D\u00c9J\u00c0 VU", "d\u00e9j\u00e0")),
        ("message: phrase in all", message("thank you for asking", "let me know if there is anything")),
        ("message: word in half", message("half-way", "half-", "-way")),
        ("message: two letters, common", message("ba", "ti", "th", "zu")),
        ("message: one letter", message("a", "b", "z")),
        ("message: two letters, CJK", message(TOKYO)),
        ("message: emoji", message(SMILE)),
        ("message: % and _", message("%", "_", "100%", "snake_case")),
        ("visitor: session", visitor(*(f"{number * 2654435761 % 2**32:08x}" for number in range(1, 20)))),
        ("visitor: e-mail", visitor(*(f"v{number}@example" for number in range(400, 480, 4)))),
        ("visitor: domain, a quarter", visitor("example.com", "@example")),
        ("visitor: one or two letters", visitor("a", "7f")),
        (
            "all three filters",
            [{"bot_id": 1, "user_search": "example.com", **words} for words in words(0, 20, 2)],
        ),
    ]


class Caller:
    """A client of the ASGI application, in this process."""

    def __init__(self):
        import httpx2

        from puffer.asgi import application
        from puffer.models import ApiKey

        self.key = ApiKey(name="benchmark", scopes=["logs"]).issue()
        self.loop = asyncio.new_event_loop()
        transport = httpx2.ASGITransport(app=application)
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=600)

    def seconds_of(self, parameters, page):
        url = f"/wp-json/aipkit/v1/logs?{urlencode(parameters | {'page': page})}"
        begin = time.perf_counter()
        response = self.loop.run_until_complete(self.client.get(url, headers={"Authorization": f"Bearer {self.key}"}))
        taken = time.perf_counter() - begin
        assert response.status_code == 200, response.text
        return taken, int(response.headers["x-wp-total"])


def like_seconds_of(parameters, page):
    from django.db import connection

    def contains(text):
        return "%" + "".join("\\" + c if c in "%_\\" else c for c in text) + "%"

    like = "ILIKE" if connection.vendor == "postgresql" else "LIKE"
    conditions, arguments = ["1 = 1"], []
    for name, column in {"user_search": "visitor", "message_search": "messages"}.items():
        if name in parameters:
            conditions.append(f"{column} {like} %s ESCAPE '\\'")
            arguments.append(contains(parameters[name]))
    if "bot_id" in parameters:
        conditions.append("bot_id = %s")
        arguments.append(parameters["bot_id"])
    where = " AND ".join(conditions)
    begin = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM like_logs WHERE {where}", arguments)
        total = cursor.fetchone()[0]
        page_of = f"SELECT * FROM like_logs WHERE {where} ORDER BY id LIMIT 20 OFFSET %s"
        cursor.execute(page_of, [*arguments, (page - 1) * 20])
        cursor.fetchall()
    return time.perf_counter() - begin, total


def figures(seconds):
    ordered = np.sort(seconds) * 1000
    return [np.quantile(ordered, 0.5), np.quantile(ordered, 0.95, method="higher"), ordered[-1]]


def measure(rounds, with_like):
    from logs.search import query as search

    caller = Caller()
    caller.seconds_of({}, 1)
    gc.collect()
    gc.freeze()  # as `serve` does
    print(
        "| request | found | first time: p50, p95, max ms | page 1 | page 500 | LIKE: p50 ms | LIKE / first, page 1 |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    all_seconds = {"first": [], 1: [], 500: []}
    for name, requests in cases():
        search.forget()
        totals = []
        taken = {"first": [], 1: [], 500: []}
        for parameters in requests:
            seconds, total = caller.seconds_of(parameters, 1)
            taken["first"].append(seconds)
            totals.append(total)
        for _ in range(max(rounds, 20 // len(requests))):
            for parameters in requests:
                for page in (1, 500):
                    taken[page].append(caller.seconds_of(parameters, page)[0])
        for kind, seconds in taken.items():
            all_seconds[kind] += seconds
        columns = [", ".join(f"{value:.1f}" for value in figures(seconds)) for seconds in taken.values()]
        like_column, ratio = "", ""
        if with_like:
            like_seconds = [like_seconds_of(parameters, 1)[0] for parameters in requests[:LIKE_REQUESTS]]
            like_p50 = np.median(like_seconds)
            like_column = f"{like_p50 * 1000:.0f}"
            ratio = f"{like_p50 / np.median(taken['first']):.0f}, {like_p50 / np.median(taken[1]):.0f}"
        print(f"| {name} | {int(np.median(totals)):,} | {' | '.join(columns)} | {like_column} | {ratio} |", flush=True)
    columns = [", ".join(f"{value:.1f}" for value in figures(seconds)) for seconds in all_seconds.values()]
    print(f"| all requests | | {' | '.join(columns)} | | |", flush=True)
    caller.loop.run_until_complete(caller.client.aclose())


def measure_writing(turns):
    """Write turns, each in its own transaction, alternating between 100 with the index and 100 without."""
    from django.db import connection

    from chatbots.models import Chatbot
    from logs.conversations.writer import Turn, write_turns
    from logs.models import new_uuid
    from logs.search import indexer, tables

    texts, bot = Texts(), Chatbot.objects.first()

    def write(count):
        seconds, cpu = [], time.process_time()
        for _ in range(count // (MESSAGES // 2)):
            uuid, messages = new_uuid(), texts.conversation(1)
            for question, reply in zip(messages[::2], messages[1::2], strict=True):
                turn = Turn(
                    question, bot.pk, "openai", "gpt-4o-mini", reply, usage={"total_tokens": 9}, conversation_uuid=uuid
                )
                begin = time.perf_counter()
                write_turns([turn])
                seconds.append(time.perf_counter() - begin)
        return seconds, (time.process_time() - cpu) / count

    def switch_index(with_index):
        with connection.cursor() as cursor:
            for searched in tables.SEARCHED:
                if connection.vendor == "postgresql":
                    cursor.execute(f"ALTER TABLE {searched.table} {'ENABLE' if with_index else 'DISABLE'} TRIGGER USER")
                elif not with_index:
                    for name in tables.sqlite_triggers(searched):
                        cursor.execute(f"DROP TRIGGER {name}")
        if with_index:
            tables.create_triggers()

    taken = {True: [], False: []}
    cpu = {True: [], False: []}
    indexing_seconds = 0.0  # seconds that the worker's job takes
    while indexer.run_due():
        pass
    write(100)
    for _ in range(turns // 100):
        for with_index in (False, True):
            switch_index(with_index)
            seconds, each = write(100)
            taken[with_index] += seconds
            cpu[with_index].append(each)
        begin = time.perf_counter()
        indexer.run_due()
        indexing_seconds += time.perf_counter() - begin
    print("\n| writing a turn | p50 ms | p95 ms | mean ms | CPU ms of this process |")
    print("| --- | ---: | ---: | ---: | ---: |")
    rows = {}
    for name, with_index in {"without the index": False, "with the index": True}.items():
        rows[with_index] = [
            *figures(taken[with_index])[:2],
            np.mean(taken[with_index]) * 1000,
            np.median(cpu[with_index]) * 1000,
        ]
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in rows[with_index])} |")
    ratios = [with_it / without for with_it, without in zip(rows[True], rows[False], strict=True)]
    print(f"| ratio | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    print(f"\nIndexing took the worker {indexing_seconds / (2 * turns) * 1000:.3f} ms per turn.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--conversations", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=1000, help="turns to write with and without the index")
    parser.add_argument("--database", help="a PostgreSQL server; default: SQLite in a temporary folder")
    parser.add_argument("--without-like", action="store_true", help="skip the comparison with LIKE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="puffer-logs-") as scratch:
        if options.database is None:
            return run(f"sqlite:///{scratch}/benchmark.sqlite3", options)
        import psycopg

        name = f"puffer_benchmark_{secrets.token_hex(4)}"
        with psycopg.connect(options.database, autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name}")
            try:
                run(urlsplit(options.database)._replace(path=f"/{name}").geturl(), options)
            finally:
                server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    return None


def run(database, options):
    os.environ |= {
        "DATABASE_URL": database,
        "DJANGO_SETTINGS_MODULE": "puffer.settings",
        "SECRET_KEY": "x",
        "LOG_LEVEL": "ERROR",
        "PUFFER_ENV_FILE": "/nonexistent",
    }
    sys.path.insert(0, str(HERE.parent))
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.db import connection, connections

    begin, cpu = time.perf_counter(), time.process_time()
    seconds = build(options.conversations)
    messages = options.conversations * MESSAGES
    print(f"{connection.vendor}: {options.conversations:,} conversations, {messages:,} messages, {size()}")
    print(f"built in {seconds:.0f} s, {time.perf_counter() - begin:.0f} s including the LIKE table\n", flush=True)
    measure(options.rounds, not options.without_like)
    measure_writing(options.turns)
    used = (time.process_time() - cpu) / (time.perf_counter() - begin)
    print(f"\nload average {os.getloadavg()[0]:.1f}; this process used {used:.2f} of a core")
    connections.close_all()


def size():
    from django.db import connection

    from logs.search.tables import SEARCHED

    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) AS name",
                [[s.texts for s in SEARCHED]],
            )
            index = int(cursor.fetchone()[0])
            cursor.execute(
                "SELECT pg_total_relation_size('logs_message') + pg_total_relation_size('logs_conversation')"
            )
            return f"index {index / 1e6:,.0f} MB, tables with all indexes {cursor.fetchone()[0] / 1e6:,.0f} MB"
        index = 0
        for searched in SEARCHED:
            texts = f"SELECT sum(length(text)) FROM {searched.texts}"
            cursor.execute(f"SELECT sum(length(block)) + ({texts}) FROM {searched.index}_data")
            index += cursor.fetchone()[0]
        return f"index {index / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()
