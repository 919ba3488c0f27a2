"""The OpenAPI document: its formats, and what it costs."""

import time


def test_it_is_made_once(client, db):
    """Making it takes most of a second, and anybody may ask for it."""
    document = client.get("/api/schema/?format=json")
    assert document.json()["info"]["title"] == "puffer"
    started = time.process_time()
    for _ in range(3):
        assert client.get("/api/schema/", headers={"Accept": "application/json"}).content == document.content
    assert time.process_time() - started < 0.3


def test_formats(client, db):
    assert client.get("/api/schema/").text.startswith("openapi: 3.1")
    assert client.get("/api/schema/?format=yaml").content == client.get("/api/schema/").content
    assert client.get("/api/schema/?format=xml").status_code == 404
