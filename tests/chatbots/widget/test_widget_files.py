"""The widget's loader, script and style sheet: content codings, caching and size."""

import gzip

import pytest

from chatbots.models import Chatbot
from chatbots.widget.config import LOADER, SCRIPT, STYLES, version_of
from tests.support.repository import ROOT

BUILT = ROOT / "chatbots/static/chatbots"
SIZE_LIMIT = 16_800  # bytes, Brotli: loader, widget and styles


def path_of(name):
    return f"/{LOADER}" if name == LOADER else f"/widget/{version_of(name)}/{name}"


@pytest.mark.parametrize(
    ("accept_encoding", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br", "br"),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br"),  # a browser
        ("GZIP , BR", "br"),
        ("br;q=0", None),
        ("br;q=0, gzip", "gzip"),
        ("br;q=0.000, gzip;q=0.001", "gzip"),
        ("br;q=0.5, gzip;q=0.9", "gzip"),
        ("br ; Q=1.000, gzip;q=0.9", "br"),
        ("br;q=0.8, gzip;q=0.8", "br"),
        ("identity;q=1, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.4", None),
        ("deflate, zstd", None),
        ("*", "br"),
        ("br;q=0, *", "gzip"),
        ("*;q=0", None),  # no coding is acceptable: send the plain file rather than an error
        ("gzip;q=0, br;q=0, identity;q=0", None),
        ("br;q=yes, gzip;q=-1", None),  # malformed
        ("br;q=2, gzip;q=0.1", "gzip"),
        ("br;level=4, gzip", "gzip"),
        (";;,,=", None),
    ],
)
@pytest.mark.parametrize("name", [LOADER, SCRIPT, STYLES])
def test_clients_get_their_preferred_content_coding(client, name, accept_encoding, coding):
    headers = {} if accept_encoding is None else {"Accept-Encoding": accept_encoding}
    response = client.get(path_of(name), headers=headers)
    assert response.status_code == 200
    assert response.get("Content-Encoding") == coding
    assert "Accept-Encoding" in response["Vary"]
    assert int(response["Content-Length"]) == len(response.content)
    plain = (BUILT / name).read_bytes()
    expected = {None: plain, "br": (BUILT / f"{name}.br").read_bytes(), "gzip": response.content}
    assert response.content == expected[coding]
    if coding == "gzip":
        assert gzip.decompress(response.content) == plain


@pytest.mark.parametrize("coding", ["identity", "gzip", "br"])
@pytest.mark.parametrize("name", [LOADER, SCRIPT, STYLES])
def test_cached_copies_are_revalidated_in_any_coding(client, name, coding):
    stored = client.get(path_of(name), headers={"Accept-Encoding": coding})
    for accepted in ("identity", "gzip", "br"):
        headers = {"Accept-Encoding": accepted, "If-None-Match": stored["ETag"]}
        response = client.get(path_of(name), headers=headers)
        assert (response.status_code, response.content) == (304, b"")
        assert "Accept-Encoding" in response["Vary"]
        assert response["Cache-Control"] == stored["Cache-Control"]
    assert client.get(path_of(name), headers={"If-None-Match": 'W/"older"'}).status_code == 200


def test_only_urls_with_the_current_version_are_cached_for_long(client):
    assert client.get("/embed.js")["Cache-Control"] == "public, max-age=300"
    for name in (SCRIPT, STYLES):
        assert client.get(path_of(name))["Cache-Control"] == "public, max-age=31536000, immutable"
        older = client.get(f"/widget/older/{name}")
        assert older["Cache-Control"] == "no-cache"
        assert older.content == client.get(path_of(name)).content


@pytest.mark.parametrize(
    ("name", "media_type"), [(LOADER, "text/javascript"), (SCRIPT, "text/javascript"), (STYLES, "text/css")]
)
def test_any_site_may_load_the_files(client, name, media_type):
    response = client.get(path_of(name))
    assert response["Content-Type"] == f"{media_type}; charset=utf-8"
    assert response["Access-Control-Allow-Origin"] == "*"
    assert response["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert client.head(path_of(name), headers={"Accept-Encoding": "br"})["Content-Encoding"] == "br"
    assert client.post(path_of(name)).status_code == 405


@pytest.mark.parametrize("path", ["chat_page.css", "chat.js", "widget.js.br", "..%2fadmin.js"])
def test_no_other_file_is_served(client, db, path):
    assert client.get(f"/widget/1/{path}").status_code == 404


def test_embed_config_links_the_current_version(client, db, api):
    bot = Chatbot.objects.create(name="Bot", provider="openai", model="gpt-4o-mini", embed_allow_any_domain=True)
    response = api.request("GET", f"/chatbots/{bot.pk}/embed-config", key=None, headers={"Origin": "https://a.example"})
    urls = response.json()["config"]["assetUrls"]
    assert [url.removeprefix("http://testserver") for url in urls.values()] == [path_of(STYLES), path_of(SCRIPT)]


@pytest.mark.parametrize("syntax", ["light-dark(", ":popover-open{", "&:", "& ", "static{", "(?<="])
def test_the_built_files_have_no_syntax_that_safari_16_4_and_firefox_115_do_not_know(syntax):
    for name in (LOADER, SCRIPT, STYLES):
        assert syntax not in (BUILT / name).read_text(), name


def test_the_widget_is_small():
    assert sum((BUILT / f"{name}.br").stat().st_size for name in (LOADER, SCRIPT, STYLES)) <= SIZE_LIMIT
