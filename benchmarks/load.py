"""Load on one URL: N connections -> the same POST again and again for some seconds -> what came back, as JSON.

Every answer is read and checked, a connection closed without an answer is counted, and what is in flight at the end
is waited for. (wrk and its like do none of the three, and correct their percentiles.)
Started by compare.py as a process of its own: python load.py < a JSON object with the arguments of Load
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
except ImportError:  # asyncio's own loop does too: it takes some more of the processor from the server under test
    from asyncio import run

ANSWER_TIMEOUT = 30  # seconds


class Load:
    """`connections` callers that ask `url` for `seconds`; an answer is right if it is a 200 that holds `expected`."""

    def __init__(self, url, headers, body, expected, connections, seconds):
        parts = urlsplit(url)
        self.address = parts.hostname, parts.port
        body = json.dumps(body).encode()
        head = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": len(body), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.request = f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
        self.expected = expected.encode()
        self.connections, self.seconds = connections, seconds
        self.latencies, self.statuses, self.faults = [], Counter(), Counter()
        self.callers, self.replacements = set(), []

    async def run(self):
        self.end = perf_counter() + self.seconds
        for _ in range(self.connections):
            # One after another, each with work at once: a worker that is busy then leaves the next one to another,
            # while of 32 at the same moment a single worker would take all.
            await self.add_caller()
        await asyncio.sleep(self.end - perf_counter())
        in_time = len(self.latencies)  # what comes later is checked, but is no part of the rate
        latest = perf_counter() + ANSWER_TIMEOUT
        while any(caller.asked_at for caller in self.callers) and perf_counter() < latest:
            await asyncio.sleep(0.02)
        self.faults["unanswered"] = sum(caller.asked_at is not None for caller in self.callers)
        return self.report(in_time)

    async def add_caller(self):
        """At the start, or in place of one whose connection closed."""
        try:
            _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(self), *self.address)
        except OSError:
            self.faults["refused"] += 1
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
            "faults": {**{str(s): n for s, n in self.statuses.items() if s != 200}, **+self.faults},
        }


class Caller(asyncio.Protocol):
    """One connection with at most one request in flight."""

    asked_at = None  # None: nothing is in flight

    def __init__(self, load):
        self.load = load
        self.answer = b""
        self.complete = None  # tells from the bytes received whether the answer is all there

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
            self.take()

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
        else:  # chunked; the mark of its end cannot be part of JSON
            self.complete = lambda: self.answer.endswith(b"\r\n0\r\n\r\n")

    def take(self):
        load, answer = self.load, self.answer
        load.latencies.append(perf_counter() - self.asked_at)
        load.statuses[int(answer[9:12])] += 1
        if answer.startswith(b"200", 9) and load.expected not in answer:
            load.faults["wrong"] += 1
        self.asked_at, self.answer, self.complete = None, b"", None
        if self.last:
            self.transport.close()
        else:
            self.ask()

    def connection_lost(self, error):
        if self.asked_at is not None:
            self.asked_at = None
            self.load.faults["dropped"] += 1
        if perf_counter() < self.load.end:
            self.load.callers.discard(self)
            self.load.replacements.append(asyncio.ensure_future(self.load.add_caller()))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(run(Load(**json.load(sys.stdin)).run())))
