"""Settings for `manage.py worker` in a process of its own: two jobs at a time do the pieces of work.models."""

from tests.settings import *  # noqa: F403

WORKER_JOBS = ["tests.support.work.models.run_due"] * 2
LOGGING_CONFIG = "logging.config.dictConfig"
