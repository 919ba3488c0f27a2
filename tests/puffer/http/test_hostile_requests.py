"""Whatever a stranger sends costs next to nothing."""

import json

import pytest
from asgiref.sync import async_to_sync

from puffer.http import pages, public_files, public_requests
from tests.support.api import BASE
from tests.support.attacks.asgi_requests import Raw

MAX_MILLISECONDS = 20  # of a processor, more than an ordinary request to the same address
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
GENERATE, WIDGET, LOGIN = f"{BASE}/generate", f"{BASE}/chatbots/1/session", "/admin/login/"
CSRF = "a" * 32
SMALL = 60_000  # bytes: as much as is read of a stranger
LARGE = 9_000_000
COMBINING = "a" + "\u0315\u0316" * 15_000


def multipart(*parts: str, boundary: str = "B") -> bytes:
    return "".join(f"--{boundary}\r\n{part}\r\n" for part in parts).encode() + f"--{boundary}--\r\n".encode()


def field(name: str, value: str = "1", more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}'


def punycode(length: int) -> bytes:
    return multipart(field("a", "a-" + "b" * length))


BODIES: dict[str, tuple[str, bytes]] = {
    "punycode, small": ("multipart/form-data; boundary=B; charset=punycode", punycode(SMALL)),
    "punycode, large": ("multipart/form-data; boundary=B; charset=punycode", punycode(1_000_000)),
    "idna": ("multipart/form-data; boundary=B; charset=idna", multipart(field("a", "é." * 20_000))),
    "utf-7": ("multipart/form-data; boundary=B; charset=utf-7", multipart(field("aipkit_api_key", "+2AA-"))),
    "utf-7 form": (f"{FORM}; charset=utf-7", b"aipkit_api_key=%2B2AA-"),
    "unicode_escape": (f"{FORM}; charset=unicode_escape", b"a=" + b"\\x41" * 10_000),
    "zlib": (f"{FORM}; charset=zlib_codec", b"a=1"),
    "encoded charset": ("multipart/form-data; boundary=B; charset*=punycode''punycode", punycode(SMALL)),
    "encoded parameter": (f"{FORM}; x*=punycode''" + "%61" * 60 + "-b", b"a=1"),
    "long content type": ("text/plain" + "; a=b" * 6000, b""),
    "parameters of the content type": (f"{JSON};" + ";a" * 15_000, b"{}"),
    "long boundary": ("multipart/form-data; boundary=" + "b" * 250, b"--" + b"b" * SMALL),
    "names in other encodings": (
        "multipart/form-data; boundary=B",
        multipart(*(field("a", more="; filename*=punycode''" + "%61" * 200 + "-b") for _ in range(70))),
    ),
    "many parts": ("multipart/form-data; boundary=B", multipart(*(field("a") for _ in range(1000)))),
    "many empty parts": ("multipart/form-data; boundary=B", b"--B\r\n\r\n" * 7000 + b"--B--\r\n"),
    "many files": (
        "multipart/form-data; boundary=B",
        multipart(*(field("a", more='; filename="f"') for _ in range(600))),
    ),
    "one letter boundaries": ("multipart/form-data; boundary=-", b"---" * 20_000),
    "broken base64": (
        "multipart/form-data; boundary=B",
        multipart("Content-Transfer-Encoding: base64\r\n" + field("a", "=" * 50_000)),
    ),
    "headers of parts": ("multipart/form-data; boundary=B", b"--B\r\n" + b"a: b\r\n" * 10_000),
    "parameters of parts": ("multipart/form-data; boundary=B", multipart("X: y" + ";a" * 25_000)),
    "nested brackets": (FORM, b"&".join(b"a" + b"[]" * 64 + b"=1" for _ in range(450))),
    "nested brackets, large": (FORM, b"&".join(b"a" + b"[]" * 64 + b"=1" for _ in range(9_999))),
    "one deep name": (FORM, b"a" + b"[a]" * 20_000 + b"=1"),
    "unclosed brackets": (FORM, b"a" + b"[" * SMALL + b"=1"),
    "percent": (FORM, b"%61" * 20_000),
    "percent, large": (FORM, b"%61" * 3_000_000),
    "many fields": (FORM, b"&".join(b"a%d=" % number for number in range(9_999))),
    "empty fields": (FORM, b"&" * SMALL),
    "key many times": (FORM, b"aipkit_api_key=x&" * 3500),
    "bytes that are no UTF-8": (FORM, b"a=" + b"\xff" * SMALL),
    "names of JSON": (JSON, b"{" + b",".join(b'"%d":1' % number for number in range(6000)) + b"}"),
    "names of JSON, large": (JSON, b"{" + b",".join(b'"%d":1' % number for number in range(700_000)) + b"}"),
    "deep JSON": (JSON, b"[" * SMALL),
    "deep objects of JSON": (JSON, b'{"a":' * 12_000),
    "lists of JSON": (JSON, b"[" + b"[]," * 19_000 + b"[]]"),
    "long number of JSON": (JSON, b'{"a":' + b"9" * SMALL + b"}"),
    "escapes of JSON": (JSON, b'{"a":"' + rb"\u0041" * 10_000 + b'"}'),
    "lone surrogate of JSON": (JSON, rb'{"aipkit_api_key":"\ud800"}'),
    "combining marks of JSON": (JSON, json.dumps({"token": COMBINING, "aipkit_api_key": COMBINING}).encode()[:SMALL]),
    "large text": ("text/plain", b"x" * LARGE),
    "form of another method": (FORM, b"a=%61&" * 9000),
}
HEADERS: dict[str, tuple[tuple[str, str | bytes], ...]] = {
    "origin with many labels": (("origin", ("https://" + "é." * 10_000 + "example").encode()),),
    "origin with one label": (("origin", ("https://" + "é" * 140).encode()),),
    "origin with many ports": (("origin", "https://a" + ":1" * 140),),
    "origin with brackets": (("origin", "https://" + "[" * 280),),
    "cookies": (("cookie", ";".join(f"a{number}=b" for number in range(3500))),),
    "quoted cookies": (("cookie", 'a="' + "\\" * 30_000),),
    "session cookie": (("cookie", "sessionid=" + "a" * 30_000),),
    "accept": (("accept", "text/html;q=0.1," * 1900),),
    "accept-encoding": (("accept-encoding", "a;q=0.123," * 3000),),
    "accept-language": (("accept-language", "de-DE;q=0.1," * 2500),),
    "if-none-match": (("if-none-match", 'W/"a",' * 5000),),
    "forwarded addresses": (("x-forwarded-for", "1.2.3.4," * 3900),),
    "authorization": (("authorization", "Bearer " + "x" * 30_000),),
    "visitor's token": (("authorization", "Visitor ." + "eJ" * 15_000),),
    "request id": (("x-request-id", "a" * 30_000 + "!"),),
    "host": (("host", "a." * 15_000),),
}
QUERIES = {
    "many parameters": b"&".join(b"a%d=1" % number for number in range(4500)),
    "ampersands": b"&" * 30_000,
    "percent": b"a=" + b"%61" * 10_000,
    "nested brackets": b"&".join(b"a" + b"[]" * 64 + b"=1" for _ in range(220)),
    "rest_route": b"rest_route=" + b"/a" * 14_000,
    "rest_routes": b"rest_route=/a&" * 2200,
}


@pytest.fixture
def measured(bot, api_key, monkeypatch):
    """Return the status of a request, and the milliseconds of CPU that it takes more than an ordinary one."""
    api_key.issue()
    bot.embed_allowed_domains = ["shop.example"]
    bot.save()
    for limit in (pages.sign_ins, public_files, public_requests):
        monkeypatch.setattr(limit, "limit", 10**9)

    @async_to_sync
    async def measure(ordinary: Raw, hostile: Raw) -> tuple[int, float]:
        await ordinary.send()  # loads what is loaded at the first request
        _, usual = await ordinary.milliseconds(5)
        status, milliseconds = await hostile.milliseconds(usual + MAX_MILLISECONDS)
        return status, milliseconds - usual

    def with_bot(ordinary: Raw, hostile: Raw) -> tuple[int, float]:
        path = f"{BASE}/chatbots/{bot.pk}/session"
        at = lambda raw: Raw(raw.method, path, raw.headers, raw.body, raw.query) if raw.path == WIDGET else raw  # noqa: E731
        return measure(at(ordinary), at(hostile))

    return with_bot


ORDINARY = {
    GENERATE: Raw("POST", GENERATE, (("content-type", JSON),), b"{}"),
    WIDGET: Raw("POST", WIDGET, (("content-type", JSON), ("origin", "https://shop.example")), b"{}"),
    LOGIN: Raw(
        "POST",
        LOGIN,
        (("content-type", FORM), ("cookie", f"csrftoken={CSRF}")),
        f"csrfmiddlewaretoken={CSRF}&username=a&password=b".encode(),
    ),
    "/embed.js": Raw("GET", "/embed.js"),
    "/health/live": Raw("GET", "/health/live"),
    "/api/schema/": Raw("GET", "/api/schema/"),
    "/api/docs/": Raw("GET", "/api/docs/"),
    "/?rest_route=/x": Raw("GET", "/", query=b"rest_route=/x"),
}


@pytest.mark.slow
@pytest.mark.parametrize("path", [GENERATE, WIDGET, LOGIN])
@pytest.mark.parametrize("name", BODIES)
def test_bodies(measured, path, name):
    content_type, body = BODIES[name]
    ordinary = ORDINARY[path]
    if path == LOGIN and content_type.startswith(FORM):
        body = f"csrfmiddlewaretoken={CSRF}&".encode() + body
    headers = (*ordinary.headers, ("content-type", content_type))
    method = "DELETE" if name == "form of another method" else "POST"
    status, milliseconds = measured(ordinary, Raw(method, path, headers, body))
    assert status in (200, 302, 400, 401, 403, 404, 405, 413), status
    assert milliseconds < MAX_MILLISECONDS


@pytest.mark.slow
@pytest.mark.parametrize("path", ORDINARY)
@pytest.mark.parametrize("name", HEADERS)
def test_headers(measured, path, name):
    ordinary = ORDINARY[path]
    hostile = Raw(ordinary.method, ordinary.path, (*ordinary.headers, *HEADERS[name]), ordinary.body, ordinary.query)
    status, milliseconds = measured(ordinary, hostile)
    assert status < 500
    assert milliseconds < MAX_MILLISECONDS


@pytest.mark.slow
@pytest.mark.parametrize("path", ORDINARY)
@pytest.mark.parametrize("name", QUERIES)
def test_queries(measured, path, name):
    ordinary = ORDINARY[path]
    hostile = Raw(ordinary.method, ordinary.path, ordinary.headers, ordinary.body, QUERIES[name])
    status, milliseconds = measured(ordinary, hostile)
    assert status < 500
    assert milliseconds < MAX_MILLISECONDS
