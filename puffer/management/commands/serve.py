import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
from argparse import ArgumentParser
from importlib import import_module
from typing import Any

import uvicorn
from django.conf import settings
from django.core.checks import Tags, run_checks
from django.core.management.base import BaseCommand, CommandError
from django.urls import get_resolver
from django.utils.module_loading import import_string

from puffer.http.connections import HttpProtocol, allow_open_files, close_late_connections
from puffer.management.commands import worker
from puffer.runtime.postgresql.base import DatabaseWrapper
from puffer.runtime.server import Heartbeat, Supervisor, Task

FIRST_FD_OF_SYSTEMD = 3
BACKLOG = 2048  # connections that wait to be accepted
WORKER_STOP_SECONDS = 10  # a job that takes longer is done again later
CLEANUP_SECONDS = 5  # of SHUTDOWN_TIMEOUT: for what a server writes after its last response
HALF_SENT_SECONDS = 5  # that a client has after SIGTERM to send the rest of a request
IDLE_SECONDS = 1  # after SIGTERM, in which a connection without a request may still begin one

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    requires_system_checks: list[str] = []
    help = "Serve puffer: API, admin and static files. On SIGTERM it finishes running requests, then exits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="the port to listen on (default: 8000)")
        parser.add_argument("--workers", type=int, default=1, help="server processes (default: 1)")
        parser.add_argument(
            "--no-worker", action="store_true", help="do not start a worker: run `manage.py worker` yourself"
        )

    def handle(self, *, host: str, port: int, workers: int, no_worker: bool, **options: Any) -> None:
        check_security()
        for number in (signal.SIGTERM, signal.SIGINT):  # exit the blocks below, so that they stop what they started
            signal.signal(number, lambda *_: sys.exit(0))
        worker.require_migrations()
        with listening(host, port) as listener, contextlib.ExitStack() as alongside:
            for path in settings.RUN_WITH_SERVER:
                alongside.enter_context(import_string(path)())
            config = uvicorn.Config(
                "puffer.asgi:application",
                http=HttpProtocol,
                ws="none",
                backlog=BACKLOG,
                log_config=None,  # Django's LOGGING configures uvicorn's loggers too
                access_log=False,  # puffer logs requests itself, without query strings
                server_header=False,
                proxy_headers=False,  # client_ip() reads them and respects TRUSTED_PROXY_COUNT
                timeout_keep_alive=75,  # longer than proxies keep idle connections, so that the proxy closes first
                timeout_graceful_shutdown=max(1, settings.SHUTDOWN_TIMEOUT - CLEANUP_SECONDS),
            )
            allow_open_files()
            load(config)

            def run_server(heartbeat: Heartbeat) -> None:
                DatabaseWrapper.statement_seconds = settings.DATABASE_TIMEOUT  # jobs and commands may take longer
                Server(config, heartbeat).run([listener])

            def run_worker(heartbeat: Heartbeat) -> None:
                listener.close()  # only a process that accepts connections may keep the port open
                worker.work(worker.jobs(), heartbeat)

            # A server whose event loop hangs exits by itself and logs where; the supervisor kills those that cannot.
            hung_after = settings.EVENT_LOOP_TIMEOUT + 2
            tasks = workers * [Task("server", run_server, settings.SHUTDOWN_TIMEOUT, hung_after)]
            if not no_worker:
                tasks.append(Task("worker", run_worker, WORKER_STOP_SECONDS, hung_after))
            # While the last requests are finished, new connections are refused, and another server can have the port.
            Supervisor(tasks, before_stop=listener.close).run()


def check_security() -> None:
    """Log the warnings of the security checks as JSON lines, like all output. Raise CommandError for an error."""
    for found in run_checks(tags=[Tags.security]):
        if found.is_serious():
            raise CommandError(str(found))
        logger.warning("%s", found)


def load(config: uvicorn.Config) -> None:
    """Load the application and its views before forking, so that the processes share the memory."""
    config.load()
    get_resolver().url_patterns  # noqa: B018  loads every view
    for name in settings.LOADED_BEFORE_SERVING:
        import_module(name)


class Server(uvicorn.Server):
    """uvicorn's server, in a process that sends heartbeats and that exits when its event loop hangs."""

    def __init__(self, config: uvicorn.Config, heartbeat: Heartbeat) -> None:
        super().__init__(config)
        self.heartbeat = heartbeat

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        tasks = [
            asyncio.create_task(self.beat_until_loop_hangs()),
            asyncio.create_task(close_late_connections(self.server_state.connections)),
        ]
        await super().serve(sockets)
        for task in tasks:
            task.cancel()

    async def beat_until_loop_hangs(self) -> None:
        """Postpone the exit of this process as long as the event loop runs. The exit logs where each thread was."""
        while True:
            self.heartbeat()
            faulthandler.dump_traceback_later(settings.EVENT_LOOP_TIMEOUT, exit=True)
            await asyncio.sleep(1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new connections, let the clients that are connected send their requests, and finish these."""
        waiting = [connection for listener in sockets or [] for connection in accept_waiting(listener)]
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self.new_protocol, connection)
        if self.server_state.connections:
            self.server_state.default_headers.append((b"connection", b"close"))
            await asyncio.sleep(IDLE_SECONDS)
        dropping = asyncio.create_task(self.drop_half_sent_requests())
        await super().shutdown(sockets)
        dropping.cancel()

    def new_protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def drop_half_sent_requests(self) -> None:
        await asyncio.sleep(HALF_SENT_SECONDS - IDLE_SECONDS)
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and cycle.more_body and not cycle.response_complete:
                connection.transport.close()


def accept_waiting(listener: socket.socket) -> list[socket.socket]:
    """Return the connections that wait to be accepted. Their clients would be refused in the middle of a request."""
    waiting = []
    with contextlib.suppress(OSError):  # BlockingIOError when there are no more
        while True:
            waiting.append(listener.accept()[0])
    return waiting


def listening(host: str, port: int) -> socket.socket:
    """Return the socket that systemd hands over, or open one before anything else starts.

    Raise CommandError if the address is taken or not ours. Source: the manual page sd_listen_fds(3).
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=FIRST_FD_OF_SYSTEMD)
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
    except OSError as error:
        raise CommandError(f"Cannot listen on {host}:{port} ({error.strerror}). Choose another port.") from None
