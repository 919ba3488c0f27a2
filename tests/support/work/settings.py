"""For `manage.py worker` in a process of its own, which does tests.support.work.models' pieces, two at a time."""

from tests.settings import *  # noqa: F403

WORKER_JOBS = ["tests.support.work.models.run_due"] * 2
LOGGING_CONFIG = "logging.config.dictConfig"
