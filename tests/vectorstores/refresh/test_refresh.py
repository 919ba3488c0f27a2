"""Refresh a site: what is new, changed, unchanged and vanished."""

import pytest

from puffer.net import guarded_fetch
from tests.support.knowledge.imports import sent_texts, texts
from tests.support.knowledge.sources import counts, reasons, states
from tests.support.knowledge.website import Answer, html
from vectorstores.models import Document
from vectorstores.refresh import reading, run
from vectorstores.sandbox.process import Limits

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(site):
    """Return a site of ten pages in a sitemap."""
    site.serve(**{f"page{number}": f"Text of number {number}." for number in range(10)})
    site.map()
    return site


def test_the_first_run_stores_all_pages(shop, add, refresh, model):
    source = refresh(add())
    assert (source.state, source.last_error, counts(source)) == ("done", "", {"new": 10})
    assert len(texts()) == 10
    assert set(states(source).values()) == {"stored"}
    assert {document.page.source for document in Document.objects.select_related("page")} == {source}
    assert source.sitemap == f"{shop.url}/sitemap.xml"
    assert {request.headers["User-Agent"] for request in shop.requests} == {"puffer"}


@pytest.mark.parametrize("stamps", ["etag", "date", ""])
def test_only_changed_pages_are_embedded_again(shop, add, refresh, model, stamps):
    for answer in shop.answers.values():
        answer.stamps = stamps
    source = refresh(add())
    shop.statuses(), model.sent.clear()
    shop.serve(page3="Another text.", page10="A new page.")
    shop.map()
    source = refresh(source)
    assert counts(source) == {"new": 1, "changed": 1, "unchanged": 9}
    assert len(sent_texts(model)) == 2
    assert "Another text." in texts()
    assert "Text of number 3." not in texts()
    statuses = shop.statuses()
    assert statuses["/page1"] == (304 if stamps else 200)
    assert statuses["/page3"] == 200


def test_requests_name_the_public_address_of_this_server(shop, add, refresh, settings):
    settings.PUBLIC_URL = "https://chat.example.com"
    refresh(add("/page1", "page"))
    assert {request.headers["User-Agent"] for request in shop.requests} == {"puffer (+https://chat.example.com)"}


def test_documents_that_someone_deleted_are_stored_again(shop, add, refresh, model):
    source = refresh(add())
    Document.objects.filter(source__endswith="page3").delete()
    model.sent.clear()
    shop.statuses()
    assert counts(refresh(source)) == {"unchanged": 10}
    assert len(sent_texts(model)) == 1
    assert Document.objects.filter(page__source=source).count() == 10
    assert shop.statuses()["/page3"] == 200


# Vanished pages


def test_a_deleted_page_is_removed_with_its_documents(shop, add, refresh):
    source = refresh(add())
    shop.drop("page3")
    source = refresh(source)
    assert counts(source) == {"unchanged": 9, "left_out": 1, "removed": 1}
    assert "Text of number 3." not in texts()
    assert Document.objects.count() == 9
    assert "page3" not in states(source)
    assert not source.has_held_removals


def test_a_page_that_two_lists_leave_out_is_removed(shop, add, refresh):
    source = refresh(add())
    shop.map(*(f"page{number}" for number in range(9)))
    assert counts(refresh(source)) == {"unchanged": 9}
    assert len(texts()) == 10
    assert counts(refresh(source)) == {"unchanged": 9, "removed": 1}
    assert "Text of number 9." not in texts()


def test_a_page_that_comes_back_is_not_removed(shop, add, refresh):
    source = refresh(add())
    shop.map(*(f"page{number}" for number in range(9)))
    refresh(source)
    shop.map()
    refresh(source)
    shop.map(*(f"page{number}" for number in range(9)))
    assert counts(refresh(source)) == {"unchanged": 9}
    assert len(texts()) == 10


def test_a_fifth_of_the_pages_may_vanish_at_once(shop, add, refresh):
    source = refresh(add())
    shop.drop("page1", "page2")
    assert counts(refresh(source)) == {"unchanged": 8, "left_out": 2, "removed": 2}


def test_more_than_a_fifth_stay_until_a_person_confirms(shop, add, refresh, worker):
    source = refresh(add())
    shop.drop("page1", "page2", "page3")
    source = refresh(source)
    assert counts(source) == {"unchanged": 7, "left_out": 3}
    assert source.has_held_removals
    assert len(texts()) == 10
    assert [states(source)[f"page{number}"] for number in (1, 2, 3, 4)] == ["vanished"] * 3 + ["stored"]
    shop.serve(page3="It is back.")
    source = refresh(source)  # fewer than a fifth have vanished now
    assert (counts(source), len(texts())) == ({"unchanged": 7, "changed": 1, "left_out": 2, "removed": 2}, 8)


def test_confirmed_removals(shop, add, refresh, worker):
    source = refresh(add())
    shop.drop(*(f"page{number}" for number in range(5)))
    source = refresh(source)
    assert source.confirm_removals() == 5
    worker()
    source.refresh_from_db()
    assert not source.has_held_removals
    assert source.removed == 5
    assert len(texts()) == 5
    assert not {f"page{number}" for number in range(5)} & {
        name for name, state in states(source).items() if state != "left_out"
    }


def test_an_empty_or_failing_sitemap_removes_nothing(shop, add, refresh):
    source = refresh(add("/sitemap.xml"))
    for answer in (Answer(b"<urlset></urlset>"), Answer(status=500), Answer(b"<html>Maintenance</html>")):
        shop.answers["/sitemap.xml"] = answer
        for _ in range(3):
            source = refresh(source)
            assert source.last_error
            assert len(texts()) == 10


def test_a_damaged_sitemap_removes_nothing(shop, add, refresh):
    source = refresh(add("/sitemap.xml"))
    whole = shop.answers["/sitemap.xml"].body
    shop.answers["/sitemap.xml"].body = whole[: len(whole) * 9 // 10]
    for _ in range(3):
        source = refresh(source)
    assert not source.is_listing_complete
    assert "damaged" in source.notes[0]["text"]
    assert len(texts()) == 10


# Pages that cannot be read

BROKEN = {
    "error": Answer(html("Oops", "Internal error"), 500),
    "login": Answer(status=401),
    "picture": Answer(b"\x89PNG\r\n\x1a\n\x00", content_type="image/png"),
    "scripted": Answer(b"<html><body><script>app()</script></body></html>"),
    "huge": Answer(b"<html>" + b"x" * 200_000),
    "loop": Answer(status=302, headers={"Location": "/page1"}),
    "elsewhere": Answer(status=302, headers={"Location": "http://192.0.2.1/"}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_page_that_cannot_be_read_keeps_its_last_version(shop, add, refresh, name, settings):
    settings.MAX_ANSWER_BYTES = 100_000
    source = refresh(add())
    shop.answers["/page1"] = BROKEN[name]
    source = refresh(source)
    assert counts(source) == {"unchanged": 9, "failed": 1}
    assert (source.state, source.last_error) == ("done", "")
    assert states(source)["page1"] == "failed"
    assert reasons(source)["page1"]
    assert "Text of number 1." in texts()
    shop.serve(page1="Text of number 1.")
    source = refresh(source)
    assert counts(source) == {"unchanged": 10}
    assert reasons(source)["page1"] == ""


def test_a_page_that_does_not_answer_keeps_its_last_version(shop, add, refresh, monkeypatch):
    source = refresh(add())
    monkeypatch.setattr(guarded_fetch, "SILENT_SECONDS", 0.3)
    shop.answers["/page1"].seconds = 1.5
    source = refresh(source)
    assert counts(source) == {"unchanged": 9, "failed": 1}
    assert "did not answer in time" in reasons(source)["page1"]
    assert len(texts()) == 10


def test_a_page_that_overloads_its_reader_keeps_its_last_version(shop, add, refresh, monkeypatch):
    source = refresh(add())
    shop.serve(page1="Another text.")
    with monkeypatch.context() as patch:
        patch.setattr(reading, "LIMITS", Limits(seconds=0))
        source = refresh(source)
    assert counts(source) == {"unchanged": 9, "failed": 1}
    assert "takes too long" in reasons(source)["page1"]
    assert "Text of number 1." in texts()
    assert counts(refresh(source)) == {"unchanged": 9, "changed": 1}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(html("Secret", "x", "<meta name='robots' content='noindex'>")), "noindex"),
        (Answer(html("Secret", "x"), headers={"X-Robots-Tag": "noindex"}), "noindex"),
        (Answer(status=410), "410"),
    ],
)
def test_pages_that_must_not_be_stored(shop, add, refresh, answer, reason):
    shop.answers["/page1"] = answer
    source = refresh(add())
    assert counts(source) == {"new": 9, "left_out": 1}
    assert reason in reasons(source)["page1"]
    assert counts(refresh(source)) == {"unchanged": 9, "left_out": 1}


def test_robots_txt_is_honored(shop, add, refresh):
    source = refresh(add())
    shop.answers["/robots.txt"] = Answer(b"User-agent: puffer\nDisallow: /page1\n", content_type="text/plain")
    shop.statuses()
    source = refresh(source)
    assert counts(source) == {"unchanged": 9, "left_out": 1, "removed": 1}
    assert "/page1" not in shop.statuses()
    source = refresh(source)
    assert (counts(source), states(source)["page1"]) == ({"unchanged": 9, "left_out": 1}, "left_out")


def test_a_page_is_stored_once_under_its_canonical_address(shop, add, refresh):
    def variant(name: str) -> Answer:
        return Answer(html("Page", "The same text.", f"<link rel='canonical' href='{shop.url}/{name}'>"))

    shop.serve(a=variant("page1"), page1=variant("page1"), b=variant("unlisted"), c=variant("unlisted"))
    shop.map()
    source = refresh(add())
    assert counts(source) == {"new": 11, "left_out": 2}
    stored = {name for name, state in states(source).items() if state == "stored"}
    assert stored == {f"page{number}" for number in range(10)} | {"b"}
    assert counts(refresh(source)) == {"unchanged": 11, "left_out": 2}
    shop.serve(unlisted=variant("unlisted"))
    shop.map()
    for _ in range(2):
        source = refresh(source)
    assert states(source)["b"] == "variant"
    assert states(source)["unlisted"] == "stored"
    assert len(Document.objects.all()) == 11
    assert counts(refresh(source)) == {"unchanged": 11, "left_out": 3}


def test_a_site_that_stops_answering_ends_the_run_after_some_attempts(shop, add, refresh, worker, monkeypatch):
    monkeypatch.setattr(run, "SILENT_PAGES", 3)
    source = refresh(add())
    for number in range(10):
        shop.answers[f"/page{number}"] = Answer(status=503, headers={"Retry-After": "1000"})
    source = refresh(source)
    assert (source.state, source.phase, source.attempts) == ("waiting", "reading", 1)
    assert "3 pages in a row" in source.last_error
    assert len(texts()) == 10
