"""Every provider call creates one usage record: its caller, model, tokens, cost and outcome."""

import asyncio
import json
from copy import deepcopy
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync

from logs.models import Message, ModelPrice, UsageEvent
from logs.usage import recorder
from providers import registry
from puffer.asgi import application
from puffer.models import ApiKey
from tests.support.providers.answers import (
    ANTHROPIC_MESSAGE,
    CAT_BASE64,
    CHAT_COMPLETION,
    COMPLETIONS,
    EMBEDDING_LIST,
    EMBEDDINGS,
    GENERATED_CONTENT,
    GPT_IMAGE,
    IMAGES,
    environment,
)
from tests.support.upstream import closed_port

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path)


def generate(api, provider="openai", model="gpt-4o-mini", **options):
    return api.post("/generate", json={"provider": provider, "model": model, "messages": HI}, **options)


def embed(api, provider="openai", model="text-embedding-3-small"):
    return api.post("/embeddings", json={"provider": provider, "model": model, "input": ["one", "two"]})


def draw(api, provider="openai", model="gpt-image-2", **options):
    return api.post("/images/generate", json={"provider": provider, "model": model, "prompt": "a cat", **options})


@pytest.mark.parametrize("slug", COMPLETIONS)
def test_a_completion_is_recorded(api, api_key, upstream, slug):
    upstream.will_answer(COMPLETIONS[slug])
    generate(api, slug, "some-model", headers={"X-Request-ID": "call-1"})
    event = UsageEvent.objects.get()
    assert (event.operation, event.provider, event.model) == ("completion", slug, "some-model")
    assert (event.api_key, event.caller, event.chatbot) == (api_key, "tests", None)
    assert (event.input_tokens, event.output_tokens, event.total_tokens, event.images) == (11, 5, 16, 0)
    assert (event.status, event.error_code, event.request_id) == (200, "", "call-1")
    assert 0 <= event.milliseconds < 5000


@pytest.mark.parametrize("slug", EMBEDDINGS)
def test_embeddings_are_recorded(api, upstream, slug):
    upstream.will_answer(EMBEDDINGS[slug])
    embed(api, slug, "some-model")
    event = UsageEvent.objects.get()
    assert (event.operation, event.provider, event.model, event.status) == ("embedding", slug, "some-model", 200)
    tokens = (None, None, None) if slug == "google" else (7, 0, 7)
    assert (event.input_tokens, event.output_tokens, event.total_tokens, event.images) == (*tokens, 0)


@pytest.mark.parametrize("slug", IMAGES)
def test_images_are_recorded(api, upstream, slug):
    upstream.will_answer(IMAGES[slug])
    draw(api, slug, "some-model")
    event = UsageEvent.objects.get()
    assert (event.operation, event.provider, event.model, event.status) == ("image", slug, "some-model", 200)
    assert (event.input_tokens, event.output_tokens, event.total_tokens, event.images) == (9, 272, 281, 1)


def test_several_images_from_google_are_one_record(api, upstream):
    for _ in range(3):
        upstream.will_answer(IMAGES["google"])
    draw(api, "google", "gemini-3.1-flash-image", n=3)
    event = UsageEvent.objects.get()
    assert (event.images, event.input_tokens, event.output_tokens, event.total_tokens) == (3, 27, 816, 843)


def test_calls_with_the_environments_key_are_recorded_under_its_name(api, upstream, settings):
    settings.PUFFER_API_KEY = "the-only-one"
    upstream.will_answer(CHAT_COMPLETION)
    generate(api, key="the-only-one")
    event = UsageEvent.objects.get()
    assert (event.api_key, event.caller) == (None, "PUFFER_API_KEY")


def test_a_record_is_kept_when_its_key_is_deleted(api, api_key, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    generate(api)
    ApiKey.objects.get(pk=api_key.pk).delete()
    event = UsageEvent.objects.get()
    assert (event.api_key, event.caller) == (None, "tests")


def test_a_record_has_the_responses_request_id(api, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    answer = generate(api)
    assert UsageEvent.objects.get().request_id == answer.headers["X-Request-ID"] != ""


# Outcomes


def failing_with(status):
    return lambda upstream: upstream.will_answer({"error": {"message": "Oh no."}}, status)


@pytest.mark.parametrize(
    ("call", "prepare", "status", "code"),
    [
        (generate, failing_with(429), 429, "api_error"),
        (generate, failing_with(401), 502, "api_error"),
        (generate, failing_with(503), 503, "api_error"),
        (generate, lambda upstream: upstream.will_hang_up(), 502, "http_request_failed"),
        (generate, lambda upstream: upstream.will_stall(), 504, "http_request_failed"),
        (generate, lambda upstream: upstream.will_answer(b"<html>"), 502, "json_decode_error"),
        (embed, failing_with(500), 502, "openai_embedding_api_error_logic"),
        (embed, lambda upstream: upstream.will_stall(), 504, "openai_embedding_http_error_logic"),
        (embed, lambda upstream: upstream.will_answer({"data": []}), 502, "openai_embedding_no_data_logic"),
        (draw, failing_with(400), 400, "openai_image_api_error"),
        (draw, lambda upstream: upstream.will_stall(), 504, "openai_image_http_error"),
        (draw, lambda upstream: upstream.will_answer({"data": []}), 502, "openai_image_no_data"),
    ],
)
def test_a_failure_is_recorded_with_the_callers_status_and_code(api, upstream, settings, call, prepare, status, code):
    if status == 504:
        settings.COMPLETION_TIMEOUT = settings.IMAGE_TIMEOUT = 0.2
    prepare(upstream)
    answer = call(api)
    event = UsageEvent.objects.get()
    assert (event.status, event.error_code) == (answer.status_code, answer.json()["code"]) == (status, code)
    assert (event.input_tokens, event.total_tokens, event.cost, event.images) == (None, None, None, 0)
    assert event.caller == "tests"
    assert event.milliseconds >= (200 if status == 504 else 0)


def test_an_unreachable_provider_is_recorded(api, settings):
    with closed_port() as url:
        settings.PROVIDER_ENVIRONMENT = environment(url)
        generate(api)
    event = UsageEvent.objects.get()
    assert (event.status, event.error_code) == (502, "http_request_failed")


def test_an_image_that_cannot_be_fetched_is_recorded_as_used(api, upstream):
    upstream.will_answer({**GPT_IMAGE, "data": [{"url": "https://10.0.0.1/cat.png"}]})
    draw(api, response_format="b64_json")
    event = UsageEvent.objects.get()
    assert (event.status, event.error_code) == (502, "openai_image_api_error")
    assert (event.images, event.total_tokens) == (1, 281)


@async_to_sync
async def call_and_disconnect(upstream, key, path, body):
    """Send a call, disconnect once the provider has received it, and return the messages that the app still sent."""
    messages_sent = []
    incoming = [{"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive():
        if incoming:
            return incoming.pop()
        while not upstream.sent:
            await asyncio.sleep(0.005)
        return {"type": "http.disconnect"}

    async def send(message):
        messages_sent.append(message)

    headers = [
        (b"host", b"testserver"),
        (b"authorization", f"Bearer {key}".encode()),
        (b"content-type", b"application/json"),
    ]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    try:
        await application({**scope, "headers": headers, "scheme": "http", "http_version": "1.1"}, receive, send)
    finally:
        await recorder.flush_usage()
        await registry.close_clients()
        await asyncio.sleep(0)
    return messages_sent


def test_a_turn_whose_caller_disconnects_is_logged(api, bot, upstream):
    upstream.will_stall()
    assert call_and_disconnect(upstream, api.key, f"/wp-json/aipkit/v1/chat/{bot.pk}/message", {"messages": HI}) == []
    question, answer = Message.objects.all()
    assert (question.content, answer.error) == ("Hi", "The visitor left before the answer was complete.")
    assert UsageEvent.objects.get().status == 499


@pytest.mark.parametrize(
    ("path", "slug", "operation"),
    [
        ("generate", "openai", "completion"),
        ("generate", "claude", "completion"),
        ("generate", "google", "completion"),
        ("embeddings", "openai", "embedding"),
        ("images/generate", "google", "image"),
    ],
)
def test_a_disconnect_cancels_the_provider_call_and_is_recorded(api, upstream, path, slug, operation):
    upstream.will_stall()
    body = {"provider": slug, "model": "some-model", "messages": HI, "input": "Hi", "prompt": "a cat"}
    assert call_and_disconnect(upstream, api.key, f"/wp-json/aipkit/v1/{path}", body) == []
    assert upstream.client_hung_up.wait(5)  # so that the provider can stop
    event = UsageEvent.objects.get()
    assert (event.operation, event.provider, event.status, event.error_code) == (operation, slug, 499, "")
    assert (event.caller, event.total_tokens, event.cost) == ("tests", None, None)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"provider": "openai", "model": "m", "messages": []}, 400),
        ({"provider": "openai", "model": "m", "messages": HI, "stream": True}, 400),
        ({"provider": "openai"}, 400),
        ({"provider": "local", "model": "m", "messages": HI}, 503),  # not configured
    ],
)
def test_calls_rejected_before_reaching_a_provider_are_not_recorded(api, upstream, settings, body, status):
    settings.PROVIDER_ENVIRONMENT["local"] = {}
    assert api.post("/generate", json=body).status_code == status
    assert not UsageEvent.objects.exists()


def test_concurrent_calls_are_recorded_separately(run_on_one_loop, upstream):
    numbers = range(10, 30)
    for number in numbers:
        upstream.will_answer(
            CHAT_COMPLETION if number % 2 else {"error": {"message": "No."}}, 200 if number % 2 else 429
        )

    async def calls(client):
        body = {"provider": "openai", "model": "m", "messages": HI}
        posts = [client.post("/generate", json=body, headers={"X-Request-ID": f"call-{n}"}) for n in numbers]
        return {answer.headers["X-Request-ID"]: answer.status_code for answer in await asyncio.gather(*posts)}

    answered = run_on_one_loop(calls)
    assert answered.keys() == {f"call-{number}" for number in numbers}
    assert dict(UsageEvent.objects.values_list("request_id", "status")) == answered
    assert UsageEvent.objects.count() == len(numbers)


# Costs


@pytest.mark.parametrize(
    ("slug", "model", "cost"),
    [
        ("openai", "gpt-4o-mini", "0.00000465"),  # 11 tokens at $0.15 and 5 at $0.60 per million
        ("claude", "claude-3-haiku-20240307", "0.000009"),  # 0.25 and 1.25
        ("google", "gemini-2.0-flash", "0.0000031"),  # 0.10 and 0.40
        ("openai", "no-such-model", None),
        ("azure", "my-deployment", None),
        ("ollama", "llama3", "0"),  # runs on the owner's machine
        ("local", "smollm2", "0"),
    ],
)
def test_a_completion_costs_its_list_price(api, upstream, slug, model, cost):
    upstream.will_answer(COMPLETIONS[slug])
    generate(api, slug, model)
    assert UsageEvent.objects.get().cost == (cost and Decimal(cost))


def test_embeddings_cost_their_list_price(api, upstream):
    upstream.will_answer(EMBEDDING_LIST)
    embed(api)
    assert UsageEvent.objects.get().cost == Decimal("0.00000014")  # 7 tokens at $0.02 per million


def test_the_owners_price_takes_precedence(api, upstream):
    ModelPrice.objects.create(provider="openai", model="gpt-4o-mini", input_price=100, output_price=1000)
    ModelPrice.objects.create(provider="azure", model="gpt-4o-mini", input_price=7, output_price=7)
    upstream.will_answer(CHAT_COMPLETION)
    generate(api)
    assert UsageEvent.objects.get().cost == Decimal("0.0061")


def test_images_cost_the_owners_price_per_image(api, upstream):
    ModelPrice.objects.create(
        provider="openai", model="dall-e-3", input_price=0, output_price=0, image_price=Decimal("0.04")
    )
    upstream.will_answer({"data": [{"b64_json": CAT_BASE64}] * 2})
    draw(api, model="dall-e-3", n=2)
    assert UsageEvent.objects.get().cost == Decimal("0.08")


@pytest.mark.parametrize("answer", [CHAT_COMPLETION, ANTHROPIC_MESSAGE])
def test_without_usage_there_is_no_cost(api, upstream, answer):
    upstream.will_answer({**answer, "usage": None})
    generate(api, "openai" if answer is CHAT_COMPLETION else "claude", "gpt-4o-mini")
    event = UsageEvent.objects.get()
    assert (event.status, event.total_tokens, event.cost) == (200, None, None)


@pytest.mark.parametrize(
    ("slug", "answer"),
    [
        ("openai", {**CHAT_COMPLETION, "choices": [{"message": {"content": ""}, "finish_reason": "length"}]}),
        ("openai", {**CHAT_COMPLETION, "choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}),
        ("claude", {**ANTHROPIC_MESSAGE, "content": []}),
        ("google", {**GENERATED_CONTENT, "candidates": [{"finishReason": "MAX_TOKENS"}]}),
    ],
)
def test_the_usage_of_an_empty_answer_is_recorded(api, upstream, slug, answer):
    upstream.will_answer(answer)
    assert generate(api, slug).status_code == 502
    event = UsageEvent.objects.get()
    assert (event.status, event.input_tokens, event.output_tokens, event.total_tokens) == (502, 11, 5, 16)


def test_reasoning_tokens_are_counted_as_output(api, upstream):
    """Google counts reasoning tokens only in the total; the caller gets the counts unchanged."""
    answer = deepcopy(GENERATED_CONTENT)
    answer["usageMetadata"] |= {"thoughtsTokenCount": 1000, "totalTokenCount": 1016}
    upstream.will_answer(answer)
    usage = generate(api, "google", "gemini-2.0-flash").json()["usage"]
    assert (usage["output_tokens"], usage["thought_tokens"], usage["total_tokens"]) == (5, 1000, 1016)
    event = UsageEvent.objects.get()
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (11, 1005, 1016)
    assert event.cost == Decimal("0.0004031")


# Values that the database could reject


@pytest.mark.parametrize(
    "counts",
    [
        {"prompt_tokens": -5, "completion_tokens": -5, "total_tokens": -10},
        {"prompt_tokens": 2**63, "completion_tokens": 10**30, "total_tokens": 1e300},
        {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 2},
    ],
)
def test_invalid_token_counts_are_clamped(api, upstream, counts):
    upstream.will_answer({**CHAT_COMPLETION, "usage": counts})
    assert generate(api, model="some-model").status_code == 200
    event = UsageEvent.objects.get()
    assert min(event.input_tokens, event.output_tokens, event.total_tokens) >= 0
    assert max(event.input_tokens, event.output_tokens, event.total_tokens) < 2**31


@pytest.mark.parametrize(
    ("model", "expected"), [("m" * 500, "m" * 200), ("a\x00b\n", "ab"), ("größe 模型", "größe 模型")]
)
def test_invalid_model_names_are_shortened_and_cleaned(api, upstream, model, expected):
    upstream.will_answer(CHAT_COMPLETION)
    assert generate(api, model=model).status_code == 200
    assert UsageEvent.objects.get().model == expected
