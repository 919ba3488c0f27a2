"""The system checks of security settings, and the permissions of the files that the commands write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.checks import Tags, run_checks
from django.core.management import CommandError, call_command

from puffer.security.checks import check_private_files
from tests.support.installation import Installation
from tests.support.repository import ROOT

GOOD = Fernet.generate_key().decode()


def found() -> set[str]:
    return {str(message.id) for message in run_checks(tags=[Tags.security]) if message.is_serious()}


@pytest.mark.parametrize(
    ("key", "ids"),
    [
        ("", set()),
        ("aipk_live_0123456789abcdef", set()),
        ("a", {"puffer.E001"}),
        ("   a   ", {"puffer.E001"}),
        ("secret", {"puffer.E001"}),
        ("a" * 64, {"puffer.E001"}),
        ("0123456789 abcdefghijklm", {"puffer.E001"}),  # a blank ends the key in the Authorization header
        ("schlüssel-0123456789-abcdef", {"puffer.E001"}),
    ],
)
def test_an_api_key_that_can_be_guessed_is_refused(settings, key, ids):
    settings.PUFFER_API_KEY = key
    assert found() == ids


@pytest.mark.parametrize(
    ("keys", "ids"),
    [
        ([], set()),
        ([GOOD, Fernet.generate_key().decode()], set()),
        (["secret"], {"puffer.E002"}),
        ([GOOD, ""], {"puffer.E002"}),
        ([GOOD[:-2]], {"puffer.E002"}),
        ([GOOD + "ü"], {"puffer.E002"}),
    ],
)
def test_an_encryption_key_that_is_not_a_fernet_key_is_refused(settings, keys, ids):
    settings.PUFFER_ENCRYPTION_KEYS = keys
    assert found() == ids


def test_serve_refuses_to_start_with_a_weak_key(settings):
    settings.PUFFER_API_KEY = "a"
    with pytest.raises(CommandError, match="PUFFER_API_KEY is too easy to guess"):
        call_command("serve", port=0)


def test_files_that_others_can_read_are_warned_of(settings, tmp_path, monkeypatch):
    var, database, media = tmp_path / "var", tmp_path / "puffer.sqlite3", tmp_path / "var" / "media"
    media.mkdir(parents=True)
    database.touch()
    for path, mode in ((var, 0o750), (database, 0o604), (media, 0o755)):
        path.chmod(mode)
    settings.VAR_DIR, settings.MEDIA_ROOT = var, str(media)
    for name, value in (("ENGINE", "django.db.backends.sqlite3"), ("NAME", str(database))):
        monkeypatch.setitem(settings.DATABASES["default"], name, value)
    assert [(warning.id, warning.hint) for warning in check_private_files()] == [
        ("puffer.W001", f"Run: chmod 700 {var}"),
        ("puffer.W001", f"Run: chmod 600 {database}"),  # but not the media: their folder's parent protects them
    ]
    var.chmod(0o700)
    database.chmod(0o600)
    assert check_private_files() == []


def test_commands_write_files_that_nobody_else_can_read(tmp_path):
    old = os.umask(0o022)
    try:
        database = tmp_path / "puffer.sqlite3"
        installation = Installation(tmp_path, f"sqlite:///{database}")
        installation.manage("migrate", "--verbosity=0")
        installation.variables["MEDIA_ROOT"] = str(tmp_path / "media")
        installation.python("from providers.use_cases.images import store; store(b'image', 'png')")
    finally:
        os.umask(old)
    for path in (database, tmp_path / "media"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_static_files_are_collected_for_the_web_server_of_another_user(tmp_path):
    code = (
        "import os, sys, manage; sys.argv[1:] = ['collectstatic', '--help']\n"
        "try: manage.main()\n"
        "finally: print(os.umask(0))"
    )
    environment = Installation(tmp_path, "sqlite://:memory:").environment
    old = os.umask(0o022)
    try:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    finally:
        os.umask(old)
    assert done.stdout.splitlines()[-1] == str(0o022)


def test_the_folder_of_a_new_installation_is_private(tmp_path):
    """Import the settings from a copy of the package, whose `var` does not exist yet."""
    copy = tmp_path / "copy" / "puffer"
    copy.mkdir(parents=True)
    for name in ("__init__.py", "settings.py", "first_start.py"):
        (copy / name).write_text((ROOT / "puffer" / name).read_text())
    environment = Installation(tmp_path, "sqlite://:memory:").environment
    subprocess.run([sys.executable, "-c", "import puffer.settings"], cwd=copy.parent, env=environment, check=True)
    assert Path(copy.parent / "var").stat().st_mode & 0o777 == 0o700
