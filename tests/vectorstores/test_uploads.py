"""Files, texts, and questions with answers, uploaded in the admin and indexed by a worker."""

import pytest
from django.core.management import call_command

from vectorstores.ingest import Destination
from vectorstores.models import Document, LocalVector, Upload, UploadContent
from vectorstores.uploads import queue

pytestmark = pytest.mark.django_db

HERE = Destination("local", "shop", "openai", "emb-1")


@pytest.fixture
def indexed(openai, settings):
    """Indexes what is queued, as `manage.py worker --once` does it; gives the upload."""
    settings.WORKER_JOBS = ["vectorstores.uploads.run_due"]

    def indexed(name, data, kind="file", destination=HERE):
        upload = queue(destination, kind, name, data)
        call_command("worker", once=True)
        upload.refresh_from_db()
        return upload

    return indexed


def test_a_file(indexed):
    upload = indexed("returns.md", b"# Returns\n\nShoes may be returned within 45 days.")
    assert (upload.state, upload.last_error, upload.documents, upload.chunks, upload.chunks_done) == ("done", "", 1, 1, 1)
    (document,) = Document.objects.all()
    assert document.title == "Returns"
