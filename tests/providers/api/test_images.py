"""POST /images/generate: the request to each provider, the response, and how images are stored or fetched."""

import pytest

from providers.models import ProviderConfig
from tests.support.providers.answers import CAT_BASE64, GPT_IMAGE, IMAGES
from tests.support.providers.images import SLUGS, draw, image_at

# All options of a call, and the target and body that each provider is sent for them.
OPENROUTER_OPTIONS = {
    "n": 1,
    "size": "1536x1024",
    "quality": "high",
    "aspect_ratio": "16:9",
    "resolution": "2K",
    "output_format": "webp",
    "output_compression": 80,
    "background": "opaque",
    "seed": 7,
}
OPTIONS = {**OPENROUTER_OPTIONS, "style": "vivid", "response_format": "b64_json"}


GPT_IMAGE_BODY = {
    "model": "some-model",
    "prompt": "a cat",
    "n": 1,
    "user": "rest_api_user",
    "size": "1536x1024",
    "quality": "high",
    "output_format": "webp",
    "background": "opaque",
    "output_compression": 80,
}


SENT = {
    "openai": ("/v1/images/generations", GPT_IMAGE_BODY),
    "azure": ("/openai/deployments/some-model/images/generations?api-version=2025-04-01-preview", GPT_IMAGE_BODY),
    "google": (
        "/v1beta/models/some-model:generateContent",
        {
            "contents": [{"role": "user", "parts": [{"text": "a cat"}]}],
            "generationConfig": {
                "responseModalities": ["IMAGE"],
                "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
                "seed": 7,
            },
        },
    ),
    "openrouter": ("/api/v1/images", {"model": "some-model", "prompt": "a cat", **OPENROUTER_OPTIONS}),
}


USAGE = {"input_tokens": 9, "output_tokens": 272, "total_tokens": 281}


def test_every_image_provider_is_in_every_table():
    for table in (IMAGES, SENT):
        assert table.keys() == set(SLUGS)


@pytest.mark.parametrize("slug", SLUGS)
def test_all_providers_give_the_same_image(api, upstream, slug):
    upstream.will_answer(IMAGES[slug])
    answer = draw(api, slug, response_format="b64_json").json()
    assert list(answer) == ["images", "usage", "message"]
    (image,) = answer["images"]
    assert image.pop("mime_type", "image/png") == "image/png"  # if the provider reports it
    assert image == {"url": None, "b64_json": CAT_BASE64, "revised_prompt": None}
    assert {name: answer["usage"][name] for name in USAGE} == USAGE
    assert answer["message"] == "1 image generated successfully."


@pytest.mark.parametrize("slug", SLUGS)
def test_options_are_translated_for_each_provider(api, upstream, slug):
    upstream.will_answer(IMAGES[slug])
    draw(api, slug, **OPTIONS)
    (request,) = upstream.sent
    target, body = SENT[slug]
    assert (request.method, request.target) == ("POST", target)
    assert request.json == body


DALL_E = {"model": "dall-e-3", "prompt": "a cat", "n": 1, "user": "rest_api_user", "response_format": "url"}


GPT = {"model": "gpt-image-2", "prompt": "a cat", "n": 1, "user": "rest_api_user"}


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({"model": "gpt-image-2"}, {**GPT, "size": "1024x1024", "output_format": "png"}),
        ({"model": "gpt-image-2", "quality": "hd"}, {**GPT, "size": "1024x1024", "output_format": "png"}),
        (
            {"model": "gpt-image-2", "background": "transparent", "output_format": "jpeg", "output_compression": 50},
            {**GPT, "size": "1024x1024", "output_format": "png", "background": "transparent"},  # JPEG has no alpha
        ),
        (
            {"model": "gpt-image-2", "output_format": "png", "output_compression": 50},
            {**GPT, "size": "1024x1024", "output_format": "png"},  # PNG is lossless
        ),
        ({"model": "dall-e-3"}, DALL_E),
        (
            {"model": "dall-e-3", "size": "1792x1024", "quality": "hd", "style": "natural"},
            {**DALL_E, "size": "1792x1024", "quality": "hd", "style": "natural"},
        ),
        ({"model": "dall-e-3", "quality": "high", "background": "opaque", "output_format": "png", "seed": 1}, DALL_E),
    ],
)
def test_openai_gets_only_options_that_the_model_supports(api, upstream, options, body):
    upstream.will_answer(image_at("https://cdn.example/cat.png"))
    draw(api, **options)
    assert upstream.sent[0].json == body


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({}, {"responseModalities": ["IMAGE"]}),
        ({"aspect_ratio": "auto"}, {"responseModalities": ["IMAGE"]}),
        ({"aspect_ratio": "9:21"}, {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "9:21"}}),
        ({"resolution": "512"}, {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "512"}}),
        ({"seed": 0}, {"responseModalities": ["IMAGE"], "seed": 0}),
    ],
)
def test_google_gets_an_image_config_only_if_requested(api, upstream, options, config):
    upstream.will_answer(IMAGES["google"])
    draw(api, "google", **options)
    assert upstream.sent[0].json["generationConfig"] == config


def test_a_retired_imagen_model_is_sent_to_the_same_endpoint(api, upstream):
    """Google has shut down Imagen and its endpoint; its error for the model's name is passed on."""
    upstream.will_answer({"error": {"code": 404, "message": "models/imagen-4.0 is not found."}}, status=404)
    answer = draw(api, "google", model="imagen-4.0-generate-001")
    assert (answer.status_code, answer.json()["code"]) == (404, "google_interactions_not_found")
    assert upstream.sent[0].target == "/v1beta/models/imagen-4.0-generate-001:generateContent"


@pytest.mark.parametrize(("sent", "prompt"), [(" a\r\ncat\x00 ", "a\ncat"), ("<b>Katze</b> 🐈", "<b>Katze</b> 🐈")])
def test_the_prompt_is_cleaned(api, upstream, sent, prompt):
    upstream.will_answer(GPT_IMAGE)
    draw(api, prompt=sent)
    assert upstream.sent[0].json["prompt"] == prompt


@pytest.mark.parametrize("prompt", ["", "  ", "\r\n\x00"])
def test_an_empty_prompt_is_refused(api, upstream, prompt):
    answer = draw(api, prompt=prompt)
    assert (answer.status_code, answer.json()["code"]) == (400, "rest_aipkit_missing_prompt")
    assert upstream.sent == []


# Number and model


@pytest.mark.parametrize("slug", ["openai", "azure", "openrouter"])
def test_several_images_come_from_one_call(api, upstream, slug):
    upstream.will_answer({**IMAGES[slug], "data": IMAGES[slug]["data"] * 3})
    answer = draw(api, slug, n=3, response_format="b64_json").json()
    assert upstream.sent[0].json["n"] == 3
    assert [image["b64_json"] for image in answer["images"]] == [CAT_BASE64] * 3
    assert answer["message"] == "3 images generated successfully."


@pytest.mark.parametrize(("n", "calls"), [(1, 1), (3, 3), (4, 4), (10, 4)])
def test_google_is_called_once_per_image_and_at_most_four_times(api, upstream, n, calls):
    for _ in range(n):
        upstream.will_answer(IMAGES["google"])
    answer = draw(api, "google", n=n).json()
    assert len(upstream.sent) == len(answer["images"]) == calls
    assert {name: answer["usage"][name] for name in USAGE} == {name: calls * count for name, count in USAGE.items()}


def test_a_partial_failure_of_google_returns_the_other_images(api, upstream):
    upstream.will_answer(IMAGES["google"])
    upstream.will_answer({"error": {"code": 429, "message": "Slow down."}}, status=429)
    upstream.will_answer({"candidates": [{"finishReason": "IMAGE_SAFETY"}]})
    upstream.will_answer(IMAGES["google"])
    answer = draw(api, "google", n=4)
    assert answer.status_code == 200
    assert answer.json()["message"] == "2 images generated successfully."


def test_a_failure_of_all_images_is_an_error(api, upstream):
    upstream.will_answer({"candidates": [{"finishReason": "IMAGE_SAFETY"}]})
    upstream.will_answer({"error": {"code": 429, "message": "Slow down."}}, status=429)
    answer = draw(api, "google", n=2)
    assert (answer.status_code, answer.json()["code"]) == (429, "google_interactions_rate_limited")


@pytest.mark.parametrize("n", [0, 11, -1, "many", 1.5])
def test_n_must_be_from_1_to_10(api, upstream, n):
    answer = draw(api, n=n)
    assert (answer.status_code, answer.json()["code"]) == (400, "rest_invalid_param")
    assert upstream.sent == []


@pytest.mark.parametrize(
    ("slug", "model"),
    [
        ("openai", "gpt-image-2"),
        ("google", "gemini-3.1-flash-image"),
        ("openrouter", "google/gemini-3.1-flash-image"),
    ],
)
@pytest.mark.parametrize("named", [None, " "])
def test_a_call_without_a_model_gets_the_providers_default(api, upstream, slug, model, named):
    upstream.will_answer(IMAGES[slug])
    api.post("/images/generate", json={"provider": slug, "prompt": "a cat"} | ({"model": named} if named else {}))
    (request,) = upstream.sent
    assert (f"models/{model}:" in request.target) if slug == "google" else (request.json["model"] == model)


def test_openai_is_the_default_provider(api, upstream):
    upstream.will_answer(GPT_IMAGE)
    assert api.post("/images/generate", json={"prompt": "a cat"}).status_code == 200
    assert upstream.sent[0].headers["Authorization"] == "Bearer sk-openai-0123456789"


def test_azure_has_no_default_deployment_unless_one_is_saved(api, upstream):
    upstream.will_answer(GPT_IMAGE)
    answer = api.post("/images/generate", json={"provider": "azure", "prompt": "a cat"})
    assert (answer.status_code, answer.json()["code"]) == (400, "azure_image_missing_deployment")
    ProviderConfig.objects.update_or_create(slug="azure", defaults={"default_image_model": "pictures"})
    answer = api.post("/images/generate", json={"provider": "azure", "prompt": "a cat"})
    assert answer.status_code == 200
    assert upstream.sent[0].path == "/openai/deployments/pictures/images/generations"


def test_azure_has_a_separate_api_version_for_images(api, upstream, settings):
    settings.PROVIDER_ENVIRONMENT["azure"]["api_version"] = "2026-02-01"
    ProviderConfig.objects.update_or_create(slug="azure", defaults={"image_api_version": "2026-03-01"})
    upstream.will_answer(GPT_IMAGE)
    draw(api, "azure")
    assert upstream.sent[0].query == {"api-version": ["2026-03-01"]}


@pytest.mark.parametrize("usage", [None, {}, "many"])
def test_usage_is_null_if_the_provider_sends_none(api, upstream, usage):
    upstream.will_answer({**GPT_IMAGE, "usage": usage})
    assert draw(api).json()["usage"] is None
