"""Sitemaps: XML, text and feeds, damaged ones, and which of their pages are read."""

import gzip

import pytest

from tests.support.knowledge.imports import counts, run, stored
from vectorstores.models import Document
from vectorstores.sources import sitemap as reading

pytestmark = pytest.mark.django_db


def page(name: str, head: str = "") -> str:
    return f"<html><head><title>{name}</title>{head}</head><body><p>{name} is told here.</p></body></html>"


def sitemap(*addresses: str, kind: str = "url", around: str = "urlset") -> str:
    entries = "".join(f"<{kind}><loc> {address} </loc></{kind}>" for address in addresses)
    return f'<?xml version="1.0"?><{around} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</{around}>'


def index(*addresses: str) -> str:
    return sitemap(*addresses, kind="sitemap", around="sitemapindex")


PAGES = {name: page(name) for name in ("shoes", "socks", "hats", "secret")}


def read() -> set[str]:
    return {vector.metadata["title"] for vector in stored().values()}


def requested(httpserver) -> list[str]:
    return [request.path for request, _ in httpserver.log]


def test_a_sitemap_is_followed_within_its_site(model, site, httpserver):
    base = site(
        **PAGES,
        **{
            "robots.txt": "User-agent: *\nDisallow: /secret\n",
            "index.xml": index("{base}/one.xml", "{base}/two.xml.gz", "{base}/index.xml"),
            "one.xml": sitemap("{base}/shoes", "{base}/secret", "https://elsewhere.example/a", "ftp://x/y", ""),
        },
    )
    packed = gzip.compress(sitemap(f"{base}/socks", f"{base}/shoes#red", f"{base}/hats").encode())
    site(**{"two.xml.gz": {"response_data": packed, "content_type": "application/gzip"}})
    summary = run(f"{base}/index.xml", sitemap=True, code=1)
    assert counts(summary) == (3, 0, 2)
    assert {refusal["place"] for refusal in summary["refusals"]} == {f"{base}/secret", "https://elsewhere.example/a"}
    assert read() == {"shoes", "socks", "hats"}
    assert "/secret" not in requested(httpserver)
    assert requested(httpserver)[0] == "/robots.txt"
    assert {document.origin for document in Document.objects.all()} == {f"{base}/index.xml"}


RSS = """<?xml version="1.0"?><rss xmlns:content="c"><channel><link>{base}/hats</link>
<item><title>a</title><link>{base}/shoes</link></item><item><link>{base}/socks?a=1&b=2</link></item></channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><link href="{base}/hats"/>
<entry><link rel="edit" href="{base}/secret"/><link href="{base}/shoes"/></entry><entry><link rel="alternate"
 href="{base}/socks"/></entry></feed>"""


@pytest.mark.parametrize(
    "body",
    [
        "\n\n \ufeff" + sitemap("{base}/shoes", "{base}/socks"),
        sitemap("/shoes", "socks"),
        sitemap("{base}/shoes?a=1&b=2&copy=3&nbsp;", "<![CDATA[{base}/socks?a=1&b=2]]>"),
        sitemap("{base}/shoes", "{base}/socks").replace(' xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"', ""),
        sitemap("{base}/shoes", "{base}/socks\x0b").replace("<url>", "<url><i:i><i:loc>x</i:loc></i:i>"),
        sitemap("{base}/shoes", "{base}/socks").replace("<urlset", '<!DOCTYPE a [<!ENTITY b "c">]><urlset'),
        sitemap("{base}/shoes#top", "{base}/shoes#end", "{base}/socks"),
        "\ufeff{base}/shoes\r\n\r\n{base}/socks\r\n",
        "/shoes\n/socks",
        RSS,
        ATOM,
        RSS.replace("<link>", "<guid>")
        .replace("</link>", "</guid>")
        .replace("<title>", "<guid isPermaLink='false'>x</guid><title>"),
        "<feed xml:base='{base}/a/'><entry xml:base='../'><link href='shoes'/></entry>"
        "<entry><link href='/socks'/></entry></feed>",
        sitemap("{base}/shoes", "{base}/socks").replace("url", "URL").replace("loc", "LOC"),
    ],
)
def test_kinds_of_sitemaps(model, site, body):
    base = site(**PAGES, **{"map.xml": body})
    assert counts(run(f"{base}/map.xml", sitemap=True)) == (2, 0, 0)
    assert read() == {"shoes", "socks"}


def test_a_broken_part_is_told_and_the_rest_is_read(model, site):
    base = site(
        **PAGES,
        **{
            "index.xml": index(
                *(f"{{base}}/{name}" for name in ("1", "gone", "2", "html", "3")), "https://x.example/4"
            ),
            "1": sitemap("{base}/shoes"),
            "2": sitemap("{base}/socks", "{base}/lost").partition("<loc> {base}/lost")[0],
            "html": "<!doctype html><title>x</title>",
            "3": sitemap("{base}/hats"),
        },
    )
    summary = run(f"{base}/index.xml", sitemap=True, code=1)
    assert read() == {"shoes", "socks", "hats"}
    reasons = {refusal["place"].removeprefix(base): refusal["reason"] for refusal in summary["refusals"]}
    assert reasons.keys() == {"/gone", "/2", "/html", "https://x.example/4"}
    assert "HTTP 404" in reasons["/gone"] or "HTTP 500" in reasons["/gone"]
    assert "damaged" in reasons["/2"]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"map.xml": {"status": 404}}, "HTTP 404"),
        ({"map.xml": "<urlset><url>"}, "damaged"),
        ({"map.xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><urlset>&b;</urlset>"}, "no pages"),
        ({"map.xml": sitemap()}, "no pages"),
        ({"map.xml": ""}, "no pages"),
        ({"map.xml": "hello"}, "not a sitemap"),
        ({"map.xml": "<html><body>Not found</body></html>"}, "a web page"),
        ({"map.xml": gzip.compress(b"x" * 1000)[:20]}, "cannot be unpacked"),
        ({"map.xml": gzip.compress(b" " * (reading.MAX_SITEMAP + 1))}, "larger than"),
        ({"robots.txt": {"status": 500}, "map.xml": sitemap()}, "robots.txt"),  # then all is forbidden
    ],
)
def test_sitemaps_that_cannot_be_read(model, site, answers, reason):
    summary = run(f"{site(**answers)}/map.xml", sitemap=True, code=2)
    assert reason in summary["refusals"][0]["reason"]


def test_the_sitemap_of_a_start_page_is_found_in_robots_txt(model, site):
    base = site(
        **PAGES,
        **{"start": "<html>Hello</html>", "map.xml": sitemap("/shoes"), "robots.txt": "Sitemap: {base}/map.xml\n"},
    )
    assert counts(run(f"{base}/start", sitemap=True)) == (1, 0, 0)


def test_with_and_without_www_is_one_site():
    assert reading.site_of("http://www.shop.example/a") == reading.site_of("https://shop.example:443/b")
    assert reading.site_of("http://shop.example:8080/") != reading.site_of("http://shop.example/")


def test_a_sitemap_may_redirect_to_its_site(model, site, settings, httpserver):
    moved = f"http://127.0.0.1:{httpserver.port}"
    settings.PRIVATE_HOST_ALLOWLIST = ["localhost", "127.0.0.1"]
    base = site(**PAGES, **{"map.xml": {"status": 301, "headers": {"Location": f"{moved}/new.xml"}}})
    site(**{"new.xml": sitemap(f"{moved}/shoes", "socks", f"{base}/hats")})
    assert counts(run(f"{base}/map.xml", sitemap=True)) == (3, 0, 0)


def test_a_private_site_is_read_only_if_it_is_in_the_allowlist(model, site, settings, httpserver):
    base = site(**PAGES, **{"map.xml": sitemap("/shoes")})
    settings.PRIVATE_HOST_ALLOWLIST = []
    assert "PRIVATE_HOST_ALLOWLIST" in run(f"{base}/map.xml", sitemap=True, code=2)["refusals"][0]["reason"]
    assert not httpserver.log


def test_versions_of_a_page_are_stored_once(model, site):
    canonical = '<link rel="canonical" href="{base}/%s">'
    base = site(
        **{
            "red": page("red shoes", canonical % "shoes"),
            "blue": page("blue shoes", canonical % "shoes"),
            "shoes": page("shoes", canonical % "shoes"),
            "print": page("socks to print", canonical % "socks"),
            "noindex": page("thanks", '<meta name="robots" content="noindex">'),
            "map.xml": sitemap(*(f"{{base}}/{name}" for name in ("red", "blue", "shoes", "print", "noindex"))),
        }
    )
    summary = run(f"{base}/map.xml", sitemap=True, code=1)
    assert read() == {"shoes", "socks to print"}
    assert "noindex" in summary["refusals"][0]["reason"]
    assert ": 2." in summary["notes"][0]["text"]


def test_a_sitemap_has_a_limit(model, site, httpserver):
    base = site(**PAGES, **{"map.xml": sitemap("/shoes", "/socks", "/hats")})
    summary = run(f"{base}/map.xml", sitemap=True, max_pages=2, code=1)
    assert counts(summary) == (2, 0, 1)
    assert "/hats" not in requested(httpserver)


def test_the_site_says_how_fast(model, site, monkeypatch):
    monkeypatch.setattr(reading, "LONGEST_DELAY", 0.3)
    base = site(**PAGES, **{"robots.txt": "User-agent: *\nCrawl-delay: 60\n", "map.xml": sitemap("/shoes", "/socks")})
    assert run(f"{base}/map.xml", sitemap=True)["seconds"] >= 0.6


def test_a_page_that_fails_for_now_is_not_pruned(model, site, httpserver):
    base = site(**PAGES, **{"map.xml": sitemap("/shoes", "/b")})
    httpserver.expect_oneshot_request("/b").respond_with_data(page("b"), content_type="text/html")
    httpserver.expect_oneshot_request("/b").respond_with_data("", status=500)
    httpserver.expect_oneshot_request("/b").respond_with_data("", status=410)
    run(f"{base}/map.xml", sitemap=True)
    for pruned, left in ((0, 2), (1, 1)):
        assert run(f"{base}/map.xml", sitemap=True, prune=True, code=1)["pruned"] == pruned
        assert len(stored()) == left
