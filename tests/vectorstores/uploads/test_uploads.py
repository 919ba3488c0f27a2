"""Files, texts, and questions with answers, uploaded in the admin and indexed by a worker."""

import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from tests.support.knowledge.uploads import LIST, NASTY, RETURNS, SHOP, file, sign_in
from vectorstores.models import Collection, Document, LocalVector, Upload, UploadContent
from vectorstores.uploads.queue import queue

pytestmark = pytest.mark.django_db


ADD = "/admin/vectorstores/upload/add/"


def form(kind="file", **changes):
    pairs = {"pairs-TOTAL_FORMS": "3", "pairs-INITIAL_FORMS": "0"}
    place = {"collection": "", "new_collection": "shop", "embedding": "openai/text-embedding-3-small"}
    return {"kind": kind, **pairs, **place, **changes}


def errors_in(response) -> str:
    assert response.status_code == 200
    forms = [response.context["form"], *response.context["pairs"]]
    return json.dumps([one.errors for one in forms]) + str(response.context["pairs"].non_form_errors())


def texts() -> dict[str, str]:
    return dict(LocalVector.objects.values_list("title", "text"))


# Accepted uploads


def test_files_are_indexed_and_their_content_is_deleted(editor, worker):
    rows = b"question,content,url\nSize,We have all sizes.,https://shop.example/size\nColor,Red.,\n"
    response = editor.post(ADD, form(uploads=[file("returns.md"), file("rows.csv", rows)]))
    assert response.url == LIST
    assert set(Upload.objects.values_list("name", "state", "chunks")) == {
        ("returns.md", "waiting", None),
        ("rows.csv", "waiting", None),
    }
    worker()
    assert set(Upload.objects.values_list("name", "state", "documents", "chunks", "chunks_done", "refused")) == {
        ("returns.md", "done", 1, 1, 1, 0),
        ("rows.csv", "done", 2, 2, 2, 0),
    }
    assert not UploadContent.objects.exists()
    assert set(Document.objects.values_list("source", "origin")) == {
        ("returns.md", "Upload: returns.md"),
        ("rows.csv", "Upload: rows.csv"),
    }
    assert LocalVector.objects.count() == 3
    collection = Collection.objects.get()
    assert (collection.name, collection.embedding_provider, collection.embedding_model) == (
        "shop", "openai", "text-embedding-3-small",
    )  # fmt: skip
    assert LogEntry.objects.filter(change_message="Added to shop (Local).").count() == 2


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"Shoes may be returned."),
        ("a.html", b"<html><head><title>x</title></head><body><p>Shoes may be returned.</p></body></html>"),
        ("a.jsonl", b'{"content": "Shoes may be returned."}\n'),
        ("a.json", b'[{"content": "Shoes may be returned."}]'),
        ("A.CSV", b"content\nShoes may be returned.\n"),
        (
            "a.xml",
            b'<rss xmlns:wp="w" xmlns:content="c"><channel><item><title>T</title><guid>g</guid>'
            b"<content:encoded>&lt;p&gt;Shoes may be returned.&lt;/p&gt;</content:encoded>"
            b"<wp:status>publish</wp:status><wp:post_type>post</wp:post_type></item></channel></rss>",
        ),
    ],
)
def test_every_supported_file_type_is_indexed(index, name, data):
    upload = index(name, data)
    assert (upload.state, upload.documents, upload.last_error) == ("done", 1, "")
    assert "Shoes may be returned." in LocalVector.objects.get().text


def test_a_text_with_the_same_title_replaces_the_earlier_one(editor, worker):
    url = "https://shop.example/returns"
    for text in ("Within 30 days.", "Within 45 days."):
        response = editor.post(ADD, form("text", title="Returns", text=text, url=url))
        assert response.status_code == 302
        worker()
    assert texts() == {"Returns": "Within 45 days."}
    document = Document.objects.get()
    assert (document.title, document.source) == ("Returns", "Pasted text")
    assert LocalVector.objects.get().metadata["url"] == url


def test_each_question_and_answer_is_a_document(editor, worker):
    pairs = {
        "pairs-0-question": "May I return shoes?", "pairs-0-answer": "Within 45 days.",
        "pairs-1-question": "Where are you?", "pairs-1-answer": "In Bremen.",
    }  # fmt: skip
    assert editor.post(ADD, form("questions", **pairs)).status_code == 302
    worker()
    again = {"pairs-0-question": "Where are you?", "pairs-0-answer": "In Kiel."}
    assert editor.post(ADD, form("questions", **again)).status_code == 302
    worker()
    assert texts() == {"May I return shoes?": "Within 45 days.", "Where are you?": "In Kiel."}
    assert set(Document.objects.values_list("source", flat=True)) == {"Question and answer"}


REFUSED = [
    (form(), "This field is required."),
    (form(uploads=file("a.exe")), "a.exe: this file type is not supported"),
    (form(uploads=file("empty.txt", b"")), "empty.txt is empty."),
    (form(uploads=file("large.txt", b"x" * 2000)), "large.txt is larger than 0.00095"),
    (form(uploads=[file("a.md"), file("x/a.md")]), "Two files are named a.md."),
    (form(uploads=file("a.md"), new_collection=""), "Enter a name or choose an existing collection."),
    (form(uploads=file("a.md"), new_collection="x" * 201), "at most 200 characters"),
    (form(uploads=file("a.md"), embedding="openai/other"), "Select a valid choice."),
    (form("text", title="x"), "This field is required."),
    (form("text", title="x", text="y", url="javascript:alert(1)"), "Enter a valid URL."),
    (form("questions"), "This field is required."),
    (form("questions", **{"pairs-0-question": "Why?"}), "This field is required."),
    (form("questions", **{"pairs-TOTAL_FORMS": "5000"}), "at most 100 forms"),
    (form("other"), "Select a valid choice."),
]


@pytest.mark.parametrize(("posted", "error"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_invalid_uploads_are_rejected(editor, settings, posted, error):
    settings.MAX_UPLOAD_BYTES = 1000
    assert error in errors_in(editor.post(ADD, posted))
    assert not Upload.objects.exists()


@pytest.mark.parametrize("name", ["../../etc/cron.d/evil.md", "C:\\temp\\evil.md", "/abs/evil.md"])
def test_directories_are_removed_from_file_names(editor, worker, name):
    body = f'--b\r\nContent-Disposition: form-data; name="uploads"; filename="{name}"\r\n\r\nText.\r\n'
    fields = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in form().items()
    )
    response = editor.post(ADD, f"{body}{fields}--b--\r\n", content_type="multipart/form-data; boundary=b")
    assert response.status_code == 302
    assert Upload.objects.get().name == "evil.md"


def test_an_upload_to_an_existing_collection_uses_its_model(editor, worker, index):
    index("a.txt", b"A.")
    collection = Collection.objects.get()
    editor.post(ADD, form(uploads=file("b.txt"), collection=collection.pk, new_collection="", embedding=""))
    assert Upload.objects.first().embedding_model == "text-embedding-3-small"
    worker()
    assert Document.objects.filter(collection=collection).count() == 2


# Repeated uploads


def test_the_same_name_replaces_and_unchanged_content_is_skipped(index, openai):
    index("returns.md", RETURNS)
    openai.sent.clear()
    same = index("returns.md", RETURNS)
    assert (same.state, same.documents, same.chunks_done, openai.sent) == ("done", 1, 1, [])
    long = index("returns.md", b"# Returns\n\n" + b"\n\n".join(b"Paragraph %d. " % n * 100 for n in range(9)))
    assert long.chunks > 1
    assert LocalVector.objects.count() == long.chunks_done == long.chunks
    index("returns.md", RETURNS)
    assert texts() == {"Returns": RETURNS.decode()}


def test_rows_missing_from_the_new_file_are_deleted(index):
    index("rows.csv", b"content\nOne.\nTwo.\nTwo.\n")
    assert set(LocalVector.objects.values_list("text", flat=True)) == {"One.", "Two."}
    index("others.csv", b"content\nOther.\n")
    upload = index("rows.csv", b"content\nTwo.\nThree.\n")
    assert (upload.documents, upload.chunks, upload.chunks_done) == (2, 2, 2)
    assert set(LocalVector.objects.values_list("text", flat=True)) == {"Two.", "Three.", "Other."}


def test_rows_are_kept_if_the_new_file_is_incomplete(index):
    index("rows.jsonl", b'{"id": "a", "content": "One."}\n{"id": "b", "content": "Two."}\n')
    upload = index("rows.jsonl", b'{"id": "a", "content": "One."}\nbroken\n')
    assert (upload.state, upload.refused) == ("done", 1)
    assert upload.refusals[0]["place"] == "rows.jsonl:2"
    assert LocalVector.objects.count() == 2
    assert UploadContent.objects.get().upload == upload  # kept for a retry


def test_a_later_upload_replaces_a_waiting_one_of_the_same_name(worker):
    earlier = queue(SHOP, "file", "a.txt", b"Old.")
    other = queue(SHOP, "file", "b.txt", b"Other.")
    later = queue(SHOP, "file", "a.txt", b"New.")
    worker()
    states = dict(Upload.objects.values_list("pk", "state"))
    assert states == {earlier.pk: "dead", other.pk: "done", later.pk: "done"}
    assert set(LocalVector.objects.values_list("text", flat=True)) == {"Other.", "New."}
    assert not Upload.objects.with_has_content().get(pk=earlier.pk).has_content


def test_two_versions_are_never_processed_at_once(worker):
    earlier = queue(SHOP, "file", "a.txt", b"Old.")
    Upload.objects.update(lease="another", leased_until=timezone.now() + timedelta(seconds=60))
    later = queue(SHOP, "file", "a.txt", b"New.")
    worker()
    later.refresh_from_db()
    assert later.state == "waiting"
    Upload.objects.filter(pk=earlier.pk).update(leased_until=timezone.now())  # the first worker died
    worker()
    earlier.refresh_from_db()
    later.refresh_from_db()
    assert (earlier.state, earlier.last_error, later.state) == ("dead", "Cancelled.", "done")
    assert LocalVector.objects.get().text == "New."


# The page


def test_progress_in_json_and_in_the_list(editor, worker, index):
    done = index("done.txt", b"Text.")
    waiting = queue(SHOP, "file", f"{NASTY}.txt", b"Text.")
    Upload.objects.filter(pk=waiting.pk).update(
        leased_until=timezone.now() + timedelta(seconds=60), chunks=10, chunks_done=4
    )
    answer = editor.get(f"{LIST}progress/", {"id": [done.pk, waiting.pk, "x", "9" * 30]}).json()["uploads"]
    assert answer[str(done.pk)] == {
        "state": "stored", "status": "stored", "details": "1 document, 1 chunk", "error": "", "done": 1, "total": 1,
        "is_over": True, "can_retry": False, "can_cancel": False,
    }  # fmt: skip
    processing = answer[str(waiting.pk)]
    assert (processing["status"], processing["details"], processing["can_cancel"]) == (
        "processing",
        "4 of 10 chunks",
        True,
    )
    page = editor.get(LIST).content.decode()
    assert "4 of 10 chunks" in page
    assert NASTY not in page
    assert "&lt;script&gt;" in page


def test_cancel_and_retry(editor, worker):
    upload = queue(SHOP, "file", "a.txt", b"Text.")
    url = f"{LIST}{upload.pk}"
    assert editor.get(f"{url}/cancel/").status_code == 405
    assert editor.post(f"{url}/cancel/").json()["status"] == "cancelled"
    worker()
    assert not LocalVector.objects.exists()
    again = editor.post(f"{url}/retry/").json()
    assert (again["status"], again["can_retry"], again["can_cancel"]) == ("waiting", False, True)
    worker()
    upload.refresh_from_db()
    assert (upload.state, upload.attempts, LocalVector.objects.count()) == ("done", 1, 1)
    assert editor.post(f"{url}/retry/").json()["status"] == "stored"  # a stored upload is not retried
    assert editor.post(f"{LIST}999/retry/").status_code == 404


def test_several_uploads_are_canceled_and_retried(editor, worker):
    uploads = [queue(SHOP, "file", f"{number}.txt", b"Text.") for number in range(3)]
    chosen = {"_selected_action": [upload.pk for upload in uploads[:2]]}
    editor.post(LIST, {"action": "cancel_selected", **chosen})
    assert Upload.objects.filter(state="dead").count() == 2
    editor.post(LIST, {"action": "retry_selected", **chosen})
    assert Upload.objects.filter(state="waiting").count() == 3


def test_a_viewer_cannot_add_cancel_retry_or_delete(client, worker):
    upload = queue(SHOP, "file", "a.txt", b"Text.")
    viewer = sign_in(client, "view_document")
    assert viewer.get(LIST).status_code == 200
    answer = viewer.get(f"{LIST}progress/", {"id": upload.pk}).json()["uploads"][str(upload.pk)]
    assert (answer["can_retry"], answer["can_cancel"]) == (False, False)
    for url in (ADD, f"{LIST}{upload.pk}/cancel/", f"{LIST}{upload.pk}/retry/", f"{LIST}{upload.pk}/delete/"):
        assert viewer.get(url).status_code == 403
        assert viewer.post(url, form(uploads=file("a.md"))).status_code == 403
    viewer.post(LIST, {"action": "cancel_selected", "_selected_action": [upload.pk]})
    upload.refresh_from_db()
    assert (upload.state, Upload.objects.count()) == ("waiting", 1)
    client.logout()
    for url in (LIST, ADD, f"{LIST}progress/"):
        assert client.get(url).status_code == 302


def test_the_collection_pages_link_to_the_upload_form(editor, index):
    index("a.txt", b"Text.")
    collection = Collection.objects.get()
    page = editor.get("/admin/vectorstores/collection/").content.decode()
    assert "Add content" in page
    there = editor.get(reverse("admin:vectorstores_collection_add_content_here", args=[collection.pk]), follow=True)
    assert f'<option value="{collection.pk}" selected>' in there.content.decode()
    assert editor.get(reverse("admin:vectorstores_collection_add_content")).url == ADD


def test_an_upload_can_be_deleted_and_its_documents_stay(editor, index):
    upload = index("a.txt", b"Text.")
    assert editor.post(f"{LIST}{upload.pk}/delete/", {"post": "yes"}).status_code == 302
    assert (Upload.objects.count(), Document.objects.count()) == (0, 1)
