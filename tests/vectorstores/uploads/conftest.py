"""The worker of the upload queue, and a user who may upload."""

import pytest
from django.core.management import call_command

from tests.support.knowledge.uploads import SHOP, sign_in
from tests.support.upstream import embedding
from vectorstores.uploads.queue import queue


@pytest.fixture(autouse=True)
def worker(openai, settings):
    """Return a function that runs `manage.py worker --once` for the upload queue."""
    openai.pages["/v1/embeddings"] = embedding(1536)
    settings.WORKER_JOBS = ["vectorstores.uploads.queue.run_due"]
    settings.VECTOR_STORE_ENVIRONMENT = {}
    return lambda: call_command("worker", once=True)


@pytest.fixture
def index(worker):
    def index(name, data, kind="file", destination=SHOP):
        upload = queue(destination, kind, name, data)
        worker()
        upload.refresh_from_db()
        return upload

    return index


@pytest.fixture
def editor(client):
    return sign_in(client, "view_document", "add_document", "delete_document", "view_collection")
