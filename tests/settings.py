"""puffer's settings without the developer's environment: no API keys, no .env file."""

import os
import tempfile
from pathlib import Path

OWN_SETTINGS = ("PUBLIC_URL", "FORCE_SCRIPT_NAME", "ALLOWED_HOSTS", "DEBUG")
os.environ["PUFFER_ENV_FILE"] = "/nonexistent"
for name in list(os.environ):
    if name.endswith(("_API_KEY", "_BASE_URL", "_ENDPOINT")) or name in OWN_SETTINGS:
        del os.environ[name]
os.environ["SECRET_KEY"] = "only-for-tests"

from puffer.settings import *  # noqa: E402, F403

VAR_DIR = Path(tempfile.mkdtemp(prefix="puffer-tests-"))
MEDIA_ROOT = str(VAR_DIR / "media")
RUN_WITH_SERVER = []
LOCAL_MODEL = False
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
WHITENOISE_AUTOREFRESH = True  # otherwise every test client scans all static files
LOGGING_CONFIG = None  # so that pytest's caplog sees the records
INSTALLED_APPS = [*INSTALLED_APPS, "tests.support.work"]  # noqa: F405
