"""POST /images/generate: the request to each provider, the response, and how images are stored or fetched."""

import base64
import gzip
from pathlib import Path

import pytest

from providers.base import Capability
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, providers_with
from tests.support.providers.answers import CAT, CAT_BASE64, GPT_IMAGE, IMAGES

SLUGS = [provider.slug for provider in providers_with(Capability.IMAGE)]

# All options of a call, and the target and body that each provider is sent for them.
OPTIONS = {
    "n": 1,
    "size": "1536x1024",
    "quality": "high",
    "aspect_ratio": "16:9",
    "resolution": "2K",
    "output_format": "webp",
    "output_compression": 80,
    "background": "opaque",
    "seed": 7,
    "style": "vivid",
    "response_format": "b64_json",
}
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
    "openrouter": (
        "/api/v1/images",
        {
            "model": "some-model",
            "prompt": "a cat",
            "n": 1,
            "size": "1536x1024",
            "quality": "high",
            "aspect_ratio": "16:9",
            "resolution": "2K",
            "output_format": "webp",
            "output_compression": 80,
            "background": "opaque",
            "seed": 7,
        },
    ),
}
USAGE = {"input_tokens": 9, "output_tokens": 272, "total_tokens": 281}


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path)
    return tmp_path


def draw(api, provider="openai", **options):
    body = {"provider": provider, "model": "some-model", "prompt": "a cat", **options}
    return api.post("/images/generate", json=body)


def image_at(url, **fields):
    return {"created": 1795401842, "data": [{"url": url, **fields}]}


def fetch_image(api, upstream, url):
    """Call the API for base64 while the provider answers with a URL, and return the response."""
    upstream.will_answer(image_at(url))
    return draw(api, model="dall-e-3", response_format="b64_json")


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


# Storing images: the provider sends bytes, the caller wants a URL


@pytest.mark.parametrize("slug", SLUGS)
def test_images_are_stored_and_served_by_url(api, upstream, slug):
    upstream.will_answer(IMAGES[slug])
    (image,) = draw(api, slug).json()["images"]
    assert image["b64_json"] is None
    assert image["mime_type"] == "image/png"
    assert image["url"].startswith("http://testserver/media/images/")
    served = api.get(image["url"], key=None)
    assert (served.status_code, served.content) == (200, CAT)
    assert served.headers["Content-Type"] == "image/png"
    assert served.headers["X-Content-Type-Options"] == "nosniff"
    assert "immutable" in served.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("data", "mime_type", "ending"),
    [
        (b"\xff\xd8\xff\xe0 JFIF", "image/jpeg", "jpg"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp", "webp"),
        (b"GIF89a...", "image/gif", "gif"),
    ],
)
def test_the_type_of_an_image_is_read_from_its_bytes(api, upstream, data, mime_type, ending):
    upstream.will_answer({"data": [{"b64_json": base64.b64encode(data).decode(), "media_type": "image/png"}]})
    (image,) = draw(api).json()["images"]
    assert image["mime_type"] == mime_type
    assert image["url"].endswith(f".{ending}")
    assert api.get(image["url"]).headers["Content-Type"] == mime_type


@pytest.mark.parametrize(
    "encoded",
    [
        base64.b64encode(b"<html><script>alert(1)</script></html>").decode(),
        base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>").decode(),
        base64.b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt ").decode(),
        "no base64!",
        "Bär",
        "iVBORw0KGg",  # cut off
    ],
)
def test_data_that_is_not_an_image_is_not_stored(api, upstream, media, encoded):
    upstream.will_answer({"data": [{"b64_json": encoded}]})
    answer = draw(api)
    assert (answer.status_code, answer.json()["code"]) == (502, "openai_image_api_error")
    assert list(media.rglob("*.*")) == []


def test_stored_images_have_random_names(api, upstream, media):
    upstream.will_answer({**GPT_IMAGE, "data": GPT_IMAGE["data"] * 3})
    names = {image["url"].rpartition("/")[2] for image in draw(api, n=3).json()["images"]}
    assert len(names) == 3
    assert {len(Path(name).stem) for name in names} == {32}
    assert {path.name for path in (media / "images").iterdir()} == names


@pytest.mark.parametrize(
    ("public_url", "host", "origin"),
    [
        ("", "testserver", "http://testserver"),
        ("", "shop.example:8443", "http://shop.example:8443"),
        ("https://bots.example", "testserver", "https://bots.example"),
        ("https://bots.example", "evil.example", "https://bots.example"),  # the Host header does not matter
        ("https://bots.example/puffer", "testserver", "https://bots.example/puffer"),
    ],
)
def test_image_urls_start_with_this_servers_url(api, upstream, settings, public_url, host, origin):
    settings.ALLOWED_HOSTS = ["testserver", "shop.example"]
    settings.PUBLIC_URL = public_url
    upstream.will_answer(GPT_IMAGE)
    answer = api.post("/images/generate", json={"prompt": "a cat"}, headers={"Host": host})
    assert answer.json()["images"][0]["url"].startswith(f"{origin}/media/images/")


def test_an_unknown_host_is_refused_before_the_provider_is_called(api, upstream):
    answer = api.post("/images/generate", json={"prompt": "a cat"}, headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (400, "rest_aipkit_unknown_host")
    assert upstream.sent == []
    upstream.will_answer(GPT_IMAGE)
    body = {"prompt": "a cat", "response_format": "b64_json"}  # no URL of this server is needed
    assert api.post("/images/generate", json=body, headers={"Host": "evil.example"}).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "..%2fsecret.png",
        "%2e%2e%2fsecret.png",
        "..%5csecret.png",
        "....//secret.png",
        "%00.png",
        "",
        "secret.png",  # in the folder, but not a generated name
        "." + 32 * "a" + ".png",  # a partially written file
        32 * "a" + ".svg",
        32 * "a" + ".png%0a",
        32 * "a" + ".png",  # does not exist
        31 * "a" + "%2f.png",
    ],
)
def test_only_stored_images_are_served(api, media, name):
    (media / "images").mkdir()
    for path in ("secret.png", "images/secret.png", f"images/.{32 * 'a'}.png", f"images/{32 * 'a'}.svg"):
        (media / path).write_bytes(CAT)
    assert api.get(f"http://testserver/media/images/{name}").status_code == 404


# Fetching images: the provider sends a URL, the caller wants bytes


def test_a_requested_url_is_passed_on_without_fetching_it(api, upstream):
    upstream.will_answer(image_at("https://cdn.example/cat.png?sig=x", revised_prompt="A tabby."))
    assert draw(api, model="dall-e-3").json()["images"] == [
        {"url": "https://cdn.example/cat.png?sig=x", "b64_json": None, "revised_prompt": "A tabby."}
    ]
    assert len(upstream.sent) == 1


@pytest.mark.parametrize(("response_format", "absent"), [("url", "b64_json"), ("b64_json", "url")])
def test_only_the_requested_form_is_returned(api, upstream, response_format, absent):
    upstream.will_answer(image_at("https://cdn.example/cat.png", b64_json=CAT_BASE64))
    (image,) = draw(api, response_format=response_format).json()["images"]
    assert image[response_format]
    assert image[absent] is None


def test_images_are_fetched_from_the_providers_own_server(api, upstream):
    upstream.serves("/files/cat.png?sig=x%2By%3D", CAT, headers={"Content-Type": "text/html"})
    answer = fetch_image(api, upstream, f"{upstream.url}/files/cat.png?sig=x%2By%3D")
    assert answer.json()["images"] == [
        {"url": None, "b64_json": CAT_BASE64, "revised_prompt": None, "mime_type": "image/png"}
    ]
    assert "sk-openai" not in str(upstream.sent[1].headers)  # the key is not sent to file servers


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/cat.png",  # loopback, but not the provider's port
        "http://localhost:{port}/cat.png",  # loopback by another name
        "https://127.0.0.1:{port}/cat.png",
        "https://localhost:{port}/cat.png",
        "https://[::1]:{port}/cat.png",
        "https://[::ffff:127.0.0.1]:{port}/cat.png",
        "https://2130706433:{port}/cat.png",  # 127.0.0.1 as one number
        "https://0x7f000001:{port}/cat.png",
        "https://127.1:{port}/cat.png",
        "https://0:{port}/cat.png",
        "https://169.254.169.254/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/cat.png",
        "https://192.168.0.1/cat.png",
        "https://100.64.0.1/cat.png",
        "https://[fe80::1]/cat.png",
        "https://[fd00::1]/cat.png",
        "http://93.184.216.34/cat.png",  # public, but not encrypted
        "http://user@127.0.0.1:1/cat.png",
        "{url}@127.0.0.1:1/cat.png",
        "http://127.0.0.1:1\\@127.0.0.1:{port}/cat.png",  # URL parsers disagree about this one
        "ftp://127.0.0.1:{port}/cat.png",
        "file:///etc/passwd",
        "//127.0.0.1:{port}/cat.png",
        "/cat.png",
        "cat",
        "http://[",
        "https://",
        "http://127.0.0.1:99999/cat.png",
        f"https://{64 * 'a'}.example/cat.png",  # longer than a DNS label may be
        "https://①②⑦.⓪.⓪.①:{port}/cat.png",  # 127.0.0.1 in other digits
    ],
)
def test_images_are_not_fetched_from_private_or_unencrypted_urls(api, upstream, url):
    upstream.serves("/cat.png", CAT)
    port = str(upstream.server_port)
    answer = fetch_image(api, upstream, url.replace("{port}", port).replace("{url}", upstream.url))
    assert (answer.status_code, answer.json()["code"]) == (502, "openai_image_api_error")
    assert len(upstream.sent) == upstream.connections == 1


def test_a_private_host_can_be_allowed(api, upstream, settings):
    settings.PRIVATE_HOST_ALLOWLIST = ["127.0.0.1"]
    answer = fetch_image(api, upstream, f"https://127.0.0.1:{upstream.server_port}/cat.png")
    assert answer.status_code == 502  # because the server does not speak TLS
    assert upstream.connections == 2


def test_a_redirect_is_not_followed(api, upstream):
    upstream.serves("/cat.png", b"", status=302, headers={"Location": f"{upstream.url}/other.png"})
    upstream.serves("/other.png", CAT)
    answer = fetch_image(api, upstream, f"{upstream.url}/cat.png")
    assert (answer.status_code, answer.json()["code"]) == (502, "openai_image_api_error")
    assert [request.path for request in upstream.sent] == ["/v1/images/generations", "/cat.png"]


@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        (b"<!doctype html><title>Cat</title>", 200, {"Content-Type": "image/png"}),
        (b"", 200, {}),
        (b"<svg/>", 200, {"Content-Type": "image/svg+xml"}),
        (gzip.compress(CAT, mtime=0), 200, {"Content-Encoding": "gzip"}),  # not requested, so not decompressed
        (CAT, 404, {}),
        (CAT, 500, {}),
        (CAT + bytes(5000), 200, {}),  # more than MAX_ANSWER_BYTES
        (
            gzip.compress(CAT + bytes(5000), mtime=0),
            200,
            {"Content-Encoding": "gzip"},
        ),  # below the limit only while compressed
    ],
)
def test_a_fetched_file_must_be_a_complete_image(api, upstream, settings, body, status, headers):
    settings.MAX_ANSWER_BYTES = 4000
    upstream.serves("/cat.png", body, status, headers)
    answer = fetch_image(api, upstream, f"{upstream.url}/cat.png")
    assert (answer.status_code, answer.json()["code"]) == (502, "openai_image_api_error")


def test_a_truncated_image_is_an_error(api, upstream):
    upstream.will_answer(image_at(f"{upstream.url}/cat.png"))
    upstream.will_send(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + CAT)
    answer = draw(api, model="dall-e-3", response_format="b64_json")
    assert (answer.status_code, answer.json()["code"]) == (502, "openai_image_api_error")


def test_fetching_an_image_counts_toward_the_image_timeout(api, upstream, settings):
    settings.IMAGE_TIMEOUT = 0.5
    upstream.will_answer(image_at(f"{upstream.url}/cat.png"))
    upstream.will_stall(after=b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + CAT)
    answer = draw(api, model="dall-e-3", response_format="b64_json")
    assert (answer.status_code, answer.json()["code"]) == (504, "openai_image_http_error")
    assert upstream.client_hung_up.wait(5)


@pytest.mark.parametrize("slug", [slug for slug in PROVIDERS if slug not in SLUGS])
def test_a_provider_without_images_is_refused(api, upstream, slug):
    answer = draw(api, slug)
    assert (answer.status_code, answer.json()["code"]) == (400, "rest_invalid_param")
    assert upstream.sent == []


@pytest.mark.parametrize(
    "option",
    [
        {"size": "1x1"},
        {"quality": "best"},
        {"style": "cubist"},
        {"aspect_ratio": "5:1"},
        {"resolution": "8K"},
        {"output_format": "gif"},
        {"output_compression": 101},
        {"background": "blue"},
        {"seed": -1},
        {"response_format": "bytes"},
    ],
)
def test_unknown_option_values_are_rejected(api, upstream, option):
    answer = draw(api, **option)
    assert (answer.status_code, answer.json()["code"]) == (400, "rest_invalid_param")
    assert upstream.sent == []
