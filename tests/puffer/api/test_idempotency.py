"""The Idempotency-Key header: one call, its answer replayed, and what is refused."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from logs.models import UsageEvent
from puffer.idempotency import replay
from puffer.idempotency.models import IdempotentCall
from puffer.models import ApiKey, Scope
from tests.support.api import Api
from tests.support.providers.answers import CHAT_COMPLETION

GENERATE = {"provider": "openai", "model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}


def generate(api, key="one", **changes):
    return api.post("/generate", json=GENERATE | changes, headers={"Idempotency-Key": key})


def test_a_repeated_call_is_answered_again_and_not_made_again(api, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    first, second = generate(api), generate(api)
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert len(upstream.sent) == 1
    assert UsageEvent.objects.count() == 1


def test_the_answer_is_stored_encrypted(api, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    generate(api)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM puffer_idempotentcall")
        (row,) = cursor.fetchall()
    assert not any("Hi!" in str(value) or value == "one" for value in row)


def test_a_key_is_one_caller_s_own(api, upstream):
    other = Api(ApiKey(name="other", scopes=list(Scope.values)).issue())
    for client in (api, other):
        upstream.will_answer(CHAT_COMPLETION)
        assert generate(client).status_code == 200
    assert len(upstream.sent) == 2


@pytest.mark.parametrize("changes", [{"model": "gpt-4o"}, {"messages": [{"role": "user", "content": "Hi!"}]}])
def test_another_request_with_the_same_key_is_refused(api, upstream, changes):
    upstream.will_answer(CHAT_COMPLETION)
    generate(api)
    response = generate(api, **changes)
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
    assert len(upstream.sent) == 1


def test_another_endpoint_with_the_same_key_is_refused(api, bot, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    generate(api)
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    response = api.post(f"/chat/{bot.pk}/message", json=body, headers={"Idempotency-Key": "one"})
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "clé", " "])
def test_unusable_keys_are_refused(api, upstream, key):
    response = api.post("/generate", json=GENERATE, headers=[(b"idempotency-key", key.encode("latin-1"))])
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")
    assert not upstream.sent


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_after_a_failure_the_call_is_made_again(api, upstream, status):
    upstream.will_answer({"error": {"message": "no"}}, status)
    assert generate(api).status_code >= 400
    assert not IdempotentCall.objects.exists()
    upstream.will_answer(CHAT_COMPLETION)
    assert generate(api).status_code == 200


@pytest.mark.parametrize("changes", [{"messages": 7}, {"stream": True}, {"provider": "none"}])
def test_a_refused_call_takes_no_key(api, upstream, changes):
    assert generate(api, **changes).status_code == 400
    assert not IdempotentCall.objects.exists()


def test_a_call_under_way_is_not_made_twice(api, upstream):
    digest = replay.sha256(f"{ApiKey.objects.get().pk}:one".encode())
    upstream.will_answer(CHAT_COMPLETION)
    generate(api)
    row = IdempotentCall.objects.get(digest=digest)
    row.status, row.answer = None, ""
    row.save()
    response = generate(api)
    assert (response.status_code, response.json()["code"]) == (409, "idempotency_key_in_use")
    assert response.headers["retry-after"] == "1"
    IdempotentCall.objects.update(valid_until=timezone.now() - timedelta(seconds=1))  # its process has died
    upstream.will_answer(CHAT_COMPLETION)
    assert generate(api).status_code == 200
    assert generate(api).headers["idempotent-replayed"] == "true"


def test_an_attempt_that_lost_its_key_changes_nothing(api, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    generate(api)
    row = IdempotentCall.objects.get()
    replay.release(replay.Claim(row.digest, replay.uuid.uuid4()))
    assert IdempotentCall.objects.exists()


def test_old_answers_are_deleted(api, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    generate(api, "old")
    IdempotentCall.objects.update(valid_until=timezone.now() - timedelta(seconds=1))
    replay._sweep._due_at = 0
    upstream.will_answer(CHAT_COMPLETION)
    generate(api, "new")
    assert IdempotentCall.objects.count() == 1


def test_a_stream_cannot_be_repeated(api, bot, upstream):
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    headers = {"Idempotency-Key": "one", "Accept": "text/event-stream"}
    response = api.post(f"/chat/{bot.pk}/message", json=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "idempotency_key_with_stream")
    assert not upstream.sent
    assert not IdempotentCall.objects.exists()


def test_a_large_answer_is_sent_and_not_kept(api, upstream, monkeypatch):
    monkeypatch.setattr(replay, "MAX_KEPT", 10)
    upstream.will_answer(CHAT_COMPLETION)
    assert generate(api).status_code == 200
    assert not IdempotentCall.objects.exists()


def test_without_the_header_nothing_is_stored(api, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    assert api.post("/generate", json=GENERATE).status_code == 200
    assert not IdempotentCall.objects.exists()
