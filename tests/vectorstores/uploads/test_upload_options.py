"""How to read an uploaded file: encoding and columns that are chosen, what is guessed, and what is told."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command

from vectorstores.ingestion.destination import Destination
from vectorstores.models import LocalVector, Upload
from vectorstores.uploads.queue import queue

pytestmark = pytest.mark.django_db

HERE = Destination("local", "shop", "openai", "emb-1")
ADD, LIST = "/admin/vectorstores/upload/add/", "/admin/vectorstores/upload/"


@pytest.fixture
def add(admin_client, model, settings):
    """Upload a file with these choices, let a worker index it, and return the upload."""
    settings.WORKER_JOBS = ["vectorstores.uploads.queue.run_due"]
    settings.VECTOR_STORE_ENVIRONMENT = {}

    def add(name, data, **choices):
        place = {"collection": "", "new_collection": "shop", "embedding": "openai/text-embedding-3-small"}
        pairs = {"pairs-TOTAL_FORMS": "0", "pairs-INITIAL_FORMS": "0"}
        file = SimpleUploadedFile(name, data)
        response = admin_client.post(ADD, {"kind": "file", **place, **pairs, "uploads": [file], **choices})
        assert response.status_code == 302, response.context["form"].errors
        call_command("worker", once=True)
        return Upload.objects.latest("pk")

    return add


def stored():
    return dict(LocalVector.objects.values_list("title", "text"))


def test_questions_and_answers_are_recognized(add, admin_client):
    upload = add("faq.csv", b"Question,Answer\nHow long is the warranty?,24 months\n")
    assert (upload.state, upload.documents, upload.refused) == ("done", 1, 0)
    assert stored() == {"How long is the warranty?": "24 months"}
    told = "content from &#x27;Answer&#x27;, title from &#x27;Question&#x27;"
    assert told in admin_client.get(LIST).text
    assert told in admin_client.get(f"{LIST}{upload.pk}/change/").text


def test_columns_and_encoding_are_chosen(add):
    table = "Nr;Titel;Kommentar;Ware\n1;A;Größe 9;Schuh\n".encode("macintosh")
    columns = {"content_column": "ware", "title_column": "nr", "id_column": "Titel"}
    upload = add("goods.csv", table, encoding="macintosh", **columns)
    assert upload.options == {"content": "ware", "title": "nr", "id": "Titel", "encoding": "macintosh"}
    assert stored() == {"1": "Schuh\n\nKommentar: Größe 9"}
    assert LocalVector.objects.get().vector_id == "A"
    assert not upload.notes


def test_a_retry_reads_as_chosen(add):
    upload = add("goods.csv", b"a,b\n1,\n", content_column="b", title_column="a")
    assert upload.state == "dead"
    assert "no text in 'b'" in upload.last_error
    upload.retry()
    call_command("worker", once=True)
    upload.refresh_from_db()
    assert "no text in 'b'" in upload.last_error


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("goods.csv", b"number,colour\n1,blue\n", "Its columns: number, colour"),
        ("soon.md", b"---\ndraft: true\n---\nText.", "draft"),
        ("empty.csv", b"id,content\n", "no rows"),
        ("photo.txt", bytes(range(256)) * 10, "not text"),
    ],
)
def test_an_upload_without_documents_says_why(add, admin_client, name, data, word):
    upload = add(name, data)
    assert upload.state == "dead"
    assert word in upload.last_error
    assert word in admin_client.get(f"{LIST}progress/", {"id": upload.pk}).json()["uploads"][str(upload.pk)]["error"]


def test_the_choices_stay_open_after_an_error(admin_client, model):
    response = admin_client.post(ADD, {"kind": "file", "content_column": "Text", "encoding": "martian"})
    assert "<details" in response.text
    assert " open>" in response.text
    assert "encoding" in response.context["form"].errors
    assert " open>" not in admin_client.get(ADD).text.partition("<details")[2].partition("</details>")[0]


def test_choices_apply_to_files_only(model):
    upload = queue(HERE, "text", "Note", b'{"content": "Text."}')
    assert upload.options == {}
