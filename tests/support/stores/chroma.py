"""A real Chroma server."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.support.installation import free_port, wait_until

CHROMA_START = 30  # seconds


@contextmanager
def running_chroma(folder: Path) -> Iterator[str]:
    """Yield the URL of a Chroma server that stores its data in the folder; delete the folder at the end."""
    command = Path(sys.executable).with_name("chroma")
    if not command.exists():
        pytest.skip("chromadb, whose server is tested against, is not installed")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = [command, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log, subprocess.Popen(arguments, stdout=log, stderr=log) as server:
        try:
            wait_until(lambda: answers(f"{url}/api/v2/heartbeat") or server.poll() is not None, CHROMA_START)
            assert server.poll() is None, (folder / "log").read_text()
            yield url
        finally:
            server.terminate()
    shutil.rmtree(folder)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False
