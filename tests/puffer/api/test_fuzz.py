"""Thousands of random requests: no server errors, and every response matches the OpenAPI document."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Server
from tests.support.providers.answers import ANTHROPIC_MESSAGE, CHAT_COMPLETION, GENERATED_CONTENT, GPT_IMAGE, IMAGES
from tests.support.upstream import Connection, Upstream, answering, running

pytest.importorskip("hypothesis", reason="hypothesis and schemathesis are not installed: requirements-dev.txt")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.installation import serving

pytestmark = pytest.mark.slow

MESSAGES = [{"role": "user", "content": "Hi"}]
VALID: dict[str, dict[str, Any]] = {
    "/generate": {
        "provider": "openai", "model": "m", "messages": MESSAGES, "stream": False, "system_instruction": "x",
        "ai_params": {"temperature": 1, "stop": ["x"]},
    },
    "/images/generate": {
        "prompt": "x", "provider": "openai", "model": "m", "n": 1, "size": "1024x1024", "quality": "hd", "seed": 1,
        "style": "vivid", "response_format": "b64_json", "aspect_ratio": "1:1", "resolution": "1K",
        "output_format": "png", "output_compression": 5, "background": "auto",
    },
    "/embeddings": {
        "provider": "openai", "model": "m", "input": ["a"], "dimensions": 3, "encoding_format": "float",
        "task_type": "CLUSTERING", "output_dimensionality": 3, "user": "u",
    },
    "/chat/{bot}/message": {"messages": MESSAGES, "conversation_uuid": "x", "bot_id": 1},
    "/logs": {"page": 1, "per_page": 1, "bot_id": 1, "user_search": "x", "message_search": "x"},
}  # fmt: skip

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(),
    st.sampled_from(["", "0", "-1", "1e400", "\x00", "openai", "google", "claude", "9" * 30, "[date]", "../x"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["role", "content", "temperature", "stop"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def bodies(path: str) -> st.SearchStrategy[Any]:
    """Generate bodies: valid ones with some changes, random objects, and values that are not objects."""
    names = st.sampled_from([*VALID[path], "aipkit_api_key", "rest_route"])
    changed = st.dictionaries(names, values, max_size=3).map(lambda changes: {**VALID[path], **changes})
    dropped = st.sets(names, max_size=3).map(lambda names: {k: v for k, v in VALID[path].items() if k not in names})
    return st.one_of(changed, dropped, st.dictionaries(names | st.text(), values), values)


class TolerantUpstream:
    """A behavior that gives a valid answer to every call of every provider, because only our side is tested."""

    def __call__(self, connection: Connection) -> None:
        sent = connection.server.sent[-1]
        path = sent.path
        answer: Any = CHAT_COMPLETION
        if path.endswith("/messages"):
            answer = ANTHROPIC_MESSAGE
        elif path.endswith("batchEmbedContents"):
            answer = {"embeddings": [{"values": [1.0]} for _ in sent.json["requests"]]}
        elif "generateContent" in path:
            answer = IMAGES["google"] if "responseModalities" in json.dumps(sent.json) else GENERATED_CONTENT
        elif path.endswith("/embeddings"):
            answer = {"data": [{"index": n, "embedding": [1.0]} for n, _ in enumerate(sent.json["input"])]}
        elif path.endswith(("/images/generations", "/images")):
            answer = GPT_IMAGE
        connection.server.sent.clear()
        answering(answer)(connection)


@pytest.fixture
def tolerant(upstream: Upstream) -> Iterator[Upstream]:
    behave = TolerantUpstream()
    upstream.behaviour_for = lambda path: behave  # type: ignore[method-assign]
    yield upstream
    del upstream.behaviour_for


@pytest.mark.parametrize("path", VALID)
def test_random_bodies_are_never_a_server_error(api, bot, tolerant, path):
    url = path.format(bot=bot.pk)

    @settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(body=bodies(path), raw=st.none() | st.binary(max_size=60), form=st.booleans())
    def check(body: Any, raw: bytes | None, form: bool) -> None:
        options: dict[str, Any] = {"headers": {"Content-Type": "application/json"}}
        if path == "/logs":
            flat = body if isinstance(body, dict) else {}
            request = lambda: api.get(url, params={name: str(value) for name, value in flat.items()})  # noqa: E731
        elif form and isinstance(body, dict):
            request = lambda: api.post(url, data={name: str(value) for name, value in body.items()})  # noqa: E731
        else:
            content = raw if raw is not None else json.dumps(body).encode()
            request = lambda: api.post(url, content=content, **options)  # noqa: E731
        response = request()
        answer = response.json()
        assert response.status_code < 500, (response.status_code, answer)
        if response.status_code != 200:
            assert set(answer) == {"code", "message", "data"}
            assert answer["data"]["status"] == response.status_code
            assert isinstance(answer["code"], str)
            assert isinstance(answer["message"], str)

    check()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running() as upstream:
        behave = TolerantUpstream()
        upstream.behaviour_for = lambda path: behave  # type: ignore[method-assign]
        url = upstream.url
        every_provider = {
            "AZURE_OPENAI_API_KEY": "x", "AZURE_OPENAI_ENDPOINT": url, "GOOGLE_API_KEY": "x", "GOOGLE_BASE_URL": url,
            "OPENROUTER_API_KEY": "x", "OPENROUTER_BASE_URL": url, "ANTHROPIC_API_KEY": "x", "ANTHROPIC_BASE_URL": url,
            "DEEPSEEK_API_KEY": "x", "DEEPSEEK_BASE_URL": url, "XAI_API_KEY": "x", "XAI_BASE_URL": url,
            "OLLAMA_BASE_URL": url, "LOCAL_MODEL_URL": url,
        }  # fmt: skip
        with serving(tmp_path_factory.mktemp("fuzz"), upstream, **every_provider) as server:
            yield server


def test_responses_match_the_openapi_document(served, tmp_path):
    key = served.manage("create_api_key", "fuzz").splitlines()[-1]
    served.manage("create_demo_bot")
    served.python("from chatbots.models import Chatbot; Chatbot.objects.update(embed_allowed_domains=['shop.example'])")
    # Use the id of an existing chatbot, so that calls do not end as 404. Stores that are not configured answer 503.
    (tmp_path / "schemathesis.toml").write_text(
        '[parameters]\nbot_id = 1\n[[operations]]\ninclude-path = "/wp-json/aipkit/v1/vector-stores/upsert"\n'
        '[operations.checks]\nnot_a_server_error.expected-statuses = ["2XX", "4XX", "503"]\n'
    )
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"), "run", f"{served.url}/api/schema/",
            "--header", f"Authorization: Bearer {key}", "--header", "Origin: https://shop.example",
            "--max-examples", "25",
            "--phases", "examples,coverage,fuzzing",
            "--checks", "not_a_server_error,status_code_conformance",
            "--checks", "content_type_conformance,response_schema_conformance",
            "--no-color", "--seed", "1", "--workers", "1", "--continue-on-failure",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
