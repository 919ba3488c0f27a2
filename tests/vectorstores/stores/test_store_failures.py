"""Failures of a vector store: the API's response, and which requests are retried."""

import gzip
import time

import numpy as np
import pytest

from puffer.api.errors import ApiError
from tests.support.stores.canned import KEY, WIRES
from tests.support.stores.place import KEYS
from tests.support.upstream import Upstream, answering, closed_port, running, sending, stalling
from vectorstores.base import Query, StoreSettings
from vectorstores.errors import StoreNotConfigured
from vectorstores.registry import STORES

URL = "/vector-stores/upsert"


@pytest.fixture
def upsert(api, openai, server, slug):
    """Return a function that upserts a text into the store through the API."""

    def call(**changes):
        return api.post(
            URL,
            json={
                "provider": slug,
                "target_id": "kb",
                "vectors": [{"id": "a", "content": "some text"}],
                "embedding_provider": "openai",
                "embedding_model": "emb-1",
                **changes,
            },
        )

    return call


def once(behavior, then):
    """Return a behavior that is `behavior` for the first request and `then` for all others."""
    behaviors = iter([behavior])
    return lambda connection: next(behaviors, then)(connection)


def sent_to(server, path):
    return [sent for sent in server.sent if sent.target == path]


def test_without_a_failure_the_upsert_succeeds(upsert, server, slug):
    assert upsert().json()["upserted_count"] == 1
    assert len(sent_to(server, WIRES[slug].write)) == 1


REFUSALS = [
    (400, 400),
    (401, 502),  # our credentials, not the caller's
    (402, 502),
    (403, 502),
    (408, 408),
    (409, 409),
    (413, 413),
    (418, 502),
    (422, 422),
    (500, 502),
    (501, 502),
    (504, 502),
]


@pytest.mark.parametrize(("upstream_status", "status"), REFUSALS)
def test_a_refusal_before_the_embedding_call(upsert, openai, server, slug, upstream_status, status):
    server.serves(WIRES[slug].first, WIRES[slug].error(f"No,\n not <b>with</b> {KEY}!"), upstream_status)
    response = upsert()
    answer = response.json()
    assert (response.status_code, answer["code"]) == (status, f"{slug}_api_error")
    assert answer["data"] == {"status": status, "completed_sources": 0, "failed_source_index": 0}
    label = STORES[slug].label
    assert answer["message"] == f"{label} API Error ({upstream_status}): No, not <b>with</b> [redacted]!"
    assert not openai.sent
    assert len(server.sent) == 1


@pytest.mark.parametrize(("upstream_status", "status"), [(400, 400), (403, 502), (413, 413), (500, 502)])
def test_a_refused_write(upsert, server, slug, upstream_status, status):
    server.serves(WIRES[slug].write, WIRES[slug].error("No."), upstream_status)
    response = upsert()
    assert (response.status_code, response.json()["code"]) == (status, f"{slug}_api_error")
    assert len(sent_to(server, WIRES[slug].write)) == 1


def test_a_missing_collection_is_404(upsert, openai, server, slug):
    server.serves(
        WIRES[slug].first, [] if slug == "chroma" else WIRES[slug].error("missing"), 200 if slug == "chroma" else 404
    )
    response = upsert()
    assert (response.status_code, response.json()["code"]) == (404, "vector_collection_not_found")
    assert response.json()["message"] == f"{STORES[slug].label} has no collection named 'kb'."
    assert not openai.sent


def test_transient_failures_are_retried(upsert, server, slug):
    path = WIRES[slug].write
    for fault in (
        answering({}, 429, {"Retry-After": "0"}),
        answering({}, 429),
        answering(b"<html>", 502),
        answering({}, 503),
        sending(b""),
        sending(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":'),
    ):
        server.sent.clear()
        server.pages[path] = once(fault, answering({"result": {}, "upsertedCount": 1}))
        assert upsert().status_code == 200
        assert len(sent_to(server, path)) == 2


def test_retry_after_is_respected(upsert, server, slug):
    server.pages[WIRES[slug].write] = once(answering({}, 429, {"Retry-After": "1"}), answering({"result": {}}))
    start = time.monotonic()
    assert upsert().status_code == 200
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize("retry_after", ["120", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_long_retry_after_is_passed_on_to_the_caller(upsert, server, slug, retry_after):
    server.serves(WIRES[slug].write, WIRES[slug].error("slow down"), 429, {"Retry-After": retry_after})
    response = upsert()
    assert (response.status_code, response.json()["code"]) == (429, f"{slug}_api_error")
    assert response.headers["Retry-After"] == retry_after
    assert len(sent_to(server, WIRES[slug].write)) == 1


@pytest.mark.parametrize(("upstream_status", "status"), [(429, 429), (502, 502), (503, 503)])
def test_a_lasting_failure_is_reported(upsert, server, slug, settings, upstream_status, status):
    settings.VECTOR_STORE_TIMEOUT = 0.2
    server.serves(WIRES[slug].write, b"<html><h1>Busy</h1></html>", upstream_status)
    response = upsert()
    assert (response.status_code, response.json()["code"]) == (status, f"{slug}_api_error")
    assert response.json()["message"].endswith(": Busy")


def test_a_redirect_is_not_followed(upsert, server, slug):
    server.serves(WIRES[slug].write, b"", 307, {"Location": f"{server.url}/elsewhere"})
    response = upsert()
    assert (response.status_code, response.json()["code"]) == (502, f"{slug}_api_error")
    assert "redirect" in response.json()["message"]
    assert not sent_to(server, "/elsewhere")


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (sending(b""), 502, "closed the connection."),
        (
            sending(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":'),
            502,
            "stopped in the middle of its answer.",
        ),
        (stalling(b""), 504, "did not answer in time."),
        (stalling(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"), 504, "did not answer in time."),
        (answering(b"<html>Welcome to nginx</html>"), 502, "sent an answer that is not JSON."),
        (answering(b'{"result": '), 502, "sent an answer that is not JSON."),
        (answering(b"x" * 200_000), 502, "sent an answer that is larger than 100000 bytes."),
        (
            answering(gzip.compress(b"x" * 9_000_000), headers={"Content-Encoding": "gzip"}),
            502,
            "sent an answer that is larger than 100000 bytes.",
        ),
    ],
)
def test_invalid_answers_are_reported(upsert, server, slug, settings, fault, status, words):
    settings.VECTOR_STORE_TIMEOUT = 0.2  # too short for a retry
    settings.MAX_ANSWER_BYTES = 100_000
    server.pages[WIRES[slug].write] = fault
    response = upsert()
    answer = response.json()
    assert (response.status_code, answer["code"]) == (status, f"{slug}_api_error")
    assert answer["message"] == f"{STORES[slug].label} {words}"
    assert KEY not in response.text
    assert server.url not in response.text


def test_an_unreachable_store_is_502(upsert, slug, settings):
    with closed_port() as url:
        settings.VECTOR_STORE_ENVIRONMENT = {slug: {"api_key": KEY, "base_url": url}}
        response = upsert()
    assert (response.status_code, response.json()["code"]) == (502, f"{slug}_api_error")
    assert response.json()["message"] == f"{STORES[slug].label} cannot be reached."


ODD_ANSWERS = [
    b"null", b"1", b'"x"', b"[]", b"{}", b"[null]", b"[[]]", b'[{"id": null}]', b'{"result": null}', b'{"result": []}',
    b'{"result": {"points": null}}', b'{"result": {"points": [null]}}', b'{"result": {"points": [{}]}}',
    b'{"result": {"points": [{"id": 1, "score": "high", "payload": []}]}}', b'{"result": {"config": {"params": 1}}}',
    b'{"result": {"collections": [{}]}}', b'{"indexes": {}}', b'{"indexes": [{}]}', b'{"matches": null}',
    b'{"matches": [{}]}', b'{"matches": [{"id": "a", "score": null, "metadata": 5}]}', b'{"vectors": 5}',
    b'{"vectors": [{}]}', b'{"dimension": "many", "host": 5}', b'{"dimension": 64}', b'{"host": {}, "dimension": 4}',
    b'{"ids": [["a"]], "distances": [[]], "documents": [[]], "metadatas": [[]]}', b'{"ids": ["a"], "embeddings": null}',
    b'{"ids": [["a"]], "distances": [["near"]], "documents": [[1]], "metadatas": [[[]]]}', b'{"ids": null}',
]  # fmt: skip


READS = {
    "list_targets": lambda store: store.list_targets(),
    "describe": lambda store: store.describe("kb"),
    "query": lambda store: store.query("kb", Query(np.ones(64, np.float32), 3)),
    "scan": lambda store: list(store.scan("kb")),
}


class OddServer(Upstream):
    """A server that answers every path outside `pages` with `body`."""

    body = b""

    def behaviour_for(self, path):
        return self.pages.get(path, answering(self.body))


@pytest.mark.parametrize(
    "collection_is_found", [False, True], ids=["of every request", "after the collection was found"]
)
@pytest.mark.parametrize("read", READS)
def test_answers_of_unexpected_shapes_raise_no_other_errors(slug, read, collection_is_found):
    with running(OddServer()) as server:
        if collection_is_found:
            server.serves(WIRES[slug].first, WIRES[slug].pages(server)[WIRES[slug].first])
        for server.body in ODD_ANSWERS:
            try:
                READS[read](STORES[slug](StoreSettings(KEY, server.url)))
            except ApiError as error:
                if error.status not in (400, 404, 502):
                    raise


@pytest.mark.parametrize(
    "base_url", ["http://10.0.0.1:6333", "https://192.168.1.1", "https://169.254.169.254", "http://db.example"]
)
def test_a_base_url_that_is_not_allowed_is_503(upsert, openai, server, slug, settings, base_url):
    settings.VECTOR_STORE_ENVIRONMENT = {slug: {"api_key": KEY, "base_url": base_url}}
    response = upsert()
    assert (response.status_code, response.json()["code"]) == (503, "invalid_base_url")
    assert not server.sent
    assert not openai.sent


def test_a_private_host_can_be_allowed(slug, settings):
    with pytest.raises(StoreNotConfigured):
        STORES[slug](StoreSettings(KEY, "http://10.1.2.3"))
    settings.PRIVATE_HOST_ALLOWLIST = ["10.1.2.3"]
    STORES[slug](StoreSettings(KEY, "http://10.1.2.3"))


@pytest.mark.parametrize("key", ["näh", "two\nlines", "nul\x00"])
def test_an_invalid_api_key_is_503(upsert, server, slug, settings, key):
    settings.VECTOR_STORE_ENVIRONMENT = {slug: {"api_key": key, "base_url": server.url}}
    response = upsert()
    assert (response.status_code, response.json()["code"]) == (503, "invalid_api_key")
    assert key not in response.text
    assert not server.sent


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "169.254.169.254", "https://192.168.1.1:443", "http://evil.example", "[fd00::1]",
     "user:pass@evil.example", "evil.example?x=", "", "file:///etc/passwd"],
)  # fmt: skip
@pytest.mark.parametrize("slug", ["pinecone"])
def test_an_index_host_from_pinecone_that_is_not_allowed(upsert, openai, server, slug, host):
    server.serves("/indexes/kb", {"dimension": 64, "metric": "cosine", "host": host})
    response = upsert()
    assert (response.status_code, response.json()["code"]) == (502, "pinecone_api_error")
    assert [sent.target for sent in server.sent] == ["/indexes/kb"]
    assert not openai.sent


@pytest.mark.parametrize(
    ("base_url", "host", "url"),
    [
        ("https://api.pinecone.io", "kb-abc.svc.us-east1.pinecone.io", "https://kb-abc.svc.us-east1.pinecone.io"),
        (
            "https://api.pinecone.io",
            "localhost:5081",
            "https://localhost:5081",
        ),  # plain HTTP is for loopback base URLs only
        ("http://localhost:5080", "localhost:5081", "http://localhost:5081"),  # an emulator
        ("http://localhost:5080", "kb-abc.svc.us-east1.pinecone.io", "https://kb-abc.svc.us-east1.pinecone.io"),
    ],
)
def test_pinecone_hosts_are_reached_by_tls_except_on_loopback(base_url, host, url):
    assert STORES["pinecone"](StoreSettings(KEY, base_url)).host_url(host) == url


def test_an_interrupted_upsert_reports_what_is_stored(upsert, server, slug):
    """The batch size is up to the import, but every document counted as completed must have been stored."""
    accepted = b""

    def refuse_one_batch(connection):
        nonlocal accepted
        if b'"text 120"' in connection.received.body:
            answering({}, 413)(connection)
        else:
            accepted += connection.received.body
            answering({"result": {}})(connection)

    server.pages[WIRES[slug].write] = refuse_one_batch
    response = upsert(vectors=[{"id": f"d{at}", "content": f"text {at}"} for at in range(130)])
    assert response.status_code == 413
    completed = response.json()["data"]["completed_sources"]
    assert response.json()["data"] == {"status": 413, "completed_sources": completed, "failed_source_index": completed}
    assert completed <= 120
    assert all(f'"text {at}"'.encode() in accepted for at in range(completed))


def test_a_wrong_key_is_502_and_not_repeated(place):
    if not KEYS[place.store.slug]:
        pytest.skip(f"{place.name} runs without a key in these tests")
    at = place.store.settings
    with pytest.raises(ApiError) as raised:
        STORES[place.store.slug](StoreSettings("wrong-key", at.base_url)).list_targets()
    assert raised.value.status == 502
    assert "wrong-key" not in raised.value.message
    assert "(401)" in raised.value.message
