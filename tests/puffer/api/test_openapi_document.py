"""The OpenAPI document: its formats, and what it costs."""

from tests.support.processor import cpu_milliseconds


def test_it_is_made_once(client, db):
    """Making it takes most of a second, and anybody may ask for it."""
    document = client.get("/api/schema/?format=json")
    assert document.json()["info"]["title"] == "puffer"
    assert client.get("/api/schema/", headers={"Accept": "application/json"}).content == document.content
    assert cpu_milliseconds(lambda: client.get("/api/schema/?format=json"), 100) < 100


def test_formats(client, db):
    assert client.get("/api/schema/").text.startswith("openapi: 3.1")
    assert client.get("/api/schema/?format=yaml").content == client.get("/api/schema/").content
    assert client.get("/api/schema/?format=xml").status_code == 404
