"""Settings for a `manage.py worker` process that runs two pieces of work.models at a time."""

from tests.settings import *  # noqa: F403

WORKER_JOBS = ["tests.support.work.models.run_due"] * 2
LOGGING_CONFIG = "logging.config.dictConfig"
