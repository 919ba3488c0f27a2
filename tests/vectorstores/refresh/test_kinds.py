"""The kinds of sources: a page, a site that is crawled, a feed, a folder."""

import os

import pytest

from tests.support.knowledge.imports import sent_texts, texts, write
from tests.support.knowledge.sources import counts, states
from tests.support.knowledge.website import Answer, html
from vectorstores.models import Document, Source
from vectorstores.refresh import run

pytestmark = pytest.mark.django_db


def linking(*paths: str, text: str = "", head: str = "") -> Answer:
    """Return a page with links."""
    links = "".join(f"<a href='{path}'>{path}</a>" for path in paths)
    return Answer(html("Page", f"{text or paths} {links}", head))


# A page


def test_a_page(site, add, refresh, model):
    site.serve(about="We sell shoes.")
    source = refresh(add("/about", "page"))
    assert (counts(source), texts()) == ({"new": 1}, {"We sell shoes."})
    assert counts(refresh(source)) == {"unchanged": 1}
    site.drop("about")
    source = refresh(source)  # all of its pages would vanish
    assert (source.has_held_removals, texts()) == (True, {"We sell shoes."})


def test_a_page_may_redirect_and_is_stored_under_its_new_address(site, add, refresh):
    site.serve(old=Answer(status=301, headers={"Location": "/new"}), new="We sell shoes.")
    source = refresh(add("/old", "page"))
    assert counts(source) == {"new": 1}
    assert Document.objects.get().source == f"{site.url}/new"
    assert counts(refresh(source)) == {"unchanged": 1}


def test_a_table_on_the_web_is_one_page_with_many_documents(site, add, refresh, model):
    rows = Answer(b"title,content\nShoes,We sell shoes.\nHats,We sell hats.\n", content_type="text/csv")
    site.serve(rows=rows)
    source = refresh(add("/rows", "page"))
    assert (counts(source), source.pages.get().documents, len(texts())) == ({"new": 1}, 2, 2)
    site.serve(rows=Answer(b"title,content\nShoes,We sell shoes.\nSocks,We sell socks.\n", content_type="text/csv"))
    model.sent.clear()
    assert counts(refresh(source)) == {"changed": 1}
    assert texts() == {"We sell shoes.", "We sell socks."}
    assert len(sent_texts(model)) == 1


# A site without a sitemap


@pytest.fixture
def wiki(site):
    """Return a site whose pages link to each other: / -> a -> b -> c, and more that must not be followed."""
    outside = ("https://www.example.com/", "mailto:a@example.com", "/picture.png", "javascript:alert(1)", "/a#top")
    site.answers = {
        "/": linking("/a", "/private", *outside),
        "/a": linking("/b", "/"),
        "/b": linking("/c", "b"),
        "/c": linking("/", text="The end."),
        "/private": linking("/private/more"),
        "/robots.txt": Answer(b"User-agent: *\nDisallow: /private\n", content_type="text/plain"),
    }
    return site


def test_the_links_of_a_site_are_followed(wiki, add, refresh):
    source = refresh(add())
    assert (source.sitemap, counts(source)) == ("", {"new": 4})
    assert states(source) == dict.fromkeys(("", "a", "b", "c"), "stored")
    assert set(source.pages.values_list("depth", flat=True)) == {0, 1, 2, 3}
    assert not {"/private", "/picture.png"} & wiki.statuses().keys()
    assert counts(refresh(source)) == {"unchanged": 4}
    statuses = wiki.statuses()
    assert [statuses[path] for path in ("/a", "/b", "/c")] == [304] * 3  # though no links come with it


def test_a_page_of_a_crawl_that_is_no_longer_linked_is_removed(wiki, add, refresh):
    wiki.answers["/"] = linking("/a", "/x", "/y", "/z")
    wiki.serve(x="Text of x.", y="Text of y.", z="Text of z.")
    source = refresh(add())
    wiki.answers["/"] = linking("/a", "/x", "/y")
    assert counts(refresh(source)) == {"changed": 1, "unchanged": 5}
    assert counts(refresh(source)) == {"unchanged": 6, "removed": 1}
    assert "Text of z." not in texts()


def test_a_page_that_fails_does_not_hide_the_pages_behind_it(wiki, add, refresh):
    source = refresh(add())
    wiki.answers["/a"] = Answer(status=500)
    for _ in range(3):
        source = refresh(source)
        assert counts(source) == {"unchanged": 3, "failed": 1}
    assert len(texts()) == 4


@pytest.mark.parametrize(
    ("limit", "read"),
    [({"max_depth": 2}, {"", "a", "b"}), ({"max_pages": 2}, {"", "a"}), ({"max_depth": 1}, {"", "a"})],
)
def test_limits_of_a_crawl(wiki, add, refresh, limit, read):
    source = refresh(add(**limit))
    assert states(source).keys() == read
    assert source.is_listing_complete == ("max_depth" in limit)
    assert bool(source.notes) == ("max_pages" in limit)


def test_a_crawl_stays_below_its_address(site, add, refresh):
    site.answers = {
        "/docs/": linking("/docs/a", "/blog/b", "../docs/c/d", "/docsother"),
        **{path: Answer(html("Page", path)) for path in ("/docs/a", "/blog/b", "/docs/c/d", "/docsother")},
    }
    source = refresh(add("/docs/"))
    assert states(source).keys() == {"", "a", "d"}


def test_a_crawl_ends_after_its_limit_of_bytes(wiki, add, refresh, monkeypatch):
    monkeypatch.setattr(run, "MAX_BYTES", 100)
    source = refresh(add())
    assert counts(source) == {"new": 1}
    assert "The run ended after" in source.notes[0]["text"]


def test_nofollow_and_redirects_in_a_crawl(site, add, refresh):
    site.answers = {
        "/": linking("/a", "/moved", "/loop", head="<base href='/'>"),
        "/a": linking("/hidden", head="<meta name='robots' content='nofollow'>"),
        "/moved": Answer(status=302, headers={"Location": "/target"}),
        "/target": linking(text="The target."),
        "/loop": Answer(status=302, headers={"Location": "/loop"}),
        "/hidden": linking(text="Hidden."),
    }
    source = refresh(add())
    assert states(source) == {"": "stored", "a": "stored", "moved": "stored", "loop": "failed"}
    assert "redirects too often" in source.pages.get(address__endswith="/loop").error


# A site with a sitemap


def test_of_a_sitemap_only_the_pages_below_the_address_are_read(site, add, refresh):
    site.serve(help__a="Text a.", help__b="Text b.", blog__c="Text c.", helpful="Text d.")
    site.map()
    assert states(refresh(add("/help/"))).keys() == {"a", "b"}
    assert states(refresh(add("/sitemap.xml", target="all"))).keys() == {"a", "b", "c", "helpful"}


def test_robots_txt_may_name_several_sitemaps(site, add, refresh):
    site.serve(a="Text a.", b="Text b.", c="Text c.")
    site.map("a", "b", path="/one.xml")
    site.map("b", "c", path="/two.xml")
    lines = "".join(f"Sitemap: {site.url}/{name}.xml\n" for name in ("one", "two", "missing"))
    site.serve(**{"robots.txt": Answer(lines.encode(), content_type="text/plain")})
    source = refresh(add())
    assert states(source).keys() == {"a", "b", "c"}
    assert not source.is_listing_complete
    assert source.notes == [{"place": f"{site.url}/missing.xml", "text": "The sitemap answered with HTTP 404."}]


def test_a_site_that_redirects_elsewhere_is_told(site, add, refresh, settings):
    settings.PRIVATE_HOST_ALLOWLIST = [site.host, f"localhost:{site.server_port}"]
    site.answers["/"] = Answer(status=301, headers={"Location": f"http://localhost:{site.server_port}/a"})
    site.serve(a="Text a.")
    assert "redirects to another site. Add http://localhost" in refresh(add()).last_error


# A feed


def test_a_feed_lists_new_pages_and_keeps_the_old_ones(site, add, refresh):
    site.serve(**{f"post{number}": f"Text of post {number}." for number in range(4)})
    site.feed("post0", "post1")
    source = refresh(add("/feed.xml", "feed"))
    assert counts(source) == {"new": 2}
    site.feed("post2", "post3")
    for expected in ({"new": 2, "unchanged": 2}, {"unchanged": 4}, {"unchanged": 4}):
        source = refresh(source)
        assert counts(source) == expected
    site.feed("post3")
    site.serve(post0="Another text.")
    assert counts(refresh(source)) == {"changed": 1, "unchanged": 3}


@pytest.mark.parametrize("body", [b"<html>Not a feed</html>", b"", b"<rss></rss>", b"\xff\xfe"])
def test_what_is_no_feed_is_told(site, add, refresh, body):
    site.serve(**{"feed.xml": Answer(body)})
    source = refresh(add("/feed.xml", "feed"))
    assert "feed.xml" in source.last_error or "empty" in source.last_error
    assert not source.pages.exists()


# A folder


@pytest.fixture
def folder(settings, tmp_path):
    """Return the folder for sources, which has a folder "docs" with a file and a folder "other" with another."""
    settings.SOURCES_FOLDER = str(tmp_path / "sources")
    write(tmp_path / "sources/docs/shoes.md", "# Shoes\n\nWe sell shoes.")
    write(tmp_path / "sources/docs/sub/rows.csv", "title,content\nHats,We sell hats.\n")
    write(tmp_path / "sources/other/other.md", "Another folder.")
    write(tmp_path / "secret.md", "The password is hunter2.")
    return tmp_path / "sources"


def test_the_files_of_a_folder(folder, add, refresh, model):
    source = refresh(add("docs", "folder"))
    assert counts(source) == {"new": 2}
    assert len(texts()) == 2
    write(folder / "docs/shoes.md", "# Shoes\n\nWe sell boots.")
    model.sent.clear()
    assert counts(refresh(source)) == {"changed": 1, "unchanged": 1}
    assert len(sent_texts(model)) == 1
    for number in range(8):
        write(folder / f"docs/{number}.txt", f"Text {number}.")
    refresh(source)
    (folder / "docs/shoes.md").unlink()
    assert counts(refresh(source)) == {"unchanged": 9, "removed": 1}


def test_a_file_that_is_too_large_is_refused(folder, add, refresh, settings):
    settings.MAX_UPLOAD_BYTES = 1000
    write(folder / "docs/large.txt", "x" * 2000)
    source = refresh(add("docs", "folder"))
    assert counts(source) == {"new": 2, "failed": 1}


def test_links_that_lead_out_of_a_folder_are_not_followed(folder, add, refresh):
    (folder / "docs/secret.md").symlink_to(folder.parent / "secret.md")
    (folder / "docs/linked").symlink_to(folder.parent)
    (folder / "docs/neighbor").symlink_to(folder / "other")
    os.mkfifo(folder / "docs/pipe.txt")
    source = refresh(add("docs", "folder"))
    assert counts(source) == {"new": 2}
    (folder / "docs/shoes.md").unlink()
    (folder / "docs/shoes.md").symlink_to(folder.parent / "secret.md")  # after it was listed
    source.pages.update(listed_run=source.run, read_run=0)
    Source.objects.filter(pk=source.pk).update(state="waiting", phase="reading")
    source = refresh(source)
    assert not any("hunter2" in text for text in texts())


@pytest.mark.parametrize("name", ["..", "../", "docs/../..", "/etc", "/", "docs/../../secret.md", "none", "a\x00b"])
def test_only_folders_below_the_folder_for_sources_are_read(folder, add, refresh, name):
    if "\x00" in name:
        pytest.skip("databases refuse NUL") if os.environ.get("DATABASE_URL", "").startswith("postgres") else None
    (folder / "docs/out").symlink_to(folder.parent)
    source = refresh(add(name, "folder"))
    assert "There is no folder" in source.last_error
    assert "There is no folder" in refresh(add("docs/out", "folder")).last_error


def test_folders_are_off_by_default(add, refresh, settings, tmp_path):
    assert settings.SOURCES_FOLDER == ""
    assert "turned off" in refresh(add(str(tmp_path), "folder")).last_error
