"""Web pages by their URL: what they are, under which URL they are stored, and which are refused."""

import pytest

from tests.support.knowledge.documents import zipped
from tests.support.knowledge.imports import counts, run, stored, texts
from vectorstores.sources import web
from vectorstores.sources.web import canonical_url, forbidden_by

pytestmark = pytest.mark.django_db

DOCX = zipped(**{"word__document.xml": "<w:document xmlns:w='w'><w:p><w:r><w:t>Run it.</w:t></w:r></w:p></w:document>"})

PAGE = "<html><head><title>{0}</title>{1}</head><body><p>{0} is told here.</p></body></html>"
PDF = b"%PDF-1.4 broken"


def test_a_page_is_read(model, site):
    base = site(shoes=PAGE.format("shoes", ""))
    run(f"{base}/shoes")
    (vector,) = stored().values()
    assert (vector.metadata["title"], vector.metadata["url"]) == ("shoes", f"{base}/shoes")
    assert vector.text == "shoes is told here."


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": 404}, "HTTP 404"),
        ({"status": 500}, "HTTP 500"),
        ({"response_data": b"\x89PNG", "content_type": "image/png"}, "image/png"),
        ({"response_data": b"a\x00b", "content_type": "application/octet-stream"}, "not supported"),
        ({"response_data": b"", "content_type": "text/plain"}, "no text"),
        ({"response_data": b""}, "no text"),
        ({"response_data": "<urlset/>", "content_type": "text/xml"}, "--sitemap"),
        ({"response_data": PDF, "content_type": "text/html"}, "PDF is damaged"),
        ({"response_data": PDF, "content_type": "application/octet-stream"}, "PDF is damaged"),
        ({"response_data": "x", "headers": {"X-Robots-Tag": "noindex"}}, "noindex"),
        ({"response_data": PAGE.format("a", '<META NAME="Robots" CONTENT="NOINDEX, follow">')}, "noindex"),
        ({"status": 302, "headers": {"Location": "http://10.0.0.1/"}}, "no public address|cannot be reached|in time"),
        ({"status": 302, "headers": {"Location": "file:///etc/passwd"}}, "not a valid http or https URL"),
    ],
)
def test_pages_that_cannot_be_read(model, site, settings, answer, reason):
    settings.CONNECT_TIMEOUT = 0.2
    summary = run(f"{site(a=answer)}/a", code=2)
    assert any(part in summary["refusals"][0]["reason"] for part in reason.split("|")), summary["refusals"]


@pytest.mark.parametrize("allowlist", [[], ["localhost"], ["127.0.0.1:1"], ["localhost:{port}"]])
def test_a_private_address_is_read_only_if_it_is_in_the_allowlist(model, site, settings, httpserver, allowlist):
    base = site(a="text").replace("localhost", "127.0.0.1")
    settings.PRIVATE_HOST_ALLOWLIST = [entry.format(port=httpserver.port) for entry in allowlist]
    assert "PRIVATE_HOST_ALLOWLIST" in run(f"{base}/a", code=2)["refusals"][0]["reason"]
    assert not httpserver.log
    settings.PRIVATE_HOST_ALLOWLIST = [f"127.0.0.1:{httpserver.port}"]
    run(f"{base}/a")


@pytest.mark.parametrize(
    ("name", "content_type", "body", "text"),
    [
        ("readme.md", "text/plain", "---\ntitle: Guide\n---\nRun it.", "Run it."),
        ("readme.md", "application/octet-stream", "# Guide\n\nRun it.", "# Guide\n\nRun it."),
        ("notes", "application/octet-stream", "Run it.", "Run it."),
        ("page", "application/octet-stream", "<!doctype html><p>Run it.", "Run it."),
        ("page", "application/pdf", "<!doctype html><p>Run it.", "Run it."),
        ("page", "application/xhtml+xml", '<?xml version="1.0"?><html><body><p>Run it.</p></body></html>', "Run it."),
        ("rows.csv", "text/plain", "id,content\na,Run it.\n", "Run it."),
        ("rows", "application/json", '[{"content": "Run it."}]', "Run it."),
        ("rows.jsonl", "application/octet-stream", '{"content": "Run it."}\n', "Run it."),
        ("rows.csv", "application/vnd.ms-excel", "id,content\na,Run it.\n", "Run it."),
        ("rows", "application/vnd.api+json", '[{"content": "Run it."}]', "Run it."),
        ("terms", "application/msword", DOCX, "Run it."),
        ("terms", "text/plain", DOCX, "Run it."),
    ],
)
def test_files_are_recognized_whatever_the_server_says(model, site, name, content_type, body, text):
    run(f"{site(**{name: {'response_data': body, 'content_type': content_type}})}/{name}")
    assert texts() == {text}


@pytest.mark.parametrize(
    "disposition",
    ["attachment; filename=rows.csv", "inline; filename*=UTF-8''r%C3%B6ws.csv", 'attachment; filename="..\\rows.CSV"'],
)
def test_a_server_may_name_the_file(model, site, disposition):
    rows = {"response_data": "id,content\na,Run it.\n", "content_type": "application/octet-stream"}
    run(f"{site(download=rows | {'headers': {'Content-Disposition': disposition}})}/download")
    assert texts() == {"Run it."}


def test_a_busy_server_is_asked_again(model, site, httpserver):
    base = site()
    for status, headers in ((429, {"Retry-After": "0"}), (503, {})):
        httpserver.expect_oneshot_request("/busy").respond_with_data("slow down", status=status, headers=headers)
    httpserver.expect_oneshot_request("/busy").respond_with_data("Teapots.", content_type="text/plain")
    run(f"{base}/busy")
    assert texts() == {"Teapots."}


def test_a_long_wait_is_refused_at_once(model, site, httpserver):
    base = site(busy={"status": 429, "headers": {"Retry-After": str(int(web.LONGEST_WAIT) + 1)}})
    assert "HTTP 429" in run(f"{base}/busy", code=2)["refusals"][0]["reason"]
    assert len(httpserver.log) == 1


def test_a_page_is_stored_once_whatever_its_fragment_or_parameters(model, site):
    base = site(shoes=PAGE.format("shoes", '<link rel="canonical" href="/shoes">'))
    run(f"{base}/shoes?utm_source=mail")
    assert {vector.metadata["url"] for vector in stored().values()} == {f"{base}/shoes"}
    assert counts(run(f"{base}/shoes#sizes", f"{base}/shoes")) == (0, 2, 0)


@pytest.mark.parametrize(
    ("url", "canonical", "expected"),
    [
        ("https://a.example/x?b=1", "https://a.example/x", "https://a.example/x"),
        ("http://a.example/x", "https://www.a.example/x", "https://www.a.example/x"),
        ("https://a.example/x", "https://b.example/x", "https://a.example/x"),
        ("https://a.example/x", "https://a.example/", "https://a.example/x"),
        ("https://a.example/?ref=1", "https://a.example/", "https://a.example/"),
        ("https://a.example/x", "javascript:void(0)", "https://a.example/x"),
        ("https://a.example/x", "https://[", "https://a.example/x"),
        ("https://a.example/x", "", "https://a.example/x"),
    ],
)
def test_a_canonical_url_must_be_believable(url, canonical, expected):
    assert canonical_url(url, canonical) == expected


@pytest.mark.parametrize(
    ("header", "forbidden"),
    [
        ("noindex", True),
        ("none", True),
        ("nofollow, NoIndex", True),
        ("googlebot: noindex", False),
        ("googlebot: nofollow, noindex", False),
        ("googlebot: nofollow, puffer: noindex", True),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST, noindex", True),
        ("noarchive", False),
        ("", False),
    ],
)
def test_robots_headers(header, forbidden):
    assert forbidden_by(header) is forbidden
