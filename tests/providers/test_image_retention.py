"""Generated images are deleted after IMAGE_RETENTION_DAYS, through whatever storage Django uses."""

import os
import time

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command

from providers.use_cases import image_retention
from providers.use_cases.images import store
from puffer.runtime import Periodic

pytestmark = pytest.mark.django_db  # the worker looks for migrations

DAY = 24 * 3600


@pytest.fixture(autouse=True)
def storage(settings, tmp_path, monkeypatch):
    settings.MEDIA_ROOT = str(tmp_path)
    settings.WORKER_JOBS = ["providers.use_cases.image_retention.run_due"]
    monkeypatch.setattr(image_retention, "hourly", Periodic(every_seconds=0))
    return settings


def stored(days_old: float, name: str = "") -> str:
    """Store an image and return its path in the storage."""
    path = default_storage.save(name, ContentFile(b"x")) if name else store(b"x", "png").removeprefix("/media/")
    then = time.time() - days_old * DAY
    os.utime(default_storage.path(path), (then, then))
    return path


def test_the_worker_deletes_old_images(storage):
    storage.IMAGE_RETENTION_DAYS = 30
    new, old, older = stored(29.9), stored(30.1), stored(400)
    foreign = [stored(400, "images/logo.png"), stored(400, "other/old.png")]
    call_command("worker", "--once")
    assert [default_storage.exists(path) for path in (new, old, older, *foreign)] == [True, False, False, True, True]


def test_images_are_kept_forever_by_default(storage):
    old = stored(4000)
    call_command("worker", "--once")
    assert default_storage.exists(old)


def test_no_folder_of_images_is_no_error(storage):
    storage.IMAGE_RETENTION_DAYS = 1
    assert image_retention.delete_old_images(1) == 0
    call_command("worker", "--once")
