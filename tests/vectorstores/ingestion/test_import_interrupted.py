"""import_vectors in its own process: killed, interrupted with Ctrl-C, and its memory use."""

import os
import pty
import random
import re
import signal
import termios
import threading
import time
from pathlib import Path

import pytest

from tests.support.knowledge.importer import wait_for

pytestmark = pytest.mark.slow


def test_a_killed_import_is_finished_by_the_next_run(installation):
    source, rng = installation.source(6_000), random.Random(time.time_ns())
    upstream, calls = installation.upstream, 0
    for _ in range(6):
        # Kill at a random one of the next 18 calls; a whole import makes about 120.
        calls = len(upstream.sent) + rng.randint(1, 18)
        process = installation.start_import(source)
        wait_for(lambda: len(upstream.sent) >= calls or process.poll() is not None)  # noqa: B023
        time.sleep(rng.random() * 0.05)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
        vectors, different, documents, _ = installation.counts()
        assert documents <= vectors == different  # every recorded document is stored
    before = installation.counts()
    assert 0 < before[0] < 6_000
    summary = installation.finish(installation.start_import(source))
    assert summary["documents"] + summary["unchanged"] == 6_000
    assert summary["unchanged"] == before[2]
    assert installation.counts() == (6_000,) * 4


@pytest.mark.parametrize(
    "where",
    ["while storing", "while a provider is silent", "while a page does not come", "while the first page does not come"],
)
def test_ctrl_c_ends_within_a_second(installation, where):
    upstream = installation.upstream
    source = installation.source(6_000)
    if where == "while a provider is silent":
        upstream.pages = {}
        for _ in range(4):
            upstream.will_stall()
    elif "page" in where:
        upstream.will_stall()
        source = f"{upstream.url}/page"
    # Without the name of a model, the import first reads the first row to find it.
    process = installation.start_import(source, names_model=where != "while the first page does not come")
    wait_for(lambda: len(upstream.sent) >= (30 if where == "while storing" else 1))
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert time.monotonic() - pressed < 1.0
    errors = (installation.folder / "err").read_text()
    assert "Run the same command again to continue" in errors
    assert "Traceback" not in errors
    if where == "while storing":
        before = installation.counts()
        assert before[0]
        summary = installation.finish(installation.start_import(source))
        assert summary["unchanged"] == before[2]
        assert installation.counts() == (6_000,) * 4


def test_a_progress_bar_is_shown_on_a_terminal(installation):
    terminal, terminal_of_process = pty.openpty()
    termios.tcsetwinsize(terminal_of_process, (24, 120))
    output = b""

    def read():
        nonlocal output
        try:
            while data := os.read(terminal, 1024):
                output += data
        except OSError:  # raised when the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    process = installation.start_import(installation.source(2000), stderr=terminal_of_process)
    os.close(terminal_of_process)
    installation.finish(process)
    reader.join()
    os.close(terminal)
    assert b"100%" in output
    assert b"stored=" in output
    assert b"B/s" in output  # the rate


def peak_megabytes(installation, rows):
    """Return the peak memory of an import of this many rows.

    Read it from /proc while the process runs: wait4() would also count the process it was forked from.
    """
    process = installation.start_import(installation.source(rows, words=20), f"--namespace=rows-{rows}")
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        if found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text()):  # missing once the process has ended
            peak = int(found[1])
        time.sleep(0.02)
    assert process.returncode == 0, (installation.folder / "err").read_text()
    return peak / 1024


def test_memory_does_not_grow_with_the_input(installation):
    few, many = peak_megabytes(installation, 3000), peak_megabytes(installation, 25_000)
    # An import keeps two numbers per document, about 100 bytes.
    assert many - few < 15
    assert 50 < many < 230
