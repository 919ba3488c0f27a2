import asyncio
import contextlib
import faulthandler
import logging
import signal
import socket
import sys
from argparse import ArgumentParser
from functools import partial
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
from puffer.runtime.server import Supervisor, Task

BACKLOG = 2048  # connections that wait to be accepted
WORKER_STOP_SECONDS = 10  # a job that takes longer is run again later

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
                timeout_graceful_shutdown=max(settings.COMPLETION_TIMEOUT, settings.IMAGE_TIMEOUT),
            )
            allow_open_files()
            load(config)
            server = Task("server", partial(Server(config).run, [listener]))  # uvicorn limits how long it takes to stop
            tasks = workers * [server]
            if not no_worker:
                tasks.append(Task("worker", partial(worker.work, worker.jobs()), WORKER_STOP_SECONDS))
            Supervisor(tasks).run()


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
    """uvicorn's server. Its process exits when the event loop hangs."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        tasks = [
            asyncio.create_task(exit_when_loop_hangs()),
            asyncio.create_task(close_late_connections(self.server_state.connections)),
        ]
        await super().serve(sockets)
        for task in tasks:
            task.cancel()


async def exit_when_loop_hangs() -> None:
    """Exit the process and log each thread's traceback once the event loop has hung for EVENT_LOOP_TIMEOUT seconds."""
    while True:
        faulthandler.dump_traceback_later(settings.EVENT_LOOP_TIMEOUT, exit=True)
        await asyncio.sleep(1)


def listening(host: str, port: int) -> socket.socket:
    """Open the socket. Raise CommandError if the address is in use or does not belong to this machine."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
    except OSError as error:
        raise CommandError(f"Cannot listen on {host}:{port} ({error.strerror}). Choose another port.") from None
