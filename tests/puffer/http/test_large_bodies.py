"""Large bodies of a caller with a key do not keep the event loop from other requests."""

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise

import orjson
import pytest
from asgiref.sync import async_to_sync

from logs.usage import recorder
from providers import registry
from tests.support.api import BASE
from tests.support.attacks.asgi_requests import Raw
from tests.support.processor import seconds_here
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.upstream import Connection, answering

MAX_STALL = 0.1  # seconds of CPU of this process between two turns of the event loop, on the reference machine
TRIES = 3
SIZE = 9_900_000  # bytes
JSON, FORM, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=B"
# The parameter of each endpoint that holds most of the text, and the others that it requires.
ENDPOINTS = {
    "generate": ("messages", {"provider": "openai", "model": "m"}),
    "embeddings": ("input", {"provider": "openai", "model": "m"}),
    "vector-stores/upsert": (
        "vectors",
        {"provider": "local", "target_id": "t", "embedding_provider": "openai", "embedding_model": "m"},
    ),
    "chat/{bot}/message": ("messages", {}),
}


def names(count: int) -> bytes:
    return b"{%s}" % orjson.dumps({f"k{number}": 1 for number in range(count)})[1:-1]


def texts(endpoint: str, text: bytes) -> bytes:
    """Return an item of the endpoint's list with this text."""
    items = {"embeddings": b'"%s"', "vector-stores/upsert": b'{"content":"%s"}'}
    return items.get(endpoint, b'{"role":"user","content":"%s"}') % text


def hostile_values(endpoint: str) -> Iterator[tuple[str, bytes]]:
    """Yield values of the endpoint's parameter, in JSON."""
    for name, item in {
        "lists": b"[]",
        "nested lists": b"[" * 500 + b"]" * 500,
        "objects": b"{}",
        "numbers": b"1",
        "long numbers": b"1.2345678901234567890123456789e-290",
        "short strings": b'"a"',
        "long strings": b'"%s"' % (b"word " * 20_000),
        "short texts": texts(endpoint, b"a"),
        "long texts": texts(endpoint, b"word " * 19_000),
        "special tokens": texts(endpoint, b"<|" * 49_000),
        "blank texts": texts(endpoint, b" " * 90_000),
        "names of items": b'{"role":"user","content":"a","metadata":%s}' % names(190),
    }.items():
        yield name, b"[%s]" % b",".join([item] * (SIZE // (len(item) + 1)))
    yield "names", names(700_000)
    yield "names of an item", b'[{"role":"user","content":"a","metadata":%s}]' % names(700_000)
    yield "one text", b"[%s]" % texts(endpoint, b"word, " * (SIZE // 6))
    yield "one blank text", b"[%s]" % texts(endpoint, b" " * SIZE)
    yield "backslashes", b"[%s]" % texts(endpoint, b"\\\\" * (SIZE // 2))
    yield "quotation marks", b"[%s]" % texts(endpoint, b'\\"' * (SIZE // 2))
    yield "list in a string", b'"%s"' % (b"1," * (SIZE // 2))
    yield "blanks in a string", b'"%s"' % (b" ," * (SIZE // 2))


def hostile_forms(name: bytes) -> Iterator[tuple[str, str, bytes]]:
    part = b'--B\r\nContent-Disposition: form-data; name="%s"' % name
    yield "percent", FORM, name + b"=" + b"%61" * (SIZE // 3)
    yield "percent signs", FORM, name + b"=" + b"%" * SIZE
    yield "list", FORM, name + b"=" + b"a," * (SIZE // 2)
    yield "blanks", FORM, name + b"=" + b"+" * SIZE
    yield "ampersands", FORM, b"&" * SIZE
    yield "names", FORM, b"&".join(b"a%d=1" % number for number in range(900_000))
    yield "brackets", FORM, b"&".join(b"%s[%d][content]=%s" % (name, index, b"a" * 10_000) for index in range(980))
    yield "parts", MULTIPART, (part + b"\r\n\r\n1\r\n") * 150_000 + b"--B--\r\n"
    yield "empty parts", MULTIPART, b"--B\r\n\r\n" * 1_000_000 + b"--B--\r\n"
    yield "list in a part", MULTIPART, part + b"\r\n\r\n" + b"a," * (SIZE // 2) + b"\r\n--B--\r\n"
    encoded = b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"YQ==" * (SIZE // 4)
    yield "base64 in a part", MULTIPART, part + encoded + b"\r\n--B--\r\n"


def hostile_bodies(endpoint: str) -> Iterator[tuple[str, str, bytes]]:
    parameter, others = ENDPOINTS[endpoint]
    before = orjson.dumps(others | {parameter: 0})[:-2]
    for name, value in hostile_values(endpoint):
        yield name, JSON, before + value + b"}"
    yield from hostile_forms(parameter.encode())


def embed(connection: Connection) -> None:
    """Answer with the same vector for each text, which takes no time."""
    texts = orjson.loads(connection.received.body)["input"]
    vectors = [{"index": index, "embedding": [0.1, 0.2, 0.3]} for index in range(len(texts))]
    answering({"data": vectors, "usage": {"prompt_tokens": 1, "total_tokens": 1}})(connection)


async def longest_stall(request: Raw) -> tuple[int, float]:
    """Return the status of the answer, and the most CPU that was used between two turns of the event loop."""
    turns = [time.process_time()]

    async def take_turns() -> None:
        while True:
            await asyncio.sleep(0.001)
            turns.append(time.process_time())

    taking_turns = asyncio.create_task(take_turns())
    try:
        status = await request.send()
        await asyncio.sleep(0.005)
    finally:
        taking_turns.cancel()
        await recorder.flush_usage()
        await registry.close_clients()
    return status, max(later - earlier for earlier, later in pairwise(turns))


@pytest.fixture
def stalls(api, bot, upstream):
    upstream.pages["/v1/embeddings"] = embed
    upstream.serves("/v1/chat/completions", CHAT_COMPLETION)
    bot.max_messages = 1024
    bot.save()

    def send(endpoint: str, content_type: str, body: bytes) -> tuple[int, float]:
        path = f"{BASE}/{endpoint.replace('{bot}', str(bot.pk))}"
        headers = (("content-type", content_type), ("authorization", f"Bearer {api.key}"))
        return async_to_sync(longest_stall)(Raw("POST", path, headers, body))

    return send


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_no_large_body_stalls_the_event_loop(stalls, settings, endpoint):
    parameter, others = ENDPOINTS[endpoint]
    ordinary = orjson.dumps(others | {parameter: [orjson.Fragment(texts(endpoint, b"Hi"))]})
    assert stalls(endpoint, JSON, ordinary)[0] == 200  # loads what is loaded at the first request
    limit = seconds_here(MAX_STALL)
    statuses = set()
    slow = {}
    for name, content_type, body in hostile_bodies(endpoint):
        assert len(body) <= settings.MAX_REQUEST_BYTES
        for _ in range(TRIES):  # one can be disturbed
            status, slow[name] = stalls(endpoint, content_type, body)
            statuses.add(status)
            if slow[name] <= limit:
                del slow[name]
                break
    assert statuses <= {200, 400}
    assert slow == {}
