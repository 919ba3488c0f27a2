"""POST /embeddings: the request to each provider, and the response to the caller."""

import base64
import struct

import pytest

from providers.base import Capability
from providers.registry import PROVIDERS, providers_with
from tests.support.providers.answers import EMBEDDING_LIST, EMBEDDINGS, VECTORS

SLUGS = [provider.slug for provider in providers_with(Capability.EMBEDDING)]

# All options of a call, and the target and body that each provider is sent for them.
OPTIONS = {
    "dimensions": 3,
    "encoding_format": "float",
    "task_type": "RETRIEVAL_QUERY",
    "output_dimensionality": 2,
    "user": "eve",
}
BODY = {"model": "some-model", "input": ["one", "two"], "dimensions": 3}
SENT = {
    "openai": ("/v1/embeddings", {**BODY, "encoding_format": "float", "user": "eve"}),
    "azure": (
        "/openai/deployments/some-model/embeddings?api-version=2025-01-01-preview",
        {**BODY, "user": "eve"},
    ),
    "google": (
        "/v1beta/models/some-model:batchEmbedContents",
        {
            "requests": [
                {
                    "model": "models/some-model",
                    "content": {"parts": [{"text": text}]},
                    "taskType": "RETRIEVAL_QUERY",
                    "outputDimensionality": 2,
                }
                for text in ("one", "two")
            ]
        },
    ),
    "openrouter": ("/api/v1/embeddings", {**BODY, "encoding_format": "float"}),
    "ollama": ("/v1/embeddings", BODY),
    "local": ("/v1/embeddings", {**BODY, "task_type": "RETRIEVAL_QUERY"}),
}
# The body for a call without options.
PLAIN = {
    "openai": {"model": "some-model", "input": ["one", "two"], "encoding_format": "float"},
    "azure": {"model": "some-model", "input": ["one", "two"]},
    "google": {
        "requests": [{"model": "models/some-model", "content": {"parts": [{"text": text}]}} for text in ("one", "two")]
    },
    "openrouter": {"model": "some-model", "input": ["one", "two"], "encoding_format": "float"},
    "ollama": {"model": "some-model", "input": ["one", "two"]},
    "local": {"model": "some-model", "input": ["one", "two"]},
}


def embed(api, provider, input=("one", "two"), **options):
    return api.post("/embeddings", json={"provider": provider, "model": "some-model", "input": input, **options})


def as_base64(vector):
    """Return the vector encoded as the API's encoding_format "base64"."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def embedding_list(*embeddings, **fields):
    """Return an answer with these (index, embedding) pairs, in the given order."""
    data = [{"object": "embedding", "index": index, "embedding": embedding} for index, embedding in embeddings]
    return {**EMBEDDING_LIST, "data": data, **fields}


def test_every_embedding_provider_is_in_every_table():
    for table in (EMBEDDINGS, SENT, PLAIN):
        assert table.keys() == set(SLUGS)


@pytest.mark.parametrize("slug", SLUGS)
def test_all_providers_give_the_same_embeddings(api, upstream, slug):
    upstream.will_answer(EMBEDDINGS[slug])
    answer = embed(api, slug)
    assert answer.status_code == 200
    assert list(answer.json().items()) == [
        ("embeddings", VECTORS),
        ("usage", None if slug == "google" else {"input_tokens": 7, "total_tokens": 7}),
        ("provider", PROVIDERS[slug].label),
        ("model", "some-model"),
    ]


@pytest.mark.parametrize("slug", SLUGS)
def test_options_are_translated_for_each_provider(api, upstream, slug):
    upstream.will_answer(EMBEDDINGS[slug])
    embed(api, slug, **OPTIONS)
    (request,) = upstream.sent
    target, body = SENT[slug]
    assert (request.method, request.target) == ("POST", target)
    assert request.json == body


@pytest.mark.parametrize("slug", SLUGS)
def test_the_request_without_options(api, upstream, slug):
    upstream.will_answer(EMBEDDINGS[slug])
    embed(api, slug)
    assert upstream.sent[0].json == PLAIN[slug]


@pytest.mark.parametrize("slug", SLUGS)
def test_one_string_gives_a_list_of_one_vector(api, upstream, slug):
    one = {"embeddings": [{"values": VECTORS[0]}]} if slug == "google" else embedding_list((0, VECTORS[0]))
    upstream.will_answer(one)
    assert embed(api, slug, input="one, two").json()["embeddings"] == [VECTORS[0]]
    assert "one, two" in str(upstream.sent[0].json)  # not split at the comma


@pytest.mark.parametrize(
    ("slug", "option", "value", "name", "sent"),
    [
        ("openai", "dimensions", -256, "dimensions", 256),
        ("openai", "dimensions", 0, "dimensions", None),
        ("openai", "dimensions", "256", "dimensions", 256),
        ("google", "output_dimensionality", -2, "outputDimensionality", 2),
        ("google", "output_dimensionality", 0, "outputDimensionality", None),
        ("google", "task_type", "CODE_RETRIEVAL_QUERY", "taskType", "CODE_RETRIEVAL_QUERY"),
        ("openai", "user", "", "user", None),
    ],
)
def test_options_are_converted_as_in_ai_puffer(api, upstream, slug, option, value, name, sent):
    upstream.will_answer(EMBEDDINGS[slug])
    embed(api, slug, **{option: value})
    body = upstream.sent[0].json
    assert (body["requests"][0] if slug == "google" else body).get(name) == sent


@pytest.mark.parametrize("slug", ["openai", "openrouter"])
def test_base64_is_returned_if_requested(api, upstream, slug):
    upstream.will_answer(embedding_list((0, as_base64(VECTORS[0])), (1, as_base64(VECTORS[1]))))
    answer = embed(api, slug, encoding_format="base64")
    assert upstream.sent[0].json["encoding_format"] == "base64"
    assert answer.json()["embeddings"] == [as_base64(VECTORS[0]), as_base64(VECTORS[1])]


@pytest.mark.parametrize("slug", ["openai", "openrouter"])
def test_floats_are_encoded_if_the_server_ignores_base64(api, upstream, slug):
    upstream.will_answer(EMBEDDING_LIST)
    assert embed(api, slug, encoding_format="base64").json()["embeddings"] == [as_base64(vector) for vector in VECTORS]


def test_unrequested_base64_is_decoded(api, upstream):
    upstream.will_answer(embedding_list((0, as_base64(VECTORS[0])), (1, as_base64(VECTORS[1]))))
    assert embed(api, "azure").json()["embeddings"] == VECTORS


@pytest.mark.parametrize("slug", ["azure", "google", "ollama", "local"])
def test_providers_without_base64_return_floats(api, upstream, slug):
    upstream.will_answer(EMBEDDINGS[slug])
    assert embed(api, slug, encoding_format="base64").json()["embeddings"] == VECTORS


def test_vectors_are_in_the_order_of_the_texts(api, upstream):
    upstream.will_answer(
        embedding_list((2, [3.0]), (0, [1.0]), (10, [11.0]), *((n, [n + 1.0]) for n in (1, *range(3, 10))))
    )
    answer = embed(api, "openai", input=[str(number) for number in range(11)])
    assert answer.json()["embeddings"] == [[number + 1.0] for number in range(11)]


@pytest.mark.parametrize("index", [{}, {"index": None}])
def test_without_indexes_the_order_is_kept(api, upstream, index):
    upstream.will_answer({"data": [{"embedding": vector, **index} for vector in VECTORS]})
    assert embed(api, "openai").json()["embeddings"] == VECTORS


def test_indexes_may_be_counted_from_1(api, upstream):
    upstream.will_answer(embedding_list((2, VECTORS[1]), (1, VECTORS[0])))
    assert embed(api, "openai").json()["embeddings"] == VECTORS


@pytest.mark.parametrize(
    "answer",
    [
        embedding_list((0, [1.0])),
        embedding_list((0, [1.0]), (1, [2.0]), (2, [3.0])),
        embedding_list((0, [1.0]), (0, [2.0])),  # whose would be whose?
        embedding_list((0, [1.0]), ("1", [2.0])),
        embedding_list(),
    ],
)
def test_a_wrong_count_or_index_is_an_error(api, upstream, answer):
    upstream.will_answer(answer)
    refused = embed(api, "openai")
    assert (refused.status_code, refused.json()["code"]) == (502, "openai_embedding_no_data_logic")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_count_from_google_is_an_error(api, upstream, count):
    upstream.will_answer({"embeddings": [{"values": [1.0]}] * count})
    refused = embed(api, "google")
    assert (refused.status_code, refused.json()["code"]) == (502, "google_embedding_no_data_logic")


@pytest.mark.parametrize(
    "embedding",
    [
        [],
        "",
        None,
        {},
        7,
        ["1.5"],
        [None],
        [[1.0]],
        [1e300],  # too large for a float32
        "no base64 at all!",
        base64.b64encode(b"12345").decode(),  # not a multiple of 4 bytes
        as_base64([float("nan")]),
        as_base64([float("inf")]),
    ],
)
@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_invalid_vectors_are_an_error(api, upstream, embedding, encoding_format):
    upstream.will_answer(embedding_list((0, [1.0]), (1, embedding)))
    refused = embed(api, "openai", encoding_format=encoding_format)
    assert (refused.status_code, refused.json()["code"]) == (502, "openai_embedding_no_data_logic")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 7, "total_tokens": 9}, {"input_tokens": 7, "total_tokens": 9}),
        ({"prompt_tokens": 7}, {"input_tokens": 7, "total_tokens": 7}),
        ({"input_tokens": 7, "total_tokens": 7, "cost": 0.1}, {"input_tokens": 7, "total_tokens": 7}),
        ({}, None),
        (None, None),
    ],
)
def test_usage_is_normalized_or_null(api, upstream, usage, expected):
    upstream.will_answer(embedding_list((0, [1.0]), (1, [2.0]), usage=usage))
    assert embed(api, "openai").json()["usage"] == expected


def test_too_many_texts_are_refused(api, upstream):
    refused = embed(api, "openai", input=2049 * ["x"])
    assert (refused.status_code, refused.json()["code"]) == (400, "rest_invalid_param")
    assert upstream.sent == []


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize(
    ("input", "index"),
    [("", None), (" ", 0), (["one", "\n\t"], 1), (["one", "\u200b"], 1), (["", "two"], 0), ([], None)],
)
def test_a_blank_text_is_refused_with_its_index(api, upstream, slug, input, index):
    refused = embed(api, slug, input=input)
    code = "rest_aipkit_missing_param" if index is None else "rest_aipkit_invalid_param"
    assert (refused.status_code, refused.json()["code"]) == (400, code)
    assert index is None or f"input[{index}]" in refused.json()["message"]
    assert upstream.sent == []


def test_texts_are_sent_unchanged(api, upstream):
    """Unlike prompts, texts are not cleaned: the vector must belong to the exact text."""
    texts = [" Grüße\r\n", "<b>你好</b>"]
    upstream.will_answer(EMBEDDING_LIST)
    embed(api, "openai", input=texts)
    assert upstream.sent[0].json["input"] == texts


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"model": ""}, "rest_aipkit_missing_param"),
        ({"provider": "claude"}, "rest_invalid_param"),  # does not offer embeddings
        ({"encoding_format": "hex"}, "rest_invalid_param"),
        ({"task_type": "retrieval_query"}, "rest_invalid_param"),
        ({"dimensions": "many"}, "rest_invalid_param"),
        ({"input": ["one", 2]}, "rest_invalid_param"),
    ],
)
def test_invalid_calls_are_not_sent(api, upstream, options, code):
    refused = embed(api, **{"provider": "openai", **options})
    assert (refused.status_code, refused.json()["code"]) == (400, code)
    assert upstream.sent == []
