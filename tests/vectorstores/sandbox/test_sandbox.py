"""The process in which uploads are read: it has no network, and nothing that it sends can run in the worker."""

import errno
import multiprocessing
import os
import pickle
import platform
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.support.installation import wait_until
from vectorstores.base import Vector
from vectorstores.extraction import Unreadable
from vectorstores.ingestion.chunking import Chunk
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument
from vectorstores.ingestion.rows import Refused
from vectorstores.sandbox.answer import from_json, to_json
from vectorstores.sandbox.process import Limits
from vectorstores.sources.links import Link
from vectorstores.uploads.reading import read_upload

SHOP = Destination("local", "shop", "openai", "text-embedding-3-small")
MANY_ROWS = b"content\n" + b"Text number one.\n" * 30_000  # takes seconds
linux_only = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="seccomp filters are Linux's"
)


@linux_only
def test_an_upload_is_read_behind_a_filter():
    """Look at the process while it reads."""

    def read() -> None:
        with TemporaryFile() as spool:
            read_upload(spool, "file", "a.csv", MANY_ROWS, SHOP, threading.Event(), Limits())

    def is_filtered() -> bool:
        for child in multiprocessing.active_children():
            with suppress(OSError):  # it has just ended
                if "Seccomp:\t2" in Path(f"/proc/{child.pid}/status").read_text():
                    return True
        return False

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_until(is_filtered, 60)
    finally:
        reader.join()


def test_the_time_limit_holds_while_answers_arrive():
    with TemporaryFile() as spool, pytest.raises(Unreadable, match="too long"):
        read_upload(spool, "file", "a.csv", b"content\nText\n", SHOP, threading.Event(), Limits(seconds=0))


PROBES = {
    "tcp": "socket.create_connection(('127.0.0.1', PORT), 5)",
    "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "unix": "socket.socket(socket.AF_UNIX)",
    "pair": "socket.socketpair()",
    "inherited": "INHERITED.connect(('127.0.0.1', PORT))",
    "signal": "os.kill(os.getppid(), 0)",
    "program": "os.execv('/bin/true', ['true'])",
}


@linux_only
@pytest.mark.parametrize("probe", PROBES)
def test_the_filter_denies_connections_and_programs(probe):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = (
            "import os, socket, sys\n"
            "from vectorstores.sandbox.no_network import block_network\n"
            f"PORT, INHERITED = {listener.getsockname()[1]}, socket.socket()\n"
            "assert block_network()\n"
            f"try: {PROBES[probe]}\n"
            "except OSError as error: print(error.errno)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(errno.EPERM), done.stderr


@linux_only
def test_files_and_threads_still_work():
    code = (
        "import threading; from vectorstores.sandbox.no_network import block_network as t; assert t();"
        "x = threading.Thread(target=lambda: print(len(open('/proc/self/status').read()) > 9)); x.start(); x.join()"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_documents_survive_the_way():
    chunk = Chunk("Täxt \ud800 \x00", 0, 9, "A > B", {"price": 9.5, "tags": ["a", "b"], "sold": True})
    document = NewDocument("id", [chunk], {"title": "T"}, "a.csv", "folder", "hash", False, values=[])
    refused = Refused("row 3", "It has no text.", True, "id")
    link = Link("https://www.example.com/", is_sitemap=True)
    assert from_json(to_json([document, refused, link])) == [document, refused, link]
    assert from_json(to_json([])) == []


def test_embeddings_that_a_document_brings_survive_the_way():
    vector = Vector("id", [0.5, -1.0], "text", {})
    document = NewDocument("id", [Chunk("text", 0, 4)], {}, values=[vector.values])
    (restored,) = from_json(to_json([document]))
    assert list(restored.values[0]) == [0.5, -1.0]


class Exploit:
    def __reduce__(self):
        return os.mkdir, ("executed",)


DOCUMENT = to_json([NewDocument("id", [Chunk("text", 0, 4)], {"title": "T"})]).decode()


@pytest.mark.parametrize(
    "answer",
    [
        pickle.dumps([Exploit()]),
        pickle.dumps("a reason"),
        b"",
        b"\xff",
        b"1",
        b"[1]",
        b"[{}]",
        b'[{"Other": {}}]',
        b'[{"Refused": {"place": "x"}}]',
        b"[" * 100_000,
        DOCUMENT.replace('"id"', "7").encode(),
        DOCUMENT.replace('"start": 0', '"start": "0"').encode(),
        DOCUMENT.replace('"T"', '{"a": {}}').encode(),
        DOCUMENT.replace('"source"', '"sauce"').encode(),
        DOCUMENT.replace('"values": []', '"values": [["x"]]').encode(),
    ],
)
def test_any_other_answer_is_refused(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unreadable):
        from_json(answer)
    assert not list(tmp_path.iterdir())
