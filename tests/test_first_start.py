"""The README's commands, from a fresh installation to an answer of the bundled model."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from providers.local.engines import installed
from tests.support.installation import Installation
from tests.support.repository import README, ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not installed(), reason="the bundled model is not installed: requirements-local.txt"),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("first-start")
    overridden = ("DJANGO_SETTINGS_MODULE", "SECRET_KEY", "DATABASE_URL", "LOCAL_MODEL_URL")
    return {name: value for name, value in os.environ.items() if name not in overridden} | {
        "PUFFER_ENV_FILE": str(folder / ".env"),
        "DATABASE_URL": f"sqlite:///{folder}/puffer.sqlite3",
        "MEDIA_ROOT": str(folder / "media"),
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture(scope="module")
def started(environment, tmp_path_factory):
    """Yield the file with quickstart's output, and its port, while the server runs."""
    port = free_port()
    output = tmp_path_factory.mktemp("output") / "stdout"
    with output.open("w") as stdout:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "quickstart", "--port", str(port)],
            cwd=ROOT, env=environment, stdout=stdout, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 90
            while time.monotonic() < deadline and process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            yield output, port
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def shell(command: str, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command], env=os.environ | variables, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def readme_curl_commands() -> list[str]:
    blocks = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    commands = [command for block in blocks for command in re.split(r"\n(?=curl |# )|\n\n", block)]
    return [command for command in commands if command.startswith("curl ")]


def test_the_readme_shows_a_call_of_each_endpoint():
    paths = {path for curl in readme_curl_commands() for path in re.findall(r"/wp-json/aipkit/v1(/[\w/-]+)", curl)}
    assert paths == {
        "/chat/1/message",
        "/generate",
        "/embeddings",
        "/vector-stores/upsert",
        "/logs",
        "/images/generate",
    }


def test_every_call_of_the_readme_works_as_printed(started):
    output, port = started
    key = re.search(r"puf_\w+", output.read_text())[0]
    for command in readme_curl_commands():
        if "/images/generate" in command:
            continue  # the bundled model cannot generate images
        answer = json.loads(shell(command.replace(":8000", f":{port}"), KEY=key))
        assert isinstance(answer, list) or "code" not in answer, answer


def test_the_call_printed_by_quickstart_gets_an_answer(started):
    output, _ = started
    command = output.read_text()[output.read_text().index("curl ") :]
    answer = json.loads(shell(command))
    assert answer["reply"].strip()
    assert answer["model"] == "smollm2-135m-instruct"
    assert answer["usage"]["total_tokens"] > 0


def test_a_chatbot_answers_from_documents_and_names_their_source(started, environment):
    output, port = started
    key = re.search(r"puf_\w+", output.read_text())[0]
    run_options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "check": True, "timeout": 240}
    import_command = next(
        line for line in README.splitlines() if "manage.py import_vectors" in line and "--target docs" in line
    )
    pages = import_command.replace(
        " docs README.md ", " docs/performance.md docs/providers.md "
    )  # not all: a minute less
    assert pages != import_command
    subprocess.run([sys.executable, *shlex.split(pages)[1:]], **run_options)
    bot = {
        "name": "Docs", "provider": "local", "model": "smollm2-135m-instruct", "temperature": 0,
        "instructions": "Answer with one short sentence from the passages.", "max_completion_tokens": 40,
        "enable_vector_store": True, "collections": ["docs"], "vector_store_top_k": 1,
    }  # fmt: skip
    created = subprocess.run(
        [sys.executable, "manage.py", "import_chatbots", "-", "--json"], input=json.dumps([bot]), **run_options
    )
    (bot_id,) = json.loads(created.stdout)
    question = {"messages": [{"role": "user", "content": "How long did make run take in a fresh clone?"}]}
    answer = json.loads(
        shell(
            f"curl -s http://127.0.0.1:{port}/wp-json/aipkit/v1/chat/{bot_id}/message -H 'Authorization: Bearer {key}' "
            f"-H 'Content-Type: application/json' -d '{json.dumps(question)}'"
        )
    )
    (source,) = answer["sources"]
    assert source["title"] == "Performance"
    assert "took 37 s to the first answer" in source["excerpt"]
    assert "37" in answer["reply"]


def test_the_chat_page_printed_by_quickstart_opens(started):
    output, port = started
    page = re.search(r"^Chat +(\S+)$", output.read_text(), re.MULTILINE)[1]
    assert page == f"http://127.0.0.1:{port}/chat/1/"
    assert "<puffer-chat" in shell(f"curl -sf {page}")


def test_admin_and_docs_open(started):
    _, port = started
    for path in ("/admin/login/", "/api/docs/", "/static/admin/css/base.css", "/health/ready"):
        assert shell(f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{port}{path}") == "200"


def test_a_second_start_changes_nothing_and_shows_no_secret(started, environment):
    second_start = subprocess.run(
        [sys.executable, "manage.py", "quickstart", "--no-serve"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "puf_" not in second_start.stdout
    assert "as shown at the first start" in second_start.stdout
    assert "/chat/1/message" in second_start.stdout


def test_the_secret_key_is_written_once_and_readable_only_by_the_owner(started, environment):
    file = Path(environment["PUFFER_ENV_FILE"])
    assert file.read_text().count("SECRET_KEY=") == 1
    assert file.stat().st_mode & 0o077 == 0


def test_serve_says_that_the_port_is_taken(started, environment):
    _, port = started
    refused = subprocess.run(
        [sys.executable, "manage.py", "serve", "--port", str(port)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "Choose another port" in refused.stderr


def test_an_ordinary_user_may_be_called_admin(tmp_path):
    with Installation.new(tmp_path) as installation:
        installation.python("from django.contrib.auth.models import User; User.objects.create_user('Admin')")
        first, second = (installation.manage("quickstart", "--no-serve") for _ in range(2))
        assert "user admin2, password " in first
        assert "user admin2, password (as shown at the first start)" in second
        superusers = "SELECT username FROM auth_user WHERE is_superuser"
        assert installation.rows(superusers) == [("admin2",)]
