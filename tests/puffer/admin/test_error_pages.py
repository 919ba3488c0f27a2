"""Error pages in a browser: not found, not allowed, CSRF failure, server error."""

import pytest
from django.db import connection
from django.test import Client

from tests.support.admin.accounts import member

pytestmark = pytest.mark.django_db


def test_unknown_urls_show_page_not_found(admin_client, client):
    for url in ("/nowhere/", "/admin/nowhere/"):
        page = admin_client.get(url)
        assert page.status_code == 404
        assert "Page not found" in page.text
    assert client.get("/nowhere/").status_code == 404


def test_pages_without_permission_show_not_allowed(client):
    client.force_login(member("Viewer"))
    page = client.get("/admin/puffer/apikey/add/")
    assert page.status_code == 403
    assert "Not allowed" in page.text
    assert "/admin/" in page.text


def test_forms_without_a_csrf_token_are_refused():
    page = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "x", "password": "y"})
    assert page.status_code == 403
    assert "The form was not accepted" in page.text


def test_a_failing_page_shows_no_details(admin_client):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE logs_modelprice RENAME TO logs_elsewhere")
    admin_client.raise_request_exception = False
    page = admin_client.get("/admin/logs/modelprice/")
    assert page.status_code == 500
    assert "Something went wrong" in page.text
    assert "logs_modelprice" not in page.text
