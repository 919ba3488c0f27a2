"""Sources in the admin: add, preview, approve, refresh, cancel, confirm, delete."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from tests.support.knowledge.admin_pages import list_of, page_of, text_of
from tests.support.knowledge.imports import sent_texts, texts
from tests.support.knowledge.uploads import sign_in
from tests.support.knowledge.website import Answer, html
from tests.support.upstream import embedding
from vectorstores.models import Collection, Document, Source, SourcePage

pytestmark = pytest.mark.django_db

ADD = "/admin/vectorstores/source/add/"


@pytest.fixture
def editor(client, model):
    model.pages["/v1/embeddings"] = embedding(1536)  # as the model that the form offers
    names = [f"{action}_source" for action in ("view", "add", "change", "delete")]
    return sign_in(client, *names, "view_document", "delete_document", "view_collection", "delete_collection")


@pytest.fixture
def shop(site):
    site.serve(**{f"page{number}": f"Text of number {number}." for number in range(10)})
    site.map()
    return site


def form(site, path="/", kind="site", **changes):
    place = {"collection": "", "new_collection": "kb", "embedding": "openai/text-embedding-3-small"}
    settings = {"schedule": "daily", "max_pages": "2000", "max_depth": "5"}
    return {"kind": kind, "address": f"{site.url}{path}", **settings, **place, **changes}


def press(client, source: Source, button: str):
    response = client.post(page_of(source, button), {"_form_submitted": "True"})
    assert response.headers["HX-Redirect"] == page_of(source)
    source.refresh_from_db()
    return response


def buttons(client, source: Source) -> set[str]:
    page = client.get(page_of(source)).text
    names = ("approve", "confirm_removals", "refresh_now", "cancel", "show_pages", "show_documents")
    return {name for name in names if page_of(source, name) in page}


def test_pages_are_shown_before_anything_is_embedded(editor, shop, worker, model):
    response = editor.post(ADD, form(shop))
    source = Source.objects.get()
    assert response.url == page_of(source)
    assert source.added_by.username == "colleague"
    assert buttons(editor, source) == {"cancel", "show_pages", "show_documents"}
    worker()
    source.refresh_from_db()
    page = text_of(editor.get(page_of(source)))
    assert "10 pages were found. Nothing is stored yet" in page
    assert f"{shop.url}/page3" in page
    assert buttons(editor, source) == {"approve", "refresh_now", "show_pages", "show_documents"}
    assert (model.sent, texts_or_none(), source.next_run_at) == ([], set(), None)
    press(editor, source, "approve")
    worker()
    source.refresh_from_db()
    assert (source.new, len(texts())) == (10, 10)
    assert Collection.objects.get().name == "kb"
    assert timedelta(hours=23) < source.next_run_at - timezone.now() < timedelta(hours=25)
    assert "up to date" in text_of(editor.get(page_of(source)))
    assert LogEntry.objects.filter(change_message="Approved its pages.").exists()


def texts_or_none() -> set[str]:
    return texts() if Collection.objects.exists() else set()


def test_a_crawl_is_previewed_without_storing_anything(editor, site, worker, model):
    site.answers = {"/": Answer(html("x", "<a href='/a'>a</a>")), "/a": Answer(html("a", "Text."))}
    editor.post(ADD, form(site))
    worker()
    source = Source.objects.get()
    assert set(source.pages.values_list("state", "documents")) == {("found", 0)}
    assert (source.pages.count(), model.sent, source.phase) == (2, [], "")
    press(editor, source, "approve")
    worker()
    assert len(texts()) == 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"address": ""}, "This field is required"),
        ({"address": "no address"}, "Enter a valid web address"),
        ({"address": "ftp://www.example.com/"}, "Enter a valid web address"),
        ({"address": "https://user:pw@www.example.com/"}, "user name or password"),
        ({"address": "http://[::1"}, "Enter a valid web address"),
        ({"address": "https://www.example.com:0/"}, "Enter a valid web address"),
        ({"address": "https://www.example.com/" + "x" * 2000}, "at most 2000 characters"),
        ({"address": "docs", "kind": "folder"}, "Select a valid choice"),
        ({"kind": "other"}, "Select a valid choice"),
        ({"new_collection": ""}, "Enter a name or choose an existing collection."),
        ({"max_pages": "0"}, "greater than or equal to 1"),
        ({"max_pages": "9999999"}, "less than or equal to 50000"),
        ({"max_depth": "x"}, "Enter a whole number"),
        ({"schedule": "yearly"}, "Select a valid choice"),
    ],
)
def test_a_wrong_form_is_told(editor, site, changes, error):
    response = editor.post(ADD, form(site, **changes))
    assert error in text_of(response)
    assert not Source.objects.exists()


def test_an_address_without_scheme_is_https(editor, site):
    editor.post(ADD, form(site, address=" www.example.com/help#top "))
    assert Source.objects.get().address == "https://www.example.com/help"


def test_the_same_address_twice_is_refused(editor, site):
    editor.post(ADD, form(site))
    assert "is a source of the collection already" in text_of(editor.post(ADD, form(site)))
    assert Source.objects.count() == 1


def test_folders_are_offered_only_below_the_folder_for_sources(editor, site, settings, tmp_path):
    assert "Folder on the server" not in text_of(editor.get(ADD))
    (tmp_path / "docs").mkdir()
    settings.SOURCES_FOLDER = str(tmp_path)
    assert "Folder on the server" in text_of(editor.get(ADD))
    for address in ("..", "/etc", "none", "docs/../.."):
        assert "There is no folder" in text_of(editor.post(ADD, form(site, kind="folder", address=address)))
    assert editor.post(ADD, form(site, kind="folder", address="/docs/")).status_code == 302
    assert Source.objects.get().address == "docs"


def test_the_schedule_can_be_changed(editor, shop, add, refresh):
    source = refresh(add())
    fields = {"schedule": "hourly", "max_pages": "100", "max_depth": "3"}
    assert editor.post(page_of(source), fields).status_code == 302
    source.refresh_from_db()
    assert (source.max_pages, source.state) == (100, "waiting")
    assert source.next_run_at == source.started_at + timedelta(hours=1)
    assert editor.post(page_of(source), {**fields, "schedule": "off"}).status_code == 302
    source.refresh_from_db()
    assert (source.state, source.next_run_at) == ("done", None)
    assert (
        editor.post(page_of(source), {**fields, "address": "https://evil.example/", "target": "x"}).status_code == 302
    )
    source.refresh_from_db()
    assert (source.address, source.target) == (f"{shop.url}/", "kb")


def test_refresh_now_and_cancel(editor, shop, add, refresh, worker):
    source = refresh(add())
    press(editor, source, "refresh_now")
    assert source.is_busy
    assert buttons(editor, source) == {"cancel", "show_pages", "show_documents"}
    assert (
        f'hx-get="{reverse("admin:vectorstores_source_status", args=[source.pk])}"' in editor.get(page_of(source)).text
    )
    assert "HX-Refresh" not in editor.get(page_of(source, "status")).headers
    press(editor, source, "cancel")
    assert not source.is_busy
    assert editor.get(page_of(source, "status")).headers["HX-Refresh"] == "true"
    assert "cancelled" in text_of(editor.get(page_of(source)))
    worker()
    source.refresh_from_db()
    assert source.last_error == "Cancelled."
    assert refresh(source).unchanged == 10


def test_removals_are_confirmed(editor, shop, add, refresh, worker):
    source = refresh(add())
    shop.drop("page1", "page2", "page3")
    source = refresh(source)
    assert "3 of 10 stored pages have vanished" in text_of(editor.get(page_of(source)))
    press(editor, source, "confirm_removals")
    assert LogEntry.objects.filter(change_message="Confirmed the removal of 3 pages.").exists()
    worker()
    assert len(texts()) == 7
    assert "confirm_removals" not in buttons(editor, Source.objects.get())


def test_a_button_that_comes_too_late_does_nothing(editor, shop, add, refresh):
    source = refresh(add())
    for button in ("approve", "cancel", "confirm_removals"):
        press(editor, source, button)
    assert (source.state, source.is_cancelled) == ("done", False)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("choice", ["delete", "keep"])
def test_deleting_a_source_asks_for_its_documents(editor, shop, add, refresh, choice):
    source = refresh(add())
    assert "What about the 10 documents that were stored?" in text_of(editor.get(page_of(source, "delete")))
    editor.post(page_of(source, "delete"), {"post": "yes", "documents": choice})
    assert not Source.objects.exists()
    assert not SourcePage.objects.exists()
    assert Document.objects.count() == len(texts()) == (0 if choice == "delete" else 10)


def test_documents_stay_without_the_permission_to_delete_them(client, shop, add, refresh):
    source = refresh(add())
    colleague = sign_in(client, "view_source", "delete_source")
    assert "documents that were stored" not in text_of(colleague.get(page_of(source, "delete")))
    colleague.post(page_of(source, "delete"), {"post": "yes", "documents": "delete"})
    assert (Source.objects.count(), Document.objects.count()) == (0, 10)


def test_the_sources_of_a_deleted_collection_are_deleted(editor, shop, add, refresh):
    source, other = refresh(add()), add("/page1", "page", target="other")
    editor.post(page_of(Collection.objects.get(name="kb"), "delete"), {"post": "yes"})
    assert not Collection.objects.filter(name="kb").exists()
    assert list(Source.objects.all()) == [other] != [source]


def test_the_lists(editor, shop, add, refresh, django_assert_max_num_queries):
    source = refresh(add())
    with django_assert_max_num_queries(20):
        page = text_of(editor.get(list_of("source")))
    assert "10 new" in page
    pages = editor.get(page_of(source, "show_pages"), follow=True)
    assert f"{shop.url}/page3" in pages.text
    one = editor.get(page_of(source.pages.first()))
    assert "stored" in text_of(one)
    found = editor.get(page_of(source, "show_documents"), follow=True)
    assert found.text.count("/page") >= 10
    documents = editor.get(f"{list_of('document')}?page__id__exact={source.pages.first().pk}")
    assert documents.context["cl"].result_count == 1
    collection = editor.get(page_of(Collection.objects.get()))
    assert f"{list_of('source')}?store=local&amp;target=kb" in collection.text
    assert source.address in editor.get(f"{list_of('source')}?store=local&target=kb").text


def test_adding_from_a_collection(editor, shop, add, refresh, model):
    refresh(add())
    collection = Collection.objects.get()
    response = editor.get(page_of(collection, "add_source_here"), follow=True)
    assert f'<option value="{collection.pk}" selected>' in response.text
    editor.post(ADD, form(shop, "/page1", "page", collection=collection.pk, new_collection=""))
    added = Source.objects.get(kind="page")
    assert (added.target, added.embedding_model) == ("kb", "emb-1")
    model.sent.clear()
    added.approve()
    assert refresh(added).new == 1
    assert sent_texts(model) == []  # it is stored already
