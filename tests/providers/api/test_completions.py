"""POST /generate: the request to each provider, and the response to the caller."""

import pytest

from providers.base import Capability
from providers.registry import PROVIDERS, providers_with
from providers.use_cases.completions import DEFAULT_INSTRUCTIONS
from tests.support.providers.answers import COMPLETIONS
from tests.support.providers.bodies import GOOGLE_USAGE, USAGE, request_body
from tests.support.providers.requests import CONVERSATION, SENT, generate

PLAIN_MESSAGES = [{"role": "system", "content": DEFAULT_INSTRUCTIONS}, {"role": "user", "content": "Hi"}]


PLAIN_CHAT = {"model": "some-model", "messages": PLAIN_MESSAGES, "temperature": 1.0, "top_p": 1.0}


# The body for a call without options.
PLAIN = {
    "openai": PLAIN_CHAT,
    "azure": {"model": "some-model", "messages": PLAIN_MESSAGES},
    "google": {
        "systemInstruction": {"role": "user", "parts": [{"text": DEFAULT_INSTRUCTIONS}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"temperature": 1.0, "topP": 1.0},
    },
    "openrouter": {**PLAIN_CHAT, "frequency_penalty": 0.0, "presence_penalty": 0.0},
    "claude": {
        "model": "some-model",
        "system": DEFAULT_INSTRUCTIONS,
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 4096,
        "temperature": 1.0,
    },
    "deepseek": {**PLAIN_CHAT, "thinking": {"type": "disabled"}},
    "xai": PLAIN_CHAT,
    "ollama": PLAIN_CHAT,
    "local": PLAIN_CHAT,
}


# The header that carries the key, and its value.
KEYS = {
    "openai": ("Authorization", "Bearer sk-openai-0123456789"),
    "azure": ("api-key", "azure0123456789abcdef"),
    "google": ("x-goog-api-key", "AIzaSyGoogle0123456789abcdefghijk"),
    "openrouter": ("Authorization", "Bearer sk-or-v1-0123456789"),
    "claude": ("x-api-key", "sk-ant-0123456789"),
    "deepseek": ("Authorization", "Bearer sk-deepseek-0123456789"),
    "xai": ("Authorization", "Bearer xai-0123456789"),
    "ollama": ("Authorization", "Bearer none"),  # the SDK requires a key
    "local": ("Authorization", "Bearer none"),
}


def test_every_provider_is_in_every_table():
    for table in (COMPLETIONS, SENT, PLAIN, KEYS):
        assert table.keys() == PROVIDERS.keys()
    assert len(providers_with(Capability.COMPLETION)) == len(PROVIDERS)


@pytest.mark.parametrize("slug", PROVIDERS)
def test_all_providers_give_the_same_completion(api, upstream, slug):
    upstream.will_answer(COMPLETIONS[slug])
    answer = generate(api, slug)
    assert answer.status_code == 200
    assert list(answer.json().items()) == [
        ("content", "Hi!"),
        ("usage", GOOGLE_USAGE if slug == "google" else USAGE),
        ("provider", PROVIDERS[slug].label),
        ("model", "some-model"),
    ]


@pytest.mark.parametrize("slug", PROVIDERS)
def test_calls_are_translated_for_each_provider(api, upstream, slug):
    upstream.will_answer(COMPLETIONS[slug])
    generate(api, slug, **CONVERSATION)
    (request,) = upstream.sent
    target, body = SENT[slug]
    assert (request.method, request.target) == ("POST", target)
    assert request.headers["content-type"] == "application/json"
    assert request.json == body


@pytest.mark.parametrize("slug", PROVIDERS)
def test_the_request_without_options(api, upstream, slug):
    assert request_body(api, upstream, slug) == PLAIN[slug]


@pytest.mark.parametrize("slug", PROVIDERS)
def test_the_key_is_sent_in_exactly_one_header(api, upstream, slug):
    request_body(api, upstream, slug)
    name, value = KEYS[slug]
    (request,) = upstream.sent
    assert request.headers[name] == value
    secret = value.removeprefix("Bearer ")
    assert [header for header, sent in request.headers.items() if secret in sent] == [name.lower()]
    assert secret not in request.target


def test_the_anthropic_api_version_is_one_that_accepts_a_temperature(api, upstream):
    request_body(api, upstream, "claude")
    assert upstream.sent[0].headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(("public_url", "referer"), [("https://bots.example", "https://bots.example"), ("", None)])
def test_openrouter_gets_the_public_url_as_referer(api, upstream, settings, public_url, referer):
    settings.PUBLIC_URL = public_url
    request_body(api, upstream, "openrouter")
    assert upstream.sent[0].headers["HTTP-Referer"] == referer
    assert upstream.sent[0].headers["X-OpenRouter-Title"] == "puffer"


@pytest.mark.parametrize("slug", [slug for slug in PROVIDERS if slug != "openrouter"])
def test_other_providers_do_not_get_the_public_url(api, upstream, settings, slug):
    settings.PUBLIC_URL = "https://bots.example"
    request_body(api, upstream, slug)
    assert "bots.example" not in str(upstream.sent[0].headers)


def test_azures_api_version_is_configurable(api, upstream, settings):
    settings.PROVIDER_ENVIRONMENT["azure"]["api_version"] = "2026-02-01"
    request_body(api, upstream, "azure")
    assert upstream.sent[0].query == {"api-version": ["2026-02-01"]}


@pytest.mark.parametrize("model", ["models/gemini-4", "gemini-4"])  # Google's list of models has the prefix
def test_a_google_model_may_be_named_with_or_without_its_prefix(api, upstream, model):
    request_body(api, upstream, "google", model=model)
    assert upstream.sent[0].target == "/v1beta/models/gemini-4:generateContent"


def test_turns_of_one_role_are_merged_for_google(api, upstream):
    roles = ["user", "user", "assistant", "assistant", "user"]
    messages = [{"role": role, "content": str(number)} for number, role in enumerate(roles)]
    assert request_body(api, upstream, "google", messages=messages)["contents"] == [
        {"role": "user", "parts": [{"text": "0"}, {"text": "1"}]},
        {"role": "model", "parts": [{"text": "2"}, {"text": "3"}]},
        {"role": "user", "parts": [{"text": "4"}]},
    ]


# Sampling


@pytest.mark.parametrize(
    ("model", "effort", "sent_effort"),
    [
        ("gpt-5", "low", "low"),
        ("gpt-5-mini", "minimal", "low"),
        ("gpt-5", "none", None),  # "none" is supported since 5.1
        ("gpt-5.1", "none", "none"),
        ("gpt-5.1", "xhigh", None),  # "xhigh" is supported since 5.2
        ("gpt-5.6-luna", "xhigh", "xhigh"),
        ("gpt-5-pro", "low", None),
        ("gpt-5-pro", "high", "high"),
        ("gpt-5.2-pro", "medium", "medium"),
        ("gpt-5.1-codex", "xhigh", "xhigh"),
        ("gpt-5-chat-latest", None, None),  # rejects sampling parameters like all of its family
        ("o1", "medium", "medium"),
        ("o3-mini", "high", "high"),
        ("o4-mini-2025-04-16", None, None),
        ("ft:o4-mini:acme::abc", "low", "low"),
        ("GPT-5", "low", "low"),
        ("o3", "enormous", None),
    ],
)
def test_reasoning_models_get_an_effort_and_no_sampling(api, upstream, model, effort, sent_effort):
    ai_params = {"temperature": 0.2, "top_p": 0.5, "frequency_penalty": 0.4, "max_completion_tokens": 9, "stop": "END"}
    ai_params["reasoning"] = {"effort": effort}
    body = request_body(api, upstream, "openai", model=model, ai_params=ai_params)
    assert not body.keys() & {"temperature", "top_p", "frequency_penalty", "presence_penalty", "reasoning"}
    assert body.get("reasoning_effort") == sent_effort
    assert (body["max_completion_tokens"], body["stop"]) == (9, ["END"])


@pytest.mark.parametrize(
    "model",
    ["gpt-4o", "gpt-4o1", "o1-chat-latest", "llama-o3x", "foo1", "gpt-4.5", "chatgpt-4o-latest"],
)
def test_other_models_get_sampling_and_no_effort(api, upstream, model):
    ai_params = {"temperature": 0.2, "reasoning": {"effort": "low"}}
    body = request_body(api, upstream, "openai", model=model, ai_params=ai_params)
    assert (body["temperature"], body["top_p"]) == (0.2, 1.0)
    assert "reasoning_effort" not in body


@pytest.mark.parametrize(
    ("ai_params", "sent"),
    [
        ({"temperature": 0.4}, {"temperature": 0.4}),
        ({"temperature": 1.7}, {"temperature": 1.0}),  # the API's maximum
        ({"top_p": 0.4}, {"top_p": 0.4}),
        ({"temperature": 1, "top_p": 0.4}, {"top_p": 0.4}),
        ({"temperature": 0.3, "top_p": 0.4}, {"temperature": 0.3}),  # the API rejects both together
        ({"temperature": 0.3, "top_p": 1}, {"temperature": 0.3}),
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"top_p": 3}, {"top_p": 1.0}),
        ({"top_p": -1}, {"top_p": 0.0}),
    ],
)
def test_anthropic_gets_either_temperature_or_top_p(api, upstream, ai_params, sent):
    body = request_body(api, upstream, "claude", ai_params=ai_params)
    assert {name: body[name] for name in ("temperature", "top_p") if name in body} == sent


@pytest.mark.parametrize(
    ("ai_params", "sent"),
    [
        ({}, {}),  # a deployment's name does not show whether its model supports sampling
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"temperature": None}, {}),
        ({"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
    ],
)
def test_azure_gets_only_explicit_parameters(api, upstream, settings, ai_params, sent):
    settings.AI_PARAMETERS = {"temperature": 0.7, "top_p": 0.8}
    body = request_body(api, upstream, "azure", ai_params=ai_params)
    assert {name: value for name, value in body.items() if name not in ("model", "messages")} == sent


@pytest.mark.parametrize(
    ("ai_params", "thinking"),
    [
        ({}, {"type": "disabled"}),
        ({"reasoning": {"effort": "high"}}, {"type": "enabled"}),
        ({"reasoning": {"effort": "none"}}, {"type": "disabled"}),
        ({"thinking": {"type": "enabled"}}, {"type": "enabled"}),
        ({"thinking": "yes"}, {"type": "disabled"}),
    ],
)
def test_thinking_of_deepseek_is_disabled_by_default(api, upstream, ai_params, thinking):
    assert request_body(api, upstream, "deepseek", ai_params=ai_params)["thinking"] == thinking


@pytest.mark.parametrize(
    ("ai_params", "sent"),
    [
        ({"temperature": -1}, {"temperature": 0.0}),
        ({"temperature": 9}, {"temperature": 2.0}),
        ({"temperature": "0.3"}, {"temperature": 0.3}),
        ({"temperature": "hot"}, {"temperature": 0.0}),
        ({"temperature": "0.5 or so"}, {"temperature": 0.5}),  # PHP reads the leading number
        ({"temperature": [1]}, {"temperature": 0.0}),
        ({"temperature": "NAN"}, {"temperature": 0.0}),
        ({"temperature": None}, {"temperature": 1.0}),
        ({"max_completion_tokens": 0}, {"max_tokens": 1}),
        ({"max_completion_tokens": -5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 500_000}, {"max_tokens": 128_000}),
        ({"max_completion_tokens": "abc"}, {"max_tokens": 1}),
        ({"max_completion_tokens": "25"}, {"max_tokens": 25}),
        ({"max_completion_tokens": 7.9}, {"max_tokens": 7}),
        ({"max_completion_tokens": 1e300}, {"max_tokens": 128_000}),
        ({"max_completion_tokens": None}, {}),
        ({"max_tokens": 30}, {"max_tokens": 30}),
        ({"max_tokens": 30, "max_completion_tokens": 20}, {"max_tokens": 20}),
        ({"max_tokens": 30, "max_completion_tokens": None}, {"max_tokens": 30}),
        ({"top_p": 7}, {"top_p": 7.0}),  # only temperature and tokens are clamped; the provider may reject the rest
        ({"top_k": -4}, {"top_k": 4}),
        ({"presence_penalty": "x"}, {"presence_penalty": 0.0}),
        ({"top_logprobs": 0}, {"top_logprobs": 0}),
        ({"top_logprobs": 2}, {"top_logprobs": 2, "logprobs": True}),
        ({"stop": "END"}, {"stop": ["END"]}),
        ({"stop": ["END", "", None, 3, "."]}, {"stop": ["END", "."]}),
        ({"stop": ""}, {}),
        ({"stop": []}, {}),
        ({"stop": {"a": "b"}}, {}),
        ({"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
        ({"reasoning": "high"}, {}),
        ({"reasoning": {"effort": ["high"]}}, {}),
        (
            {
                "tools": [{}],
                "image_inputs": ["x"],
                "n": 4,
                "stream": True,
                "model": "other",
                "previous_response_id": "y",
            },
            {},
        ),
    ],
)
def test_ai_params_are_converted_as_in_ai_puffer(api, upstream, ai_params, sent):
    body = request_body(api, upstream, "openrouter", ai_params=ai_params)
    assert body == {**PLAIN["openrouter"], **sent}


def test_the_sites_defaults_apply_to_missing_parameters(api, upstream, settings):
    settings.AI_PARAMETERS = {"temperature": 0.3, "top_p": None, "max_completion_tokens": 77}
    body = request_body(api, upstream, "deepseek", ai_params={"stop": "END"})
    assert body == {
        "model": "some-model",
        "messages": PLAIN_MESSAGES,
        "temperature": 0.3,
        "max_tokens": 77,
        "stop": ["END"],
        "thinking": {"type": "disabled"},
    }
