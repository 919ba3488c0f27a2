"""Load one URL: N connections send the same POST repeatedly for some seconds; print the results as JSON.

Unlike wrk and similar tools, it checks every answer, counts connections closed without an answer, waits for requests
in flight at the end, and does not correct its percentiles.
compare.py starts it in its own process: python load.py < a JSON object with the arguments of Load
"""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from time import perf_counter
from urllib.parse import urlsplit

try:
    from uvloop import run
except ImportError:  # asyncio's own loop works too, but leaves less CPU time to the server under test
    from asyncio import run

ANSWER_TIMEOUT = 30  # seconds


class Load:
    """`connections` callers that post to `url` for `seconds`; a right answer is a 200 that contains `expected`."""

    def __init__(self, url, headers, body, expected, connections, seconds):
        parts = urlsplit(url)
        self.address = parts.hostname, parts.port
        body = json.dumps(body).encode()
        head = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": len(body), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.request = f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
        self.expected = expected.encode()
        self.connections, self.seconds = connections, seconds
        self.latencies, self.statuses, self.failures = [], Counter(), Counter()
        self.callers, self.replacements = set(), []

    async def run(self):
        self.end = perf_counter() + self.seconds
        for _ in range(self.connections):
            # Connect one after another, and let each caller send at once: then the next connection goes to an idle
            # worker. A single worker would accept all 32 if they came at the same moment.
            await self.add_caller()
        await asyncio.sleep(self.end - perf_counter())
        in_time = len(self.latencies)  # later answers are checked, but do not count in the rate
        deadline = perf_counter() + ANSWER_TIMEOUT
        while any(caller.asked_at for caller in self.callers) and perf_counter() < deadline:
            await asyncio.sleep(0.02)
        self.failures["unanswered"] = sum(caller.asked_at is not None for caller in self.callers)
        return self.report(in_time)

    async def add_caller(self):
        """Add a caller at the start, or to replace one whose connection was closed."""
        try:
            _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(self), *self.address)
        except OSError:
            self.failures["refused"] += 1
        else:
            self.callers.add(caller)
            caller.ask()

    def report(self, in_time):
        latencies = sorted(self.latencies) or [0.0]
        return {
            "answers": len(self.latencies),
            "rate": in_time / self.seconds,
            "p50_ms": 1000 * latencies[len(latencies) // 2],
            "p99_ms": 1000 * latencies[len(latencies) * 99 // 100],
            "failures": {**{str(s): n for s, n in self.statuses.items() if s != 200}, **+self.failures},
        }


class Caller(asyncio.Protocol):
    """One connection with at most one request in flight."""

    asked_at = None  # None: no request is in flight

    def __init__(self, load):
        self.load = load
        self.answer = b""
        self.complete = None  # a function that returns whether all bytes of the answer have arrived

    def connection_made(self, transport):
        self.transport = transport

    def ask(self):
        now = perf_counter()
        if now < self.load.end:
            self.asked_at = now
            self.transport.write(self.load.request)

    def data_received(self, data):
        self.answer = self.answer + data if self.answer else data
        if self.complete is None:
            self.read_head()
        if self.complete and self.complete():
            self.handle_answer()

    def read_head(self):
        head, found, _ = self.answer.partition(b"\r\n\r\n")
        if not found:
            return
        head = head.lower()
        self.last = b"\r\nconnection: close" in head
        _, has_length, rest = head.partition(b"\r\ncontent-length:")
        if has_length:
            length = len(head) + 4 + int(rest.split(b"\r\n", 1)[0])
            self.complete = lambda: len(self.answer) >= length
        else:  # chunked; the end marker cannot occur in JSON
            self.complete = lambda: self.answer.endswith(b"\r\n0\r\n\r\n")

    def handle_answer(self):
        load, answer = self.load, self.answer
        load.latencies.append(perf_counter() - self.asked_at)
        load.statuses[int(answer[9:12])] += 1
        if answer.startswith(b"200", 9) and load.expected not in answer:
            load.failures["wrong"] += 1
        self.asked_at, self.answer, self.complete = None, b"", None
        if self.last:
            self.transport.close()
        else:
            self.ask()

    def connection_lost(self, error):
        if self.asked_at is not None:
            self.asked_at = None
            self.load.failures["dropped"] += 1
        if perf_counter() < self.load.end:
            self.load.callers.discard(self)
            self.load.replacements.append(asyncio.ensure_future(self.load.add_caller()))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(run(Load(**json.load(sys.stdin)).run())))
