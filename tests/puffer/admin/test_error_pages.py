"""What a browser shows where there is no page, or none for this user."""

import pytest
from django.db import connection
from django.test import Client

from tests.support.accounts import member

pytestmark = pytest.mark.django_db


def test_a_page_that_is_not_there(admin_client, client):
    for address in ("/nowhere/", "/admin/nowhere/"):
        page = admin_client.get(address)
        assert page.status_code == 404
        assert "Page not found" in page.text
    assert client.get("/nowhere/").status_code == 404


def test_a_page_for_others(client):
    client.force_login(member("Viewer"))
    page = client.get("/admin/puffer/apikey/add/")
    assert page.status_code == 403
    assert "Not allowed" in page.text
    assert "/admin/" in page.text


def test_a_form_without_its_token():
    page = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "x", "password": "y"})
    assert page.status_code == 403
    assert "The form was not accepted" in page.text


def test_a_page_that_fails(admin_client):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE logs_modelprice RENAME TO logs_elsewhere")
    admin_client.raise_request_exception = False
    page = admin_client.get("/admin/logs/modelprice/")
    assert page.status_code == 500
    assert "Something went wrong" in page.text
    assert "logs_modelprice" not in page.text
