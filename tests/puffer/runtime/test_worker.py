"""Background jobs: leases, and `manage.py worker` processes that share work or are killed."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone

from puffer.runtime.jobs import LeaseLost, claim
from tests.support.installation import Installation, answers, forks_of, free_port, wait_until
from tests.support.work.models import Piece, Result

# Leases


def pieces(count: int, **values) -> list[Piece]:
    return [Piece.objects.create(**values) for _ in range(count)]


@pytest.mark.django_db
def test_the_job_that_is_due_longest_is_claimed_first():
    now = timezone.now()
    newest, oldest, middle = (Piece.objects.create(due_at=now - timedelta(seconds=age)) for age in (1, 3, 2))
    Piece.objects.create(due_at=now + timedelta(seconds=60))
    rows = Piece.objects.all()
    assert [claim(rows, 60) for _ in range(4)] == [oldest, middle, newest, None]


@pytest.mark.django_db
def test_a_claimed_job_cannot_be_claimed_again_until_its_lease_ends():
    pieces(1)
    job = claim(Piece.objects.all(), 0.2)
    assert claim(Piece.objects.all(), 60) is None
    assert job.is_running
    time.sleep(0.1)
    job.extend(0.3)
    time.sleep(0.15)
    assert claim(Piece.objects.all(), 60) is None
    time.sleep(0.2)
    reclaimed = claim(Piece.objects.all(), 60)
    assert (reclaimed, reclaimed.attempts) == (job, 2)


WRITES = {
    "extend": lambda piece: piece.extend(60),
    "finish": lambda piece: piece.finish(),
    "reschedule": lambda piece: piece.reschedule(60, "no"),
    "fail": lambda piece: piece.fail("no"),
}


@pytest.mark.django_db
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("loss", ["reclaimed", "finished", "restarted", "deleted", "never claimed"])
def test_a_worker_without_the_lease_cannot_write(write, loss):
    (piece,) = pieces(1)
    lease_seconds = 0 if loss in ("reclaimed", "finished") else 60
    job = piece if loss == "never claimed" else claim(Piece.objects.all(), lease_seconds)
    if loss in ("reclaimed", "finished"):
        reclaimed = claim(Piece.objects.all(), 60)
        if loss == "finished":
            reclaimed.finish()
    elif loss == "restarted":
        Piece.objects.get().restart()
    elif loss == "deleted":
        Piece.objects.all().delete()
    before = list(Piece.objects.values())
    with pytest.raises(LeaseLost):
        WRITES[write](job)
    assert list(Piece.objects.values()) == before


@pytest.mark.django_db
def test_an_expired_lease_is_valid_until_another_worker_claims_the_job():
    pieces(1)
    job = claim(Piece.objects.all(), 0)
    job.finish()
    assert Piece.objects.get().state == "done"


@pytest.mark.django_db
def test_a_job_can_finish_fail_or_be_rescheduled():
    done, failed, rescheduled = pieces(3)
    rows = Piece.objects.all()
    claim(rows, 60).finish(step_seconds=7)
    claim(rows, 60).fail("it is hopeless")
    claim(rows, 60).reschedule(60, "x" * 5000)
    assert claim(rows, 60) is None
    for piece in (done, failed, rescheduled):
        piece.refresh_from_db()
    assert (done.state, done.step_seconds, done.lease, done.leased_until) == ("done", 7, "", None)
    assert done.ended_at
    assert (failed.state, failed.last_error, failed.attempts) == ("dead", "it is hopeless", 1)
    assert (rescheduled.state, len(rescheduled.last_error), rescheduled.lease, rescheduled.ended_at) == (
        "waiting",
        2000,
        "",
        None,
    )
    assert 50 < (rescheduled.due_at - timezone.now()).total_seconds() <= 60
    failed.restart()
    reclaimed = claim(rows, 60)
    assert (reclaimed, reclaimed.attempts) == (failed, 1)


@pytest.mark.django_db
def test_once_runs_the_due_jobs_and_exits(settings):
    settings.WORKER_JOBS = ["tests.support.work.models.run_due"]
    first, second = pieces(2)
    Piece.objects.create(due_at=timezone.now() + timedelta(seconds=60))
    call_command("worker", once=True)
    assert list(Result.objects.order_by("id").values_list("piece_id", flat=True)) == [first.pk, second.pk]
    assert Piece.objects.filter(state="waiting").count() == 1


@pytest.mark.django_db
def test_claiming_from_an_empty_queue_takes_one_query_and_no_lock(django_assert_num_queries):
    pieces(1, state="done")
    with django_assert_num_queries(1) as queries:
        claim(Piece.objects.all(), 60)
    assert queries[0]["sql"].startswith("SELECT 1")


# Processes


HEARTBEATS = """
import asyncio
import psycopg
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.db import connection
from puffer.runtime import jobs

jobs.HEARTBEAT_SECONDS = 0.05
database = settings.DATABASES["default"]
beats = []

def heartbeat():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        beats.append(cursor.fetchone()[0])

async def work():
    while not beats:
        await asyncio.sleep(0.05)
    names = {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password", "NAME": "dbname"}
    with psycopg.connect(**{name: database[key] for key, name in names.items() if database[key]}) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [beats[0]])
    await asyncio.sleep(1)
    await sync_to_async(heartbeat)()  # the work uses the database again

async_to_sync(jobs.with_heartbeat)(work(), heartbeat)
print(len(set(beats)), len(beats) > 5)
"""


@pytest.mark.slow
def test_a_long_job_outlasts_a_restart_of_the_database(tmp_path):
    with Installation.new(tmp_path, "postgresql") as installation:
        assert installation.python(HEARTBEATS) == "2 True"


TABLES = """
from django.db import connection
from tests.support.work.models import Piece, Result
with connection.schema_editor() as editor:
    editor.create_model(Piece)
    editor.create_model(Result)
"""


class Work(Installation):
    """Worker processes and their results."""

    def queue(self, count: int, step_seconds: float = 0, fails: bool = False) -> None:
        columns = "state, due_at, lease, attempts, last_error, step_seconds, fails"
        row = f"('waiting', CURRENT_TIMESTAMP, '', 0, '', {step_seconds}, {fails})"
        self.rows(f"INSERT INTO work_piece ({columns}) VALUES {', '.join([row] * count)}")

    def done(self) -> int:
        return self.value("SELECT count(*) FROM work_piece WHERE state = 'done'")

    def results(self) -> list[tuple[int, int]]:
        """Return (id of the piece, pid of the worker that did it)."""
        return self.rows("SELECT piece_id, process_id FROM work_result ORDER BY 1")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def with_tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    folder = tmp_path_factory.mktemp("work")
    with Work.new(folder, request.param, DJANGO_SETTINGS_MODULE="tests.support.work.settings") as work:
        work.python(TABLES)
        yield work


# For tests that do not depend on the database.
on_sqlite = pytest.mark.parametrize("with_tables", ["sqlite"], indirect=True)


@pytest.fixture
def work(with_tables: Work) -> Iterator[Work]:
    yield with_tables
    with_tables.kill_all()
    with_tables.rows("DELETE FROM work_piece")
    with_tables.rows("DELETE FROM work_result")
    with_tables.log_file.unlink(missing_ok=True)


@pytest.mark.slow
def test_another_worker_takes_over_the_jobs_of_a_killed_worker(work):
    """Kill a worker that runs two pieces. See tests/test_killed.py for many kills during real jobs."""
    work.queue(60, step_seconds=0.1)
    victim, _ = [work.start("worker") for _ in range(2)]
    wait_until(lambda: victim.pid in {process for _, process in work.results()})
    time.sleep(random.random() * 0.3)
    victim.kill()
    assert victim.wait(10) == -signal.SIGKILL
    wait_until(lambda: work.done() == 60)
    pieces_done = [piece for piece, _ in work.results()]
    assert pieces_done == sorted(set(pieces_done))
    assert len(pieces_done) == 60
    assert work.value("SELECT count(*) FROM work_piece WHERE attempts > 1") > 0  # else no job was interrupted


@pytest.mark.slow
def test_two_workers_share_the_work(work):
    work.queue(100, step_seconds=0.01)
    workers = [work.start("worker") for _ in range(2)]
    wait_until(lambda: work.done() == 100)
    results = work.results()
    assert len({piece for piece, _ in results}) == len(results) == 100
    assert {process for _, process in results} == {worker.pid for worker in workers}
    assert work.rows("SELECT DISTINCT attempts FROM work_piece") == [(1,)]


@pytest.mark.slow
@on_sqlite
def test_heartbeats_extend_the_lease_of_a_long_job(work):
    work.queue(2, step_seconds=0.6)  # three steps take 1.8 s, and the lease lasts 1.5 s
    for _ in range(2):
        work.start("worker")
    wait_until(lambda: work.done() == 2)
    assert work.rows("SELECT DISTINCT attempts FROM work_piece") == [(1,)]


@pytest.mark.slow
def test_a_suspended_worker_cannot_finish_a_job_that_another_took_over(work):
    """Suspend a worker, like a machine that goes to sleep, until its lease has expired."""
    work.queue(1, step_seconds=0.5)
    sleeper = work.start("worker")
    wait_until(lambda: work.value("SELECT attempts FROM work_piece") == 1)
    sleeper.send_signal(signal.SIGSTOP)
    other = work.start("worker")
    wait_until(lambda: work.done() == 1)
    sleeper.send_signal(signal.SIGCONT)
    wait_until(lambda: "is no longer held by this worker" in work.log_file.read_text())
    assert [process for _, process in work.results()] == [other.pid]


@pytest.mark.slow
@on_sqlite
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_current_job_and_starts_no_other(work, number):
    work.queue(20, step_seconds=0.5)
    worker = work.start("worker")
    wait_until(lambda: work.value("SELECT max(attempts) FROM work_piece") == 1)
    worker.send_signal(number)
    assert worker.wait(60) == 0
    assert "Traceback" not in work.log_file.read_text()
    assert work.rows("SELECT DISTINCT state FROM work_piece WHERE attempts > 0") == [("done",)]
    assert 0 < work.done() < 20


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_of_serve_finishes_the_current_job(work, number):
    """Signal all processes, as Ctrl-C and systemd do: the worker then also gets SIGTERM from `serve`."""
    work.queue(1, step_seconds=0.5)
    server = work.start("serve", "--port", str(free_port()))
    wait_until(lambda: work.value("SELECT max(attempts) FROM work_piece") == 1)
    for pid in [*forks_of(server.pid, "worker"), *forks_of(server.pid, "server"), server.pid]:
        os.kill(pid, number)
    assert server.wait(30) == 0
    assert work.done() == 1
    assert "Traceback" not in work.log_file.read_text()


@pytest.mark.slow
@on_sqlite
def test_a_job_that_does_not_end_does_not_hold_the_stop(work):
    work.queue(1, step_seconds=300)
    work.variables["SHUTDOWN_TIMEOUT"] = "1"
    worker = work.start("worker")
    del work.variables["SHUTDOWN_TIMEOUT"]
    wait_until(lambda: work.value("SELECT max(attempts) FROM work_piece") == 1)
    worker.terminate()
    assert worker.wait(10) == 1
    assert "will be done again" in work.log_file.read_text()


@pytest.mark.slow
@on_sqlite
def test_ctrl_c_does_not_reach_what_a_job_starts(work):
    """Such as the process that reads an upload: the terminal sends SIGINT to the whole session."""
    server = work.start("serve", "--port", str(free_port()))
    wait_until(lambda: forks_of(server.pid, "worker") != [])
    (worker,) = forks_of(server.pid, "worker")
    assert os.getsid(worker) == worker != os.getsid(server.pid)


@pytest.mark.slow
@on_sqlite
def test_a_job_of_a_killed_server_does_not_keep_the_port(work):
    port = free_port()
    work.queue(1, step_seconds=1)
    server = work.start("serve", "--port", str(port))
    wait_until(lambda: work.value("SELECT max(attempts) FROM work_piece") == 1)
    wait_until(lambda: answers(f"http://127.0.0.1:{port}"))
    (worker,) = forks_of(server.pid, "worker")
    server.kill()
    server.wait()

    def is_free() -> bool:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return True
        return False

    wait_until(is_free, 2)
    assert Path(f"/proc/{worker}").exists()  # it finishes its job
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), 15)
    assert work.done() == 1


@on_sqlite
def test_a_failing_job_does_not_block_the_others(work):
    work.queue(1, fails=True)
    work.queue(3)
    work.start("worker")
    wait_until(lambda: work.done() == 3)
    assert "this piece cannot be done" in work.log_file.read_text()


@pytest.mark.slow
def test_serve_restarts_a_killed_worker(tmp_path):
    port = free_port()

    def started(*arguments: str) -> "subprocess.Popen[bytes]":
        process = installation.start("serve", "--port", str(port), *arguments)
        wait_until(lambda: answers(f"http://127.0.0.1:{port}"))
        return process

    with Installation.new(tmp_path) as installation:
        server = started()
        (worker,) = forks_of(server.pid, "worker")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: forks_of(server.pid, "worker") not in ([], [worker]))
        (worker,) = forks_of(server.pid, "worker")
        server.terminate()
        assert server.wait(30) == 0
        assert not Path(f"/proc/{worker}").exists()
        server = started("--no-worker")
        assert forks_of(server.pid, "worker") == []
        server.terminate()
        assert server.wait(30) == 0
