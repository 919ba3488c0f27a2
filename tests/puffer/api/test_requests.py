"""Behavior of all requests below /wp-json/: parsing, routing, error format, headers, limits."""

import json

import pytest
from asgiref.sync import async_to_sync

from puffer.asgi import application
from tests.support.api import BASE
from tests.support.processor import cpu_milliseconds

QUESTION = {"provider": "openai", "model": "m", "messages": [{"role": "user", "content": "Hi"}]}
# The error of a valid request, because no provider is configured.
NOT_CONFIGURED = "missing_api_key"


def code(response):
    body = response.json()
    assert list(body) == ["code", "message", "data"]
    assert body["data"]["status"] == response.status_code
    assert response.headers["content-type"] == "application/json; charset=UTF-8"
    return body["code"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "application/vnd.api+json"]
)
def test_json_content_types_are_parsed(api, content_type):
    response = api.post("/generate", content=json.dumps(QUESTION), headers={"Content-Type": content_type})
    assert code(response) == NOT_CONFIGURED


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/jsonx", "application/problem+xml"])
def test_json_with_another_content_type_is_not_parsed(api, content_type):
    response = api.post("/generate", content=json.dumps(QUESTION), headers={"Content-Type": content_type})
    assert response.json()["data"]["params"] == ["provider", "model", "messages"]


@pytest.mark.parametrize(
    ("body", "number", "reason"),
    [
        (b'{"a":', 4, "Syntax error"),
        (b'{"a":1,}', 4, "Syntax error"),
        (b"{bad", 4, "Syntax error"),
        (b'{"a": NaN}', 4, "Syntax error"),
        (b"[" * 5000, 4, "Syntax error"),
        (b'{"a":"\xff\xfe"}', 5, "Malformed UTF-8 characters, possibly incorrectly encoded"),
        (b'{"a":"x\ny"}', 3, "Control character error, possibly incorrectly encoded"),
    ],
)
def test_a_body_that_is_not_valid_json_is_400(api, body, number, reason):
    response = api.post("/generate", content=body, headers={"Content-Type": "application/json"})
    assert code(response) == "rest_invalid_json"
    assert response.json()["data"] == {"status": 400, "json_error_code": number, "json_error_message": reason}


@pytest.mark.parametrize("body", [b"", b"null", b'"text"', b"12", b"[1, 2]"])
def test_json_that_is_not_an_object_has_no_parameters(api, body):
    response = api.post("/generate", content=body, headers={"Content-Type": "application/json"})
    assert code(response) == "rest_missing_callback_param"


@pytest.mark.parametrize(
    "form",
    [
        "provider=openai&model=m&messages[0][role]=user&messages[0][content]=Hi",
        "provider=openai&model=m&messages[][role]=user&messages[0][content]=Hi",
        "provider=openai&model=m&messages%5B0%5D%5Brole%5D=user&messages%5B0%5D%5Bcontent%5D=Hi",
    ],
)
def test_a_form_may_use_brackets(api, form):
    response = api.post("/generate", content=form, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert code(response) == NOT_CONFIGURED


def test_a_multipart_form_is_parsed(api):
    form = {"provider": "openai", "model": "m", "messages[0][role]": "user", "messages[0][content]": "Hi"}
    response = api.post("/generate", files={name: (None, value) for name, value in form.items()})
    assert code(response) == NOT_CONFIGURED


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=B", b"--B\r\nbroken"),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(10_001))),
        ("application/x-www-form-urlencoded; charset=nonsense", b"a=1"),
        ("application/x-www-form-urlencoded", b"a" + b"[a]" * 5000 + b"=1"),
        ("application/x-www-form-urlencoded", b"\xff\xfe=\xff"),
    ],
)
def test_a_broken_form_is_400(api, content_type, body):
    response = api.post("/generate", content=body, headers={"Content-Type": content_type})
    assert response.status_code == 400
    assert code(response) in ("rest_invalid_form", "rest_missing_callback_param", "rest_too_many_parameters")


def test_names_without_end_are_refused_before_they_are_read(api):
    """Even of a caller with a key: each name takes a microsecond, in which nothing else runs."""
    names = "{" + ",".join(f'"{number}" :1' for number in range(300_000)) + "}"
    post = lambda: api.post("/generate", content=names, headers={"Content-Type": "application/json"})  # noqa: E731
    response = post()
    assert (response.status_code, code(response)) == (400, "rest_too_many_parameters")
    assert cpu_milliseconds(post, 200) < 200
    text = json.dumps({"system_instruction": 'Say: "a": 1, "b": 2. ' * 100_000, **QUESTION})
    assert code(api.post("/generate", content=text, headers={"Content-Type": "application/json"})) == NOT_CONFIGURED


def test_a_chunked_multipart_form_is_read_too(api):
    parts = {"provider": "openai", "model": "m", "messages[0][role]": "user", "messages[0][content]": "Hi"}
    form = "".join(f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{parts[name]}\r\n' for name in parts)

    async def pieces():
        yield form.encode()
        yield b"--B--\r\n"

    response = api.post("/generate", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=B"})
    assert code(response) == NOT_CONFIGURED


def test_the_body_overrides_the_query(api):
    response = api.post("/generate?provider=nonsense&model=m", json=QUESTION)
    assert code(response) == NOT_CONFIGURED


def test_the_query_supplies_parameters_missing_from_the_body(api):
    response = api.post("/generate?provider=openai&model=m", json={"messages": QUESTION["messages"]})
    assert code(response) == NOT_CONFIGURED


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nope"),
        ("POST", "/nope"),
        ("GET", "/generate"),
        ("PUT", "/generate"),
        ("DELETE", "/logs"),
        ("POST", "/logs"),
        ("FOO", "/logs"),
        ("POST", "/chat/abc/message"),
        ("POST", "/chat/-1/message"),
        ("POST", "/chat/1/message/more"),
        ("POST", "/automations/run"),
        ("GET", "/wp-json"),
        ("GET", "/wp-json/"),
        ("GET", "/wp-json/wp/v2/posts"),
        ("GET", "/?rest_route=/aipkit/v1/nope"),
        ("GET", "/wp-json/aipkit/v1/../../admin/"),
        ("GET", "/wp-json/%00"),
        ("GET", "/wp-json/%ff%fe"),
        ("GET", "/wp-json/%0a"),
        ("GET", "/wp-json/a%0Ab/c"),
        ("GET", "http://testserver/index.php/wp-json"),
        ("POST", "http://testserver/index.php/wp-json/nope"),
        ("PATCH", "/wp-json//"),
    ],
)
@pytest.mark.parametrize("key", ["", None])
def test_unknown_routes_and_methods_are_404_for_everybody(api, method, path, key):
    response = api.request(method, path, key=key)
    assert (response.status_code, code(response)) == (404, "rest_no_route")


@pytest.mark.parametrize(
    "path",
    [
        "/LOGS",
        "/logs/",
        "/wp-json/AIPKIT/v1/logs",
        "/?rest_route=/aipkit/v1/logs",
        "/?rest_route=aipkit/v1/logs/&page=1",
        "/?rest_route=//aipkit//v1/logs",
        "http://testserver/index.php?rest_route=/aipkit/v1/logs",
        "http://testserver/index.php/wp-json/aipkit/v1/logs",
        "http://testserver/Index.php//WP-json/aipkit/v1/logs/",
        "/wp-json//aipkit/v1//logs",
    ],
)
def test_routes_have_alternative_spellings(api, path):
    assert api.get(path).status_code == 200


def test_head_answers_like_get_without_a_body(api):
    response = api.request("HEAD", "/logs")
    assert (response.status_code, response.content, response.headers["x-wp-total"]) == (200, b"", "0")
    assert api.request("HEAD", "/generate").status_code == 404


def test_options_describes_a_route_to_everybody(api):
    response = api.request("OPTIONS", "/logs", key=None)
    description = response.json()
    assert (response.status_code, response.headers["allow"]) == (200, "GET")
    assert (description["namespace"], description["methods"]) == ("aipkit/v1", ["GET"])
    assert list(description["endpoints"][0]["args"]) == [
        "page", "per_page", "bot_id", "user_search", "message_search", "aipkit_api_key",
    ]  # fmt: skip
    assert api.request("OPTIONS", "/nope", key=None).json() == []


def test_the_namespace_lists_its_routes(api):
    routes = api.get(BASE, key=None).json()["routes"]
    assert "/aipkit/v1/generate" in routes
    assert r"/aipkit/v1/chat/(?P<bot_id>\d+)/message" in routes


def test_cors_allows_any_origin_without_credentials(api):
    response = api.get("/logs", headers={"Origin": "https://shop.example"})
    assert response.headers["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-credentials" not in response.headers
    assert "X-WP-Total" in response.headers["access-control-expose-headers"]
    preflight = api.request(
        "OPTIONS",
        "/generate",
        key=None,
        headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"},
    )
    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["access-control-allow-headers"]


def test_raw_bytes_in_the_query_are_400(db):
    """Call the application like the server does, because no HTTP library sends such a query."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": f"{BASE}/logs", "query_string": b"a=\xff\xfe", "headers": []}
    async_to_sync(application)(scope, receive, send)
    assert sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["code"] == "rest_invalid_url"


def test_an_unknown_host_is_400_where_the_response_contains_our_url(api):
    response = api.get(BASE, headers={"Host": "evil.example"})
    assert (response.status_code, code(response)) == (400, "rest_aipkit_unknown_host")


def test_a_body_over_the_limit_is_413(api, settings):
    settings.MAX_REQUEST_BYTES = 1000
    response = api.post("/generate", json={"x": "y" * 1000})
    assert (response.status_code, code(response)) == (413, "rest_request_too_large")
    assert api.post("/generate", json={"x": "y" * 900}).status_code == 400


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-123", True), ("x" * 101, False), ("a b", False), ("ä".encode(), False)]
)
def test_a_valid_request_id_is_kept(api, given, kept):
    answered = api.get("/logs", headers={"X-Request-ID": given}).headers["x-request-id"]
    assert (answered == given) is kept
    assert 1 <= len(answered) <= 100


def test_every_response_has_its_own_request_id(api):
    ids = {api.get(path).headers["x-request-id"] for path in ("/logs", "/nope", "/logs")}
    assert len(ids) == 3


def test_a_crash_is_logged_but_not_shown_to_the_caller(api, bot, caplog, monkeypatch):
    def crash(*args, **options):
        raise RuntimeError("the database password is hunter2")

    monkeypatch.setattr("chatbots.api.chat.take_turn", crash)  # no request makes our own code crash
    response = api.post(
        f"/chat/{bot.pk}/message",
        json={"messages": [{"role": "user", "content": "Hi"}]},
        headers={"X-Request-ID": "crash-1"},
    )
    assert (response.status_code, code(response)) == (500, "internal_server_error")
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    assert any("hunter2" in str(record.exc_info) for record in caplog.records)


def test_log_lines_contain_no_keys_queries_or_prompts(api, caplog):
    caplog.set_level("INFO")
    api.post(f"/generate?aipkit_api_key={api.key}", key=None, json={**QUESTION, "system_instruction": "confidential"})
    api.get(f"/logs?aipkit_api_key={api.key}&message_search=confidential", key=None)
    lines = [str(record.__dict__) for record in caplog.records if record.name != "httpx2"]  # the test client logs too
    assert any("/wp-json/aipkit/v1/logs" in line for line in lines)
    assert not any(api.key in line or "confidential" in line for line in lines)
