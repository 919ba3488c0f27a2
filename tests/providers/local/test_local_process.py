"""The process of the bundled models: who may call it, and how it starts, restarts and stops."""

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from providers.local import engines as local_engines
from providers.local.process import running
from tests.support.providers.local_model import CHAT, EMBED, HELLO, LAMP, TOKENS, post

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not local_engines.installed(), reason=local_engines.MISSING),
]


def process_started_by(pid):
    """Return the process id of the bundled models' server started by this parent, or None."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes().split(b"\0")
        except OSError:  # the process has ended
            continue
        if b"providers.local.server" in arguments and f"--parent={pid}".encode() in arguments:
            return int(entry.parent.name)
    return None


def wait_until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {seconds} seconds"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:80"}, 200),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer none"}, 401),
        ({"Origin": "http://127.0.0.1"}, 403),  # a page in a browser on this machine
        ({"Origin": "null"}, 403),
        ({"Host": "rebound.example:80"}, 403),  # a name that resolves to 127.0.0.1
        ({"Host": "127.0.0.1.example:80"}, 403),
    ],
)
def test_only_puffer_may_call_the_server(base_url, headers, status):
    for path, body in ((CHAT, HELLO | {"max_tokens": 1}), (EMBED, LAMP)):
        assert post(base_url, path, body, **headers)[0] == status


def test_the_token_is_not_among_the_arguments(base_url):
    arguments = Path(f"/proc/{process_started_by(os.getpid())}/cmdline").read_bytes()
    assert TOKENS[base_url].encode() not in arguments


def test_the_server_does_not_start_without_a_token():
    command = [sys.executable, "-m", "providers.local.server"]
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_MODEL_TOKEN"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 1
    assert "Set LOCAL_MODEL_TOKEN" in ran.stderr


def test_a_killed_server_restarts_on_the_same_port(base_url):
    killed = process_started_by(os.getpid())
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: process_started_by(os.getpid()) != killed)
    status, answer = post(base_url, "/v1/chat/completions", HELLO | {"max_tokens": 1})  # waits for the restart
    assert (status, answer["usage"]["completion_tokens"]) == (200, 1)
    assert process_started_by(os.getpid()) not in (None, killed)


def test_the_server_stops_at_the_end_of_the_block():
    already_there = process_started_by(os.getpid())
    with running() as address:
        host = address.url.removeprefix("http://")
        TOKENS[address.url] = address.token
        assert post(address.url, "/v1/embeddings", {})[0] == 404
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(host).connect()
    assert process_started_by(os.getpid()) == already_there


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_the_server_stops_when_its_parent_dies(signal_number):
    code = (
        "import django, os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job starts with it ignored
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "django.setup()\n"
        "from providers.local.process import running\n"
        "with running() as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as parent:
        parent.stdout.readline()
        child = process_started_by(parent.pid)
        assert os.getpgid(child) != parent.pid  # Ctrl-C reaches only the parent's process group
        os.killpg(parent.pid, signal_number)
        wait_until(lambda: process_started_by(parent.pid) is None)


def test_a_failed_start_reports_the_reason(monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho libgomp.so.1 is missing >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(RuntimeError, match=r"exit 3\):\nlibgomp.so.1 is missing"), running():
        pass


def test_missing_packages_are_reported_with_the_install_command(monkeypatch):
    monkeypatch.setattr(local_engines, "PACKAGES", ("no_such_package",))
    with pytest.raises(RuntimeError, match=r"pip install --no-deps -r requirements-local.txt"), running():
        pass
