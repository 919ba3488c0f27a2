"""Delete generated images after IMAGE_RETENTION_DAYS. The worker calls run_due()."""

import logging
from datetime import timedelta

from django.conf import settings
from django.core.files.storage import default_storage
from django.utils import timezone

from providers.use_cases.stored_images import FOLDER, NAME
from puffer.runtime import Periodic

logger = logging.getLogger(__name__)
hourly = Periodic(every_seconds=3600)


def run_due() -> bool:
    """Delete once an hour. Return False: there is never another image due at once."""
    if settings.IMAGE_RETENTION_DAYS > 0 and hourly.is_due():
        hourly.restart()
        delete_old_images(settings.IMAGE_RETENTION_DAYS)
    return False


def delete_old_images(days: int) -> int:
    """Delete the images that were stored more than `days` days ago, and return their number.

    It works with any storage that can list its files and knows when they were stored, such as a folder or S3.
    """
    try:
        _folders, names = default_storage.listdir(FOLDER)
    except FileNotFoundError:  # no image has been stored yet
        return 0
    oldest = timezone.now() - timedelta(days=days)
    deleted = 0
    for name in names:
        path = f"{FOLDER}/{name}"
        if not NAME.match(name):  # not an image of this server: somebody else's file
            continue
        try:
            if default_storage.get_modified_time(path) < oldest:
                default_storage.delete(path)
                deleted += 1
        except FileNotFoundError:  # another worker was faster
            continue
    if deleted:
        logger.info("deleted %d images older than %d days", deleted, days)
    return deleted
