"""Uploads that fail, and malicious files."""

import html
import io
import threading
import time
import zlib
from datetime import timedelta
from tempfile import TemporaryFile

import pytest
from django.utils import timezone

from tests.support.knowledge.uploads import LIST, NASTY, SHOP
from tests.support.upstream import answering, embedding
from vectorstores.extraction import Unreadable
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument
from vectorstores.ingestion.rows import Refused
from vectorstores.models import Document, LocalVector, Upload
from vectorstores.sandbox.process import Limits
from vectorstores.sandbox.sandbox import read_spool
from vectorstores.uploads import queue as indexing
from vectorstores.uploads.queue import queue
from vectorstores.uploads.reading import read_upload

pytestmark = pytest.mark.django_db


def test_a_transient_failure_is_retried_later(index, openai, worker):
    openai.pages["/v1/embeddings"] = answering({"error": {"message": "Upset."}}, status=500)
    upload = index("a.txt", b"Text.")
    assert (upload.state, upload.attempts) == ("waiting", 1)
    assert "Upset." in upload.last_error
    assert 8 < (upload.due_at - timezone.now()).total_seconds() <= 10
    openai.pages["/v1/embeddings"] = embedding(1536)
    Upload.objects.update(due_at=timezone.now())
    worker()
    upload.refresh_from_db()
    assert (upload.state, upload.last_error, upload.documents) == ("done", "", 1)


def test_an_upload_fails_after_the_last_retry(index, openai, worker):
    openai.pages["/v1/embeddings"] = answering({"error": {"message": "Upset."}}, status=500)
    upload = index("a.txt", b"Text.")
    Upload.objects.update(due_at=timezone.now(), attempts=indexing.MAX_TRANSIENT_FAILURES - 1)
    worker()
    upload.refresh_from_db()
    assert (upload.state, upload.attempts) == ("dead", indexing.MAX_TRANSIENT_FAILURES)


def test_a_configuration_error_is_not_retried(index, settings):
    settings.PROVIDER_ENVIRONMENT = {}
    upload = index("a.txt", b"Text.")
    assert (upload.state, upload.attempts) == ("dead", 1)
    assert "OpenAI" in upload.last_error
    foreign = index("a.txt", b"Text.", destination=Destination("qdrant", "shop", "openai", "emb-1"))
    assert foreign.state == "dead"
    assert "Qdrant" in foreign.last_error


def test_refused_rows_are_listed(index, editor):
    rows = b'{"content": "Good."}\n{"content": 5}\n{"content": "' + NASTY.encode() + b'", "id": [1]}\n'
    upload = index("rows.jsonl", rows)
    assert (upload.state, upload.documents, upload.refused) == ("done", 1, 2)
    page = editor.get(f"{LIST}{upload.pk}/change/").content.decode()
    assert "rows.jsonl:2: It has no text under" in page
    assert "partly stored" in page


def test_an_upload_that_keeps_killing_its_workers_fails(index, worker):
    upload = queue(SHOP, "file", "a.txt", b"Text.")
    Upload.objects.update(attempts=indexing.MAX_ATTEMPTS)
    worker()
    upload.refresh_from_db()
    assert upload.state == "dead"
    assert "25 workers stopped" in upload.last_error


def test_a_dead_workers_upload_is_resumed(worker):
    upload = queue(SHOP, "file", "a.txt", b"Text.")
    Upload.objects.update(lease="of the dead", leased_until=timezone.now() + timedelta(seconds=60), attempts=1)
    worker()
    upload.refresh_from_db()
    assert upload.state == "waiting"
    Upload.objects.update(leased_until=timezone.now())
    worker()
    upload.refresh_from_db()
    assert (upload.state, upload.attempts, LocalVector.objects.count()) == ("done", 2, 1)


def pdf(content: bytes, pages: int = 1) -> bytes:
    """Return a PDF file whose pages all share the same compressed content."""
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


def extract(name: str, data: bytes, limits: Limits, stop: threading.Event | None = None) -> list[NewDocument | Refused]:
    with TemporaryFile() as spool:
        read_upload(spool, "file", name, data, SHOP, stop or threading.Event(), limits)
        return list(read_spool(spool))


def test_a_pdf_is_extracted_in_the_sandbox():
    (document,) = extract("a.pdf", pdf(b"BT /F 9 Tf (Shoes may be returned.) Tj ET", pages=3), Limits())
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
def test_extraction_has_limits_of_time_memory_and_size(name, data, limits, reason):
    assert len(data) < 10_000_000
    started = time.monotonic()
    with pytest.raises(Unreadable, match=reason):
        extract(name, data, limits)
    assert time.monotonic() - started < 20


def test_extraction_stops_when_the_job_is_canceled():
    stop = threading.Event()
    stop.set()
    started = time.monotonic()
    with pytest.raises(Unreadable):
        extract("a.pdf", ENDLESS_PDF, Limits(), stop)
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
def test_no_file_crashes_the_worker(index, name, data):
    upload = index(name, data)
    assert upload.state in ("dead", "done")
    if upload.state == "dead":
        assert upload.last_error
    assert index("good.txt", b"Text.").state == "done"


def test_titles_are_escaped_in_the_admin(editor, index):
    upload = index(
        "page.html", f"<html><head><title>{html.escape(NASTY)}</title></head><body><p>Hi</p></body>".encode()
    )
    assert upload.state == "done"
    for url in ("/admin/vectorstores/document/", f"/admin/vectorstores/document/{Document.objects.get().pk}/change/"):
        assert NASTY not in editor.get(url).content.decode()
