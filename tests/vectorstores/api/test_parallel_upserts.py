"""POST /vector-stores/upsert with the same documents at the same time, in a real server with two processes."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.support.installation import serving
from tests.support.knowledge.imports import sent_texts
from tests.support.upstream import fast_embedding, running

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request, tmp_path):
    """Yield a server whose embedding provider takes 0.3 s."""

    def slow_embedding(connection):
        time.sleep(0.3)
        fast_embedding(connection)

    with running() as upstream:
        upstream.pages["/v1/embeddings"] = slow_embedding
        with serving(tmp_path, upstream, request.param) as server:
            yield server


def upsert(server, key, *vectors):
    return requests.post(
        f"{server.url}/wp-json/aipkit/v1/vector-stores/upsert",
        json={
            "provider": "local", "target_id": "kb", "vectors": vectors,
            "embedding_provider": "openai", "embedding_model": "emb-1",
        },
        headers={"Authorization": f"Bearer {key}"}, timeout=60,
    )  # fmt: skip


def test_calls_with_the_same_documents_embed_them_once(server):
    key = server.manage("create_api_key", "caller").split()[-1]
    same = [{"id": f"doc-{at}", "content": f"Text number {at}."} for at in range(120)]
    calls = [same, same, same[::-1], [{"id": "doc-5", "content": "Another text."}], [{"content": "Without an id."}]]
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = list(pool.map(lambda vectors: upsert(server, key, *vectors), calls))
    assert [answer.status_code for answer in answers] == [200] * len(calls)
    assert [answer.json()["upserted_count"] for answer in answers] == [120, 120, 120, 1, 1]
    times = Counter(sent_texts(server.upstream))
    assert set(times) == {item["content"] for call in calls for item in call}
    assert sum(times.values()) <= len(times) + 3  # document 5 has two versions, so it may be stored again
    assert server.value("SELECT count(*) FROM vectorstores_localvector") == 121
    assert server.value("SELECT count(*) FROM vectorstores_documentclaim") == 0
    assert server.value("SELECT count(*) FROM vectorstores_importrun") == 0
    # Nothing is under way now, so a call stores its documents even if they are the same.
    assert upsert(server, key, *same).status_code == 200
    assert sum(Counter(sent_texts(server.upstream)).values()) == sum(times.values()) + 120


def test_a_failed_call_names_the_first_document_that_is_not_stored(server):
    key = server.manage("create_api_key", "caller").split()[-1]
    answer = server.upstream.pages["/v1/embeddings"]

    def refuse(connection):
        if b"poison" in connection.received.body:
            server.upstream.pages["/refused"](connection)
        else:
            answer(connection)

    server.upstream.serves("/refused", {"error": {"message": "Not this one."}}, 400)
    server.upstream.pages["/v1/embeddings"] = refuse
    good = [{"id": f"doc-{at}", "content": f"Text number {at}."} for at in range(60)]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(upsert, server, key, *good)
        time.sleep(0.2)
        second = pool.submit(upsert, server, key, *good, {"id": "bad", "content": "poison"})
    assert first.result().status_code == 200
    assert second.result().status_code == 400
    assert second.result().json()["data"]["completed_sources"] == 60
    assert second.result().json()["data"]["failed_source_index"] == 60
