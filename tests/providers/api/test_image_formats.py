"""Images as URLs or base64, whatever the provider sends."""

import base64
import gzip
from pathlib import Path

import pytest

from providers.registry import PROVIDERS
from tests.support.providers.answers import CAT, CAT_BASE64, GPT_IMAGE, IMAGES
from tests.support.providers.images import SLUGS, draw, image_at


def fetch_image(api, upstream, url):
    """Call the API for base64 while the provider answers with a URL, and return the response."""
    upstream.will_answer(image_at(url))
    return draw(api, model="dall-e-3", response_format="b64_json")


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
