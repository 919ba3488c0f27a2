"""Passages in the order of a reranker: what it is sent, which answers are understood, and what happens without one."""

import json
import time

import pytest
from cryptography.fernet import Fernet

from chatbots.models import Chatbot
from logs.models import ModelPrice, UsageDailyTotal, UsageEvent
from tests.support.upstream import Upstream, answering, closed_port, stalling, streaming
from vectorstores.models import Reranker

SECRET = "co-secret-of-the-reranker"
QUESTION = "Which shoes are made of leather?"
# The more words of the question, the better: the search's order.
TEXTS = {
    "both": "Shoes made of leather are durable.",
    "made": "Shoes made by hand take a week.",
    "shoes": "Shoes come in a box, with a bag and a brush.",
}
FUSED = list(TEXTS)
REVERSED = FUSED[::-1]


@pytest.fixture
def reranker(db, openai: Upstream):
    return Reranker.objects.create(
        name="Cohere", base_url=f"{openai.url}/v2", model="rerank-v3.5", api_key=SECRET, milliseconds=5000
    )


@pytest.fixture
def bot(store, reranker):
    store(*({"id": id, "content": text, "metadata": {"title": id}} for id, text in TEXTS.items()))
    return Chatbot.objects.create(
        name="Shop", provider="openai", model="gpt-4o-mini", enable_vector_store=True, collections=["shop"],
        vector_store_confidence_threshold=10, reranker="Cohere",
    )  # fmt: skip


def ordering(*places, key="results", score="relevance_score", **more):
    """Return an answer that puts the texts at these places first, second and so on, but does not list them so."""
    rows = [{"index": place, score: 1 - rank / 10} for rank, place in enumerate(places)]
    return {key: rows[::-1], **more}


def ask(api, bot, question=QUESTION, history=()):
    response = api.post(f"/chat/{bot.pk}/message", json={"messages": [*history, {"role": "user", "content": question}]})
    assert response.status_code == 200, response.text
    return [source["title"] for source in response.json()["sources"]]


def rerank_calls(openai):
    return [sent for sent in openai.sent if sent.path.endswith("/rerank")]


def test_passages_come_in_the_rerankers_order(api, bot, openai):
    openai.serves("/v2/rerank", ordering(2, 1, 0))
    assert ask(api, bot) == REVERSED
    [call] = rerank_calls(openai)
    assert (call.method, call.path) == ("POST", "/v2/rerank")
    assert call.headers["authorization"] == f"Bearer {SECRET}"
    assert call.headers["content-type"] == "application/json"
    assert call.json == {
        "model": "rerank-v3.5",
        "query": QUESTION,
        "documents": [f"{id}\n{text}" for id, text in TEXTS.items()],
        "top_n": 3,
    }
    prompt = openai.sent[-1].json["messages"][-1]["content"]
    assert [prompt.index(f"{title}\n") for title in REVERSED] == sorted(prompt.index(f"{title}\n") for title in FUSED)


def test_without_a_reranker_nothing_is_sent(api, bot, openai):
    Chatbot.objects.update(reranker="")
    assert ask(api, bot) == FUSED
    assert not rerank_calls(openai)


@pytest.mark.parametrize(
    ("protocol", "model", "names"),
    [
        ("common", "m", ["documents", "model", "query", "top_n"]),
        ("common", "", ["documents", "query", "top_n"]),
        ("voyage", "m", ["documents", "model", "query", "top_k"]),
        ("tei", "m", ["query", "texts", "truncate"]),
    ],
)
def test_each_protocol_has_its_own_parameters(api, bot, reranker, openai, protocol, model, names):
    Reranker.objects.update(protocol=protocol, model=model)
    openai.serves("/v2/rerank", ordering(2, 1, 0))
    assert ask(api, bot) == REVERSED
    assert sorted(rerank_calls(openai)[0].json) == names


@pytest.mark.parametrize(
    "answer",
    [
        ordering(2, 1, 0, id="x", meta={"api_version": {"version": "2"}}),  # Cohere
        ordering(2, 1, 0, model="m", usage={"total_tokens": 40}),  # Jina
        ordering(2, 1, 0, key="data", object="list", usage={"total_tokens": 40}),  # Voyage
        ordering(2, 1, 0, score="score")["results"],  # Text Embeddings Inference
        {"results": [{"index": 2, "relevance_score": 3.5, "document": {"text": "..."}}, {"index": 1, "score": 0},
                     {"index": 0, "relevance_score": -7}]},  # vLLM with raw scores
        {"data": [{"index": place, "score": 0.5} for place in (2, 1, 0)]},  # equal scores: the answer's order
    ],
)  # fmt: skip
def test_the_answers_of_all_servers_are_understood(api, bot, openai, answer):
    openai.serves("/v2/rerank", answer)
    assert ask(api, bot) == REVERSED


def test_only_as_many_passages_as_set_are_used_but_more_are_compared(api, bot, store, openai):
    store(*({"id": f"more-{n}", "content": f"Shoes, pair {n}.", "metadata": {"title": f"more {n}"}} for n in range(30)))
    Chatbot.objects.update(vector_store_top_k=2)
    openai.serves("/v2/rerank", ordering(*range(19, -1, -1)))
    found = ask(api, bot)
    documents = rerank_calls(openai)[0].json["documents"]
    assert len(documents) == 20
    assert [text.partition("\n")[0] for text in documents[:-3:-1]] == found


def test_the_threshold_decides_alone_what_is_enough(api, bot, openai):
    """A passage that the search refuses never reaches the reranker, and one that it accepts is never refused."""
    openai.serves("/v2/rerank", {"results": [{"index": 0, "relevance_score": -9}, {"index": 1, "relevance_score": -8}]})
    Chatbot.objects.update(vector_store_confidence_threshold=40)
    assert ask(api, bot) == ["made", "both"]
    assert len(rerank_calls(openai)[0].json["documents"]) == 2


def test_a_single_passage_needs_no_reranker(api, bot, openai):
    Chatbot.objects.update(vector_store_confidence_threshold=60)
    assert ask(api, bot) == ["both"]
    assert not rerank_calls(openai)


def test_the_passages_of_all_collections_are_ordered_together(api, bot, store, openai):
    store({"id": "belts", "content": "Belts made of leather.", "metadata": {"title": "belts"}}, target="belts")
    Chatbot.objects.update(collections=["shop", "belts"])

    def belts_last(connection):
        texts = connection.received.json["documents"]
        places = sorted(range(len(texts)), key=lambda place: texts[place].startswith("belts"))
        answering(ordering(*places))(connection)

    openai.pages["/v2/rerank"] = belts_last
    assert ask(api, bot)[-1] == "belts"


def test_a_follow_up_is_compared_as_it_is_searched_for(api, bot, openai):
    openai.serves("/v2/rerank", ordering(2, 1, 0))
    ask(api, bot, "Made of leather?", [{"role": "user", "content": "Which shoes do you sell?"}])
    assert rerank_calls(openai)[0].json["query"] == "Which shoes do you sell?\nMade of leather?"


def test_long_texts_are_cut(api, bot, store, openai):
    store({"id": "long", "content": "Shoes made of leather. " * 200, "metadata": {"title": "long"}})
    openai.serves("/v2/rerank", ordering(0, 1, 2, 3))
    ask(api, bot, f"{QUESTION} {'x' * 5000}")
    sent = rerank_calls(openai)[0].json
    assert len(sent["query"]) == 2000
    assert max(map(len, sent["documents"])) == 2000


# Failures


def nonsense(**changes):
    return {"results": [{"index": 0, "relevance_score": 0.2}, {"index": 1, "relevance_score": 0.9}, changes]}


def status(code, body=b"", **headers):
    return answering(body, code, headers)


FAILURES = {
    "slow": (stalling(b""), 504, "did not answer within 150 ms"),
    "slow body": (stalling(b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{"), 504, "did not answer within 150 ms"),
    "broken off": (streaming([b'{"results": ['], 0, "break off", {}), 502, "closed the connection"),
    "rate limited": (status(429, {"message": "Slow down."}), 429, "(HTTP 429): Slow down."),
    "key refused": (status(401, {"detail": f"Bad key {SECRET}"}), 502, "(HTTP 401): Bad key [redacted]"),
    "unknown model": (status(404, {"error": {"message": "No such model"}}), 404, "(HTTP 404): No such model"),
    "own fault": (status(500, {"error": "boom"}), 502, "(HTTP 500): boom"),
    "no body": (status(503), 503, "(HTTP 503): "),
    "redirect": (status(307, location="http://169.254.169.254/"), 502, "a redirect, which is not followed"),
    "web page": (status(200, b"<html>Welcome</html>"), 502, "cannot be read"),
    "web page of an error": (status(502, b"<html><b>Bad gateway</b></html>"), 502, "(HTTP 502): Bad gateway"),
    "nothing": (status(200), 502, "cannot be read"),
    "half of the JSON": (status(200, json.dumps(ordering(2, 1, 0)).encode()[:-20]), 502, "cannot be read"),
    "huge": (status(200, b"[" + b" " * 5_000_000 + b"]"), 502, "is larger than 4194304 bytes"),
    "deep": (status(200, b"[" * 100_000), 502, "cannot be read"),
    "a text": (status(200, '"results"'), 502, "cannot be read"),
    "null": (status(200, b"null"), 502, "cannot be read"),
    "no results": (status(200, {"message": "ok"}), 502, "cannot be read"),
    "results are an object": (status(200, {"results": {"0": 1}}), 502, "cannot be read"),
    "results are numbers": (status(200, {"results": [0.1, 0.2, 0.3]}), 502, "cannot be read"),
    "too few": (status(200, ordering(2, 1)), 502, "ordered only 2 of 3 texts"),
    "none": (status(200, {"results": []}), 502, "ordered only 0 of 3 texts"),
    "index out of range": (status(200, nonsense(index=3, relevance_score=1)), 502, "cannot be read"),
    "negative index": (status(200, nonsense(index=-1, relevance_score=1)), 502, "cannot be read"),
    "doubled index": (status(200, nonsense(index=1, relevance_score=1)), 502, "cannot be read"),
    "index is true": (status(200, nonsense(index=True, relevance_score=1)), 502, "cannot be read"),
    "index is text": (status(200, nonsense(index="2", relevance_score=1)), 502, "cannot be read"),
    "no index": (status(200, nonsense(relevance_score=1)), 502, "cannot be read"),
    "no score": (status(200, nonsense(index=2)), 502, "cannot be read"),
    "score is NaN": (status(200, nonsense(index=2, relevance_score=float("nan"))), 502, "cannot be read"),
    "score is infinite": (status(200, nonsense(index=2, relevance_score=float("inf"))), 502, "cannot be read"),
    "score is text": (status(200, nonsense(index=2, relevance_score="0.9")), 502, "cannot be read"),
    "score is null": (status(200, nonsense(index=2, relevance_score=None)), 502, "cannot be read"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_any_failure_keeps_the_order_of_the_search(api, bot, openai, caplog, name):
    behavior, recorded, words = FAILURES[name]
    if "slow" in name:
        Reranker.objects.update(milliseconds=150)
    openai.pages["/v2/rerank"] = behavior
    assert ask(api, bot) == FUSED
    assert words in caplog.text
    assert SECRET not in caplog.text
    event = UsageEvent.objects.get(operation="rerank")
    assert (event.status, event.error_code, event.cost) == (recorded, "reranker_error", None)
    assert len(rerank_calls(openai)) == 1


def test_an_unreachable_reranker(api, bot, caplog):
    with closed_port() as url:
        Reranker.objects.update(base_url=url)
        assert ask(api, bot) == FUSED
    assert "Cohere cannot be reached, or closed the connection." in caplog.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "Renamed"}, "There is no reranker named 'Cohere'."),
        ({"base_url": "http://10.0.0.1:8080"}, "base URL of Cohere is not allowed"),
        ({"base_url": "http://rerank.example"}, "Plain http is allowed only on this machine"),
        ({"base_url": "https://rerank.example:x"}, "not a valid URL"),
        ({"api_key": "schlüssel"}, "contains invalid characters"),
    ],
)
def test_settings_that_cannot_be_used(api, bot, openai, caplog, fields, words):
    Reranker.objects.update(**fields)
    assert ask(api, bot) == FUSED
    assert words in caplog.text
    assert not rerank_calls(openai)
    assert not UsageEvent.objects.filter(operation="rerank").exists()


def test_a_key_that_cannot_be_decrypted(api, bot, reranker, openai, caplog, settings):
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    reranker.save()
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert ask(api, bot) == FUSED
    assert "No key in PUFFER_ENCRYPTION_KEYS can decrypt the API key of Cohere." in caplog.text
    assert not rerank_calls(openai)


# Usage


@pytest.mark.parametrize(
    ("answer", "price", "tokens", "cost"),
    [
        (ordering(2, 1, 0), 2, None, 0.002),
        (ordering(2, 1, 0, meta={"billed_units": {"search_units": 3}}), 2, None, 0.006),
        (ordering(2, 1, 0, meta={"billed_units": {"search_units": -3}}), 2, None, 0.002),
        (ordering(2, 1, 0), 0, None, 0),
        (ordering(2, 1, 0), None, None, None),
        (ordering(2, 1, 0, usage={"total_tokens": 40}), None, 40, 0.00004),
        (ordering(2, 1, 0, usage={"prompt_tokens": 40}), None, 40, 0.00004),
        (ordering(2, 1, 0, usage={"total_tokens": "many"}), None, None, None),
        (ordering(2, 1, 0, usage=[40]), None, None, None),
        (ordering(2, 1, 0, usage={"total_tokens": 40}), 2, 40, 0.002),
    ],
)
def test_the_call_is_recorded_with_its_cost(api, api_key, bot, reranker, openai, answer, price, tokens, cost):
    ModelPrice.objects.create(provider="Cohere", model="rerank-v3.5", input_price=1, output_price=0)
    reranker.price = price
    reranker.save()

    def take_a_moment(connection):
        time.sleep(0.02)
        answering(answer)(connection)

    openai.pages["/v2/rerank"] = take_a_moment
    assert ask(api, bot) == REVERSED
    event = UsageEvent.objects.get(operation="rerank")
    assert (event.provider, event.model, event.chatbot, event.api_key) == ("Cohere", "rerank-v3.5", bot, api_key)
    assert (event.status, event.input_tokens) == (200, tokens)
    assert event.milliseconds >= 20
    assert event.cost is cost or float(event.cost) == cost
    total = UsageDailyTotal.objects.get(operation="rerank")
    assert (total.calls, total.without_price, float(total.cost)) == (1, cost is None, cost or 0)
