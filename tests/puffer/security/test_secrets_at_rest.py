"""What the database holds of sessions and second factors: nothing that signs anybody in."""

import re

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import connection
from django.test import Client

from puffer.security import second_factor
from puffer.security.admin_sessions import Session, SessionStore
from puffer.security.authenticator import AuthenticatorApp
from tests.support.admin.accounts import PASSWORD, sign_in
from tests.support.installation import Installation, postgres_database, url_of

PAGE = "/admin/auth/user/second-factor/"


def stored_text() -> str:
    """Return every value of every table as text."""
    with connection.cursor() as cursor:
        values = []
        for table in connection.introspection.table_names():
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            values += cursor.fetchall()
    return str(values)


def test_the_key_of_a_session_is_not_in_the_database(owner):
    client = Client()
    sign_in(PASSWORD, client=client)
    key = client.cookies["sessionid"].value
    assert client.get("/admin/").status_code == 200
    assert key not in stored_text()
    forged = Client()
    forged.cookies["sessionid"] = Session.objects.get().pk  # what a reader of the database sees
    assert forged.get("/admin/").status_code == 302
    client.post("/admin/logout/")
    assert not Session.objects.exists()
    assert client.get("/admin/").status_code == 302


def test_neither_keys_nor_recovery_codes_of_the_second_factor_are_in_the_database(owner):
    client = Client()
    client.force_login(owner)
    [shown] = re.findall(r'<code id="key">([A-Z2-7 ]+)</code>', client.get(PAGE).text)
    app = AuthenticatorApp.objects.get()
    assert app.base32_key == shown.replace(" ", "")
    codes = second_factor.new_recovery_codes(owner)
    assert all(len(code) == 16 for code in codes)
    text = stored_text().lower()
    assert not any(secret.lower() in text for secret in (app.key, app.base32_key, *codes))


def test_no_code_is_right_for_a_key_that_cannot_be_decrypted(owner, settings):
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    AuthenticatorApp.objects.create(user=owner, name="app")
    [code] = second_factor.new_recovery_codes(owner)[:1]
    settings.PUFFER_ENCRYPTION_KEYS = []
    app = AuthenticatorApp.objects.get()
    assert app.key == ""
    assert not app.verify_token("328482")  # the code of an empty key at time 0
    AuthenticatorApp.objects.update(throttling_failure_count=0)
    assert second_factor.is_right(owner, code)


def test_keys_are_encrypted_again_with_a_new_encryption_key(owner, settings):
    app = AuthenticatorApp.objects.create(user=owner, name="app")
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    call_command("rotate_secrets")
    settings.SECRET_KEY = "another"
    assert AuthenticatorApp.objects.get().key == app.key


@pytest.mark.parametrize("key", ["x", "\0" * 32, "é" * 32, "a" * 5000])
def test_any_cookie_is_a_session_that_does_not_exist(db, key):
    store = SessionStore(key)
    assert not store.exists(key)
    assert store.load() == {}
    store.delete(key)


EARLIER = """
    INSERT INTO auth_user (id, username, password, is_superuser, is_staff, is_active, first_name, last_name, email,
        date_joined) VALUES (7, 'ada', '!', true, true, true, '', '', '', '2026-01-01');
    CREATE TABLE otp_totp_totpdevice (id INTEGER, user_id INTEGER, key TEXT, drift INTEGER, last_t INTEGER,
        confirmed BOOLEAN);
    INSERT INTO otp_totp_totpdevice VALUES (1, 7, '0123456789abcdef0123', 1, 59, true);
    CREATE TABLE otp_static_staticdevice (id INTEGER PRIMARY KEY, user_id INTEGER);
    INSERT INTO otp_static_staticdevice VALUES (3, 7);
    CREATE TABLE otp_static_statictoken (id INTEGER, device_id INTEGER REFERENCES otp_static_staticdevice, token TEXT);
    INSERT INTO otp_static_statictoken VALUES (1, 3, 'abcd2345');
    INSERT INTO django_session VALUES ('plainsessionkey', 'data', '2030-01-01');
    INSERT INTO django_migrations (app, name, applied) VALUES ('otp_totp', '0001_initial', '2026-01-01')
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def installation(request, tmp_path):
    """Yield an installation with an empty database."""
    if request.param == "sqlite":
        yield Installation(tmp_path, f"sqlite:///{tmp_path}/puffer.sqlite3")
    else:
        with postgres_database() as name:
            yield Installation(tmp_path, url_of(name))


def test_second_factors_of_earlier_versions_are_taken_over(installation):
    installation.manage("migrate", "--verbosity=0", "puffer", "0001")
    for app in ("auth", "sessions"):
        installation.manage("migrate", "--verbosity=0", app)
    for statement in EARLIER.split(";"):
        installation.rows(statement)
    installation.manage("migrate", "--verbosity=0")
    app = installation.python(
        "from puffer.security.authenticator import *; a = AuthenticatorApp.objects.get();"
        "print(a.user.username, a.key, a.drift, a.last_step, a.confirmed, a.take_recovery_code('abcd2345'))"
    )
    assert app == "ada 0123456789abcdef0123 1 59 True True"
    assert installation.value("SELECT count(*) FROM django_session") == 0
    assert installation.value("SELECT count(*) FROM django_migrations WHERE app LIKE 'otp%'") == 0
    if installation.database_url.startswith("sqlite"):
        installation.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        content = (installation.folder / "puffer.sqlite3").read_bytes()
        assert not any(secret in content for secret in (b"0123456789abcdef0123", b"abcd2345", b"plainsessionkey"))
