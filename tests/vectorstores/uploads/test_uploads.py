"""Files, texts, and questions with answers, uploaded in the admin and indexed by a worker."""

import html
import io
import json
import threading
import time
import zlib
from datetime import timedelta
from tempfile import TemporaryFile

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from tests.support.upstream import answering, embedding
from vectorstores.extraction import Unreadable
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument
from vectorstores.ingestion.rows import Refused
from vectorstores.models import Collection, Document, LocalVector, Upload, UploadContent
from vectorstores.uploads import queue as indexing
from vectorstores.uploads.queue import queue
from vectorstores.uploads.sandbox import read_in_sandbox, read_spool
from vectorstores.uploads.sandbox_process import Limits

pytestmark = pytest.mark.django_db

HERE = Destination("local", "shop", "openai", "text-embedding-3-small")
RETURNS = b"# Returns\n\nShoes may be returned within 45 days."
NASTY = "<script>alert(1)</script>"
ADD = "/admin/vectorstores/upload/add/"
LIST = "/admin/vectorstores/upload/"


@pytest.fixture(autouse=True)
def worker(openai, settings):
    """`worker()` does what waits, as `manage.py worker --once` does it."""
    openai.pages["/v1/embeddings"] = embedding(1536)
    settings.WORKER_JOBS = ["vectorstores.uploads.queue.run_due"]
    settings.VECTOR_STORE_ENVIRONMENT = {}
    return lambda: call_command("worker", once=True)


@pytest.fixture
def indexed(worker):
    def indexed(name, data, kind="file", destination=HERE):
        upload = queue(destination, kind, name, data)
        worker()
        upload.refresh_from_db()
        return upload

    return indexed


def signed_in(client, *permissions):
    user = get_user_model().objects.create_user("colleague", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


@pytest.fixture
def editor(client):
    return signed_in(client, "view_document", "add_document", "delete_document", "view_collection")


def form(kind="file", **changes):
    pairs = {"pairs-TOTAL_FORMS": "3", "pairs-INITIAL_FORMS": "0"}
    place = {"collection": "", "new_collection": "shop", "embedding": "openai/text-embedding-3-small"}
    return {"kind": kind, **pairs, **place, **changes}


def file(name, data=RETURNS):
    return SimpleUploadedFile(name, data)


def errors_in(response) -> str:
    assert response.status_code == 200
    forms = [response.context["form"], *response.context["pairs"]]
    return json.dumps([one.errors for one in forms]) + str(response.context["pairs"].non_form_errors())


def texts() -> dict[str, str]:
    return dict(LocalVector.objects.values_list("title", "text"))


# What is taken


def test_files_are_indexed_and_their_bytes_are_gone(editor, worker):
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
def test_what_imports_read_is_read(indexed, name, data):
    upload = indexed(name, data)
    assert (upload.state, upload.documents, upload.last_error) == ("done", 1, "")
    assert "Shoes may be returned." in LocalVector.objects.get().text


def test_a_text_is_known_by_its_title(editor, worker):
    url = "https://shop.example/returns"
    for text in ("Within 30 days.", "Within 45 days."):
        response = editor.post(ADD, form("text", title="Returns", text=text, url=url))
        assert response.status_code == 302
        worker()
    assert texts() == {"Returns": "Within 45 days."}
    document = Document.objects.get()
    assert (document.title, document.source) == ("Returns", "Pasted text")
    assert LocalVector.objects.get().metadata["url"] == url


def test_questions_and_answers_are_a_document_each(editor, worker):
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
def test_what_is_refused(editor, settings, posted, error):
    settings.MAX_UPLOAD_BYTES = 1000
    assert error in errors_in(editor.post(ADD, posted))
    assert not Upload.objects.exists()


@pytest.mark.parametrize("name", ["../../etc/cron.d/evil.md", "C:\\temp\\evil.md", "/abs/evil.md"])
def test_a_name_is_no_path(editor, worker, name):
    body = f'--b\r\nContent-Disposition: form-data; name="uploads"; filename="{name}"\r\n\r\nText.\r\n'
    fields = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in form().items()
    )
    response = editor.post(ADD, f"{body}{fields}--b--\r\n", content_type="multipart/form-data; boundary=b")
    assert response.status_code == 302
    assert Upload.objects.get().name == "evil.md"


def test_an_existing_collection_keeps_its_model(editor, worker, indexed):
    indexed("a.txt", b"A.")
    collection = Collection.objects.get()
    editor.post(ADD, form(uploads=file("b.txt"), collection=collection.pk, new_collection="", embedding=""))
    assert Upload.objects.first().embedding_model == "text-embedding-3-small"
    worker()
    assert Document.objects.filter(collection=collection).count() == 2


# Again


def test_the_same_name_replaces_and_what_has_not_changed_is_skipped(indexed, openai):
    indexed("returns.md", RETURNS)
    openai.sent.clear()
    same = indexed("returns.md", RETURNS)
    assert (same.state, same.documents, same.chunks_done, openai.sent) == ("done", 1, 1, [])
    long = indexed("returns.md", b"# Returns\n\n" + b"\n\n".join(b"Paragraph %d. " % n * 100 for n in range(9)))
    assert long.chunks > 1
    assert LocalVector.objects.count() == long.chunks_done == long.chunks
    indexed("returns.md", RETURNS)
    assert texts() == {"Returns": RETURNS.decode()}


def test_rows_that_a_file_no_longer_has_go(indexed):
    indexed("rows.csv", b"content\nOne.\nTwo.\nTwo.\n")
    assert set(LocalVector.objects.values_list("text", flat=True)) == {"One.", "Two."}
    indexed("others.csv", b"content\nOther.\n")
    upload = indexed("rows.csv", b"content\nTwo.\nThree.\n")
    assert (upload.documents, upload.chunks, upload.chunks_done) == (2, 2, 2)
    assert set(LocalVector.objects.values_list("text", flat=True)) == {"Two.", "Three.", "Other."}


def test_rows_stay_while_nobody_knows_what_else_there_is(indexed):
    indexed("rows.jsonl", b'{"id": "a", "content": "One."}\n{"id": "b", "content": "Two."}\n')
    upload = indexed("rows.jsonl", b'{"id": "a", "content": "One."}\nbroken\n')
    assert (upload.state, upload.refused) == ("done", 1)
    assert upload.refusals[0]["place"] == "rows.jsonl:2"
    assert LocalVector.objects.count() == 2
    assert UploadContent.objects.get().upload == upload  # for another try


def test_a_later_upload_of_the_name_takes_the_place_of_one_that_waits(worker):
    earlier = queue(HERE, "file", "a.txt", b"Old.")
    other = queue(HERE, "file", "b.txt", b"Other.")
    later = queue(HERE, "file", "a.txt", b"New.")
    worker()
    states = dict(Upload.objects.values_list("pk", "state"))
    assert states == {earlier.pk: "dead", other.pk: "done", later.pk: "done"}
    assert set(LocalVector.objects.values_list("text", flat=True)) == {"Other.", "New."}
    assert not Upload.objects.with_has_content().get(pk=earlier.pk).has_content


def test_two_versions_are_never_worked_on_at_once(worker):
    earlier = queue(HERE, "file", "a.txt", b"Old.")
    Upload.objects.update(lease="another", leased_until=timezone.now() + timedelta(seconds=60))
    later = queue(HERE, "file", "a.txt", b"New.")
    worker()
    later.refresh_from_db()
    assert later.state == "waiting"
    Upload.objects.filter(pk=earlier.pk).update(leased_until=timezone.now())  # it died
    worker()
    earlier.refresh_from_db()
    later.refresh_from_db()
    assert (earlier.state, earlier.last_error, later.state) == ("dead", "Cancelled.", "done")
    assert LocalVector.objects.get().text == "New."


# Failures


def test_a_failure_that_may_pass_is_tried_again_later(indexed, openai, worker):
    openai.pages["/v1/embeddings"] = answering({"error": {"message": "Upset."}}, status=500)
    upload = indexed("a.txt", b"Text.")
    assert (upload.state, upload.attempts) == ("waiting", 1)
    assert "Upset." in upload.last_error
    assert 8 < (upload.due_at - timezone.now()).total_seconds() <= 10
    openai.pages["/v1/embeddings"] = embedding(1536)
    Upload.objects.update(due_at=timezone.now())
    worker()
    upload.refresh_from_db()
    assert (upload.state, upload.last_error, upload.documents) == ("done", "", 1)


def test_it_is_given_up_in_the_end(indexed, openai, worker):
    openai.pages["/v1/embeddings"] = answering({"error": {"message": "Upset."}}, status=500)
    upload = indexed("a.txt", b"Text.")
    Upload.objects.update(due_at=timezone.now(), attempts=indexing.MAX_TRANSIENT_FAILURES - 1)
    worker()
    upload.refresh_from_db()
    assert (upload.state, upload.attempts) == ("dead", indexing.MAX_TRANSIENT_FAILURES)


def test_what_only_other_settings_would_mend_is_given_up_at_once(indexed, settings):
    settings.PROVIDER_ENVIRONMENT = {}
    upload = indexed("a.txt", b"Text.")
    assert (upload.state, upload.attempts) == ("dead", 1)
    assert "OpenAI" in upload.last_error
    foreign = indexed("a.txt", b"Text.", destination=Destination("qdrant", "shop", "openai", "emb-1"))
    assert foreign.state == "dead"
    assert "Qdrant" in foreign.last_error


def test_rows_that_are_refused_are_named(indexed, editor):
    rows = b'{"content": "Good."}\n{"content": 5}\n{"content": "' + NASTY.encode() + b'", "id": [1]}\n'
    upload = indexed("rows.jsonl", rows)
    assert (upload.state, upload.documents, upload.refused) == ("done", 1, 2)
    page = editor.get(f"{LIST}{upload.pk}/change/").content.decode()
    assert "rows.jsonl:2: It has no text under" in page
    assert "partly stored" in page


def test_an_upload_that_kills_its_workers_is_given_up(indexed, worker):
    upload = queue(HERE, "file", "a.txt", b"Text.")
    Upload.objects.update(attempts=indexing.MAX_ATTEMPTS)
    worker()
    upload.refresh_from_db()
    assert upload.state == "dead"
    assert "25 workers stopped" in upload.last_error


def test_a_dead_workers_upload_is_taken_up(worker):
    upload = queue(HERE, "file", "a.txt", b"Text.")
    Upload.objects.update(lease="of the dead", leased_until=timezone.now() + timedelta(seconds=60), attempts=1)
    worker()
    upload.refresh_from_db()
    assert upload.state == "waiting"
    Upload.objects.update(leased_until=timezone.now())
    worker()
    upload.refresh_from_db()
    assert (upload.state, upload.attempts, LocalVector.objects.count()) == ("done", 2, 1)


# The page


def test_progress_in_json_and_in_the_list(editor, worker, indexed):
    done = indexed("done.txt", b"Text.")
    waiting = queue(HERE, "file", f"{NASTY}.txt", b"Text.")
    Upload.objects.filter(pk=waiting.pk).update(
        leased_until=timezone.now() + timedelta(seconds=60), chunks=10, chunks_done=4
    )
    answer = editor.get(f"{LIST}progress/", {"id": [done.pk, waiting.pk, "x", "9" * 30]}).json()["uploads"]
    assert answer[str(done.pk)] == {
        "state": "stored", "status": "stored", "details": "1 document, 1 chunk", "error": "", "done": 1, "total": 1,
        "is_over": True, "can_retry": False, "can_cancel": False,
    }  # fmt: skip
    at_work = answer[str(waiting.pk)]
    assert (at_work["status"], at_work["details"], at_work["can_cancel"]) == ("processing", "4 of 10 chunks", True)
    page = editor.get(LIST).content.decode()
    assert "4 of 10 chunks" in page
    assert NASTY not in page
    assert "&lt;script&gt;" in page


def test_cancel_and_retry(editor, worker):
    upload = queue(HERE, "file", "a.txt", b"Text.")
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
    assert editor.post(f"{url}/retry/").json()["status"] == "stored"  # there is nothing left to try
    assert editor.post(f"{LIST}999/retry/").status_code == 404


def test_cancel_and_retry_of_several(editor, worker):
    uploads = [queue(HERE, "file", f"{number}.txt", b"Text.") for number in range(3)]
    chosen = {"_selected_action": [upload.pk for upload in uploads[:2]]}
    editor.post(LIST, {"action": "cancel_selected", **chosen})
    assert Upload.objects.filter(state="dead").count() == 2
    editor.post(LIST, {"action": "retry_selected", **chosen})
    assert Upload.objects.filter(state="waiting").count() == 3


def test_who_may_do_what(client, worker):
    upload = queue(HERE, "file", "a.txt", b"Text.")
    viewer = signed_in(client, "view_document")
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


def test_collections_lead_to_the_page(editor, indexed):
    indexed("a.txt", b"Text.")
    collection = Collection.objects.get()
    page = editor.get("/admin/vectorstores/collection/").content.decode()
    assert "Add content" in page
    there = editor.get(reverse("admin:vectorstores_collection_add_content_here", args=[collection.pk]), follow=True)
    assert f'<option value="{collection.pk}" selected>' in there.content.decode()
    assert editor.get(reverse("admin:vectorstores_collection_add_content")).url == ADD


def test_an_upload_can_be_deleted_and_its_documents_stay(editor, indexed):
    upload = indexed("a.txt", b"Text.")
    assert editor.post(f"{LIST}{upload.pk}/delete/", {"post": "yes"}).status_code == 302
    assert (Upload.objects.count(), Document.objects.count()) == (0, 1)


# What was made to break its reader


def pdf(content: bytes, pages: int = 1) -> bytes:
    """All pages show the same compressed content."""
    packed = zlib.compress(content, 9)
    kids = b" ".join(b"%d 0 R" % (5 + page) for page in range(pages))
    page = b"<</Type/Page/Parent 2 0 R/Contents 3 0 R/MediaBox[0 0 9 9]/Resources<</Font<</F 4 0 R>>>>>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, kids),
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *[page] * pages,
    ]
    out, places = io.BytesIO(b"%PDF-1.4\n"), []
    out.seek(0, io.SEEK_END)
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    out.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start))
    return out.getvalue()


def read(name: str, data: bytes, limits: Limits, stop: threading.Event | None = None) -> list[NewDocument | Refused]:
    with TemporaryFile() as spool:
        read_in_sandbox(spool, "file", name, data, HERE, stop or threading.Event(), limits)
        return list(read_spool(spool))


def test_a_pdf_is_read_in_sandbox():
    (document,) = read("a.pdf", pdf(b"BT /F 9 Tf (Shoes may be returned.) Tj ET", pages=3), Limits())
    assert [chunk.text for chunk in document.chunks] == ["\n\n".join(["Shoes may be returned."] * 3)]


ENDLESS_PDF = pdf(b"BT /F 9 Tf " + b"(x) Tj " * 200_000 + b"ET", pages=2000)
HUNGRY = b'{"content": "' + b"x " * 4_000_000 + b'"}'


@pytest.mark.parametrize(
    ("name", "data", "limits", "reason"),
    [
        ("a.pdf", ENDLESS_PDF, Limits(cpu_seconds=2), "It takes too long to read."),
        ("a.pdf", ENDLESS_PDF, Limits(seconds=1), "It takes too long to read."),
        ("a.jsonl", HUNGRY, Limits(memory=250 * 1024**2), "It takes too much memory"),
        ("a.csv", b"content\n" + b"Text number one.\n" * 2, Limits(characters=20), "more than 20 characters"),
    ],
)
def test_it_is_given_up_when_it_wants_too_much(name, data, limits, reason):
    assert len(data) < 10_000_000
    started = time.monotonic()
    with pytest.raises(Unreadable, match=reason):
        read(name, data, limits)
    assert time.monotonic() - started < 20


def test_reading_stops_when_nobody_waits_for_it_any_more():
    stop = threading.Event()
    stop.set()
    started = time.monotonic()
    with pytest.raises(Unreadable):
        read("a.pdf", ENDLESS_PDF, Limits(), stop)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.pdf", b"%PDF-1.4 nonsense"),
        ("a.pdf", b""),
        ("a.html", b"<div>" * 300_000),
        ("a.html", b"<p>" + b"\xff\x00" * 1000),
        ("a.json", b"[" * 100_000),
        ("a.jsonl", b"{" * 100_000),
        ("a.csv", b'"' * 100_000),
        ("a.xml", b'<!DOCTYPE x [<!ENTITY a "aaaa">]><rss><channel><item>&a;</item></channel></rss>'),
        ("a.md", b"```\n# x\n" * 20_000),
    ],
)
def test_no_file_breaks_the_worker(indexed, name, data):
    upload = indexed(name, data)
    assert upload.state in ("dead", "done")
    if upload.state == "dead":
        assert upload.last_error
    assert indexed("good.txt", b"Text.").state == "done"


def test_html_is_shown_as_text(editor, indexed):
    upload = indexed(
        "page.html", f"<html><head><title>{html.escape(NASTY)}</title></head><body><p>Hi</p></body>".encode()
    )
    assert upload.state == "done"
    for url in ("/admin/vectorstores/document/", f"/admin/vectorstores/document/{Document.objects.get().pk}/change/"):
        assert NASTY not in editor.get(url).content.decode()
