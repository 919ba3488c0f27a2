"""The `.env` file with a SECRET_KEY that a fresh clone needs before its settings can be read."""

import os
import secrets
from pathlib import Path

ENV_FILE = Path(os.environ.get("PUFFER_ENV_FILE", Path(__file__).resolve().parent.parent / ".env"))


def write_env_file() -> None:
    """Write a SECRET_KEY unless the environment or the file has one."""
    if os.environ.get("SECRET_KEY"):
        return
    text = ENV_FILE.read_text() if ENV_FILE.exists() else ""
    if any(line.startswith("SECRET_KEY=") and line.strip() != "SECRET_KEY=" for line in text.splitlines()):
        return
    # Mode 600, because the key signs sessions and encrypts the saved provider keys.
    with open(os.open(ENV_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
        if text and not text.endswith("\n"):
            file.write("\n")
        file.write(f"SECRET_KEY={secrets.token_urlsafe(50)}\n")
