"""Uploads that are deleted with or without their documents, and the files that are kept for download."""

import html
import re
from dataclasses import replace

import pytest

from tests.support.knowledge.admin_pages import text_of
from tests.support.knowledge.uploads import LIST, NASTY, RETURNS, SHOP, sign_in
from tests.support.upstream import answering
from vectorstores.base import StoreSettings
from vectorstores.models import Document, LocalVector, Upload, UploadContent
from vectorstores.sources.uploaded import answer_item, as_lines, text_item
from vectorstores.stores.qdrant import Qdrant
from vectorstores.uploads.queue import queue

pytestmark = pytest.mark.django_db

QUESTION = "Which gift vouchers are sold here?"


def choose(client, *uploads, **more):
    sent = {"action": "delete_selected", "_selected_action": [upload.pk for upload in uploads], **more}
    return client.post(LIST, sent, follow=True)


def titles() -> set[str]:
    assert set(LocalVector.objects.values_list("title", flat=True)) == set(
        Document.objects.values_list("title", flat=True)
    )
    return set(Document.objects.values_list("title", flat=True))


@pytest.fixture
def answers(worker):
    def add(*questions):
        items = [answer_item(question, "Yes.") for question in questions]
        ids = [item["id"] for item in items]
        upload = queue(SHOP, "questions", f"Questions: {len(items)}", as_lines(items), document_ids=ids)
        worker()
        return upload

    return add


@pytest.fixture
def uploads(index, answers):
    """Return an upload of each kind. The file has two documents."""
    rows = index("rows.csv", b"question,content\nSize,We have all sizes.\nColor,Red.\n")
    text = index("Hours", as_lines([text_item("Hours", "We open at nine.")]), "text")
    return {"rows": rows, "text": text, "answers": answers(QUESTION)}


ALL = {"Size", "Color", "Hours", QUESTION}


@pytest.mark.parametrize(
    ("kind", "count", "left"),
    [("rows", 2, {"Hours", QUESTION}), ("text", 1, ALL - {"Hours"}), ("answers", 1, ALL - {QUESTION})],
)
def test_deleting_an_upload_with_its_documents(editor, uploads, kind, count, left):
    url = f"{LIST}{uploads[kind].pk}/delete/"
    page = editor.get(url)
    assert page.context["documents"] == count
    assert "Keep for chatbots to answer from" in text_of(page)
    assert editor.post(url, {"post": "yes", "documents": "delete"}).status_code == 302
    assert not Upload.objects.filter(pk=uploads[kind].pk).exists()
    assert titles() == left


@pytest.mark.parametrize("choice", ["keep", "", "x"])
def test_otherwise_the_documents_stay(editor, index, choice):
    upload = index("a.txt", b"Text.")
    assert choose(editor, upload, post="yes", documents=choice).status_code == 200
    assert not Upload.objects.exists()
    assert titles() == {"a"}


def test_several_uploads_are_deleted_with_their_documents(editor, uploads):
    page = choose(editor, *uploads.values())
    assert page.context["documents"] == 4
    choose(editor, *uploads.values(), post="yes", documents="delete")
    assert not Upload.objects.exists()
    assert titles() == set()


def test_an_upload_that_a_later_one_replaced_has_no_documents_any_more(editor, index):
    old, new = index("a.txt", b"Old."), index("a.txt", b"New.")
    assert "What about" not in text_of(editor.get(f"{LIST}{old.pk}/delete/"))
    editor.post(f"{LIST}{old.pk}/delete/", {"post": "yes", "documents": "delete"})
    assert LocalVector.objects.get().text == "New."
    assert editor.get(f"{LIST}{new.pk}/delete/").context["documents"] == 1


def test_uploads_into_other_collections_and_namespaces_keep_their_documents(editor, index):
    others = [replace(SHOP, target="faq"), replace(SHOP, namespace="blue")]
    upload = index("a.txt", b"Text.")
    for destination in others:
        index("a.txt", b"Text.", destination=destination)
    editor.post(f"{LIST}{upload.pk}/delete/", {"post": "yes", "documents": "delete"})
    assert Document.objects.count() == 2
    assert set(Document.objects.values_list("collection__name", "namespace")) == {("faq", ""), ("shop", "blue")}


@pytest.mark.parametrize("from_its_page", [True, False])
def test_if_the_documents_cannot_be_deleted_the_upload_stays(editor, index, qdrant_server, settings, from_its_page):
    settings.VECTOR_STORE_ENVIRONMENT = {"qdrant": {"api_key": qdrant_server.api_key, "base_url": qdrant_server.url}}
    Qdrant(StoreSettings(qdrant_server.api_key, qdrant_server.url)).create("faq", 1536)
    upload = index("a.txt", b"Text.", destination=replace(SHOP, store="qdrant", target="faq"))
    refusal = {"status": {"error": f"No space left {NASTY}"}}
    qdrant_server.pages["/collections/faq/points/delete?wait=true"] = answering(refusal, 500)
    sent = {"post": "yes", "documents": "delete"}
    page = (
        editor.post(f"{LIST}{upload.pk}/delete/", sent, follow=True)
        if from_its_page
        else choose(editor, upload, **sent)
    )
    assert "Qdrant, faq: 1 document was not deleted. Qdrant API Error (500): No space left" in text_of(page)
    assert NASTY not in page.text
    assert Upload.objects.filter(pk=upload.pk).exists()
    assert Document.objects.count() == 1


def test_without_the_permission_to_delete_nothing_is_deleted(client, index):
    upload = index("a.txt", b"Text.")
    viewer = sign_in(client, "view_document", "add_document", "view_collection")
    assert viewer.post(f"{LIST}{upload.pk}/delete/", {"post": "yes", "documents": "delete"}).status_code == 403
    choose(viewer, upload, post="yes", documents="delete")
    assert Document.objects.count() == Upload.objects.count() == 1


# The original file


def test_a_file_can_be_downloaded_as_long_as_it_is_kept(editor, index):
    upload = index("returns.md", RETURNS)
    document = Document.objects.get()
    url, page_url = f"{LIST}{upload.pk}/original/", f"/admin/vectorstores/document/{document.pk}/change/"
    assert editor.get(url).status_code == 404
    assert "The original file is not kept." in text_of(editor.get(page_url))
    UploadContent.objects.create(upload=upload, data=RETURNS)
    assert f'href="{url}"' in editor.get(page_url).text
    response = editor.get(url)
    assert response.content == RETURNS
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"] == 'attachment; filename="returns.md"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_only_users_who_may_see_documents_can_download_a_file(client, index):
    upload = queue(SHOP, "file", "returns.md", RETURNS)
    assert sign_in(client, "view_collection").get(f"{LIST}{upload.pk}/original/").status_code == 403


def test_the_number_of_documents_links_to_their_list(editor, uploads):
    page = editor.get(f"{LIST}{uploads['rows'].pk}/change/").text
    (url,) = set(re.findall(r'href="(/admin/vectorstores/document/\?[^"]+)"', page))
    listed = editor.get(html.unescape(url))
    assert listed.status_code == 200
    assert {document.title for document in listed.context["cl"].result_list} == {"Size", "Color"}
