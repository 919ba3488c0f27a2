import contextlib
import signal
import socket
import sys
from argparse import ArgumentParser
from functools import partial
from importlib import import_module
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import get_resolver
from django.utils.module_loading import import_string

from puffer.management.commands import worker
from puffer.runtime.server import Forks, Work

BACKLOG = 2048  # connections that wait to be accepted
SECONDS_TO_END = 10  # for the worker: what it is doing is done again later


class Command(BaseCommand):
    requires_system_checks: list[str] = []
    help = "Serve puffer: API, admin and static files. On SIGTERM running requests are finished first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="the port to listen on (default: 8000)")
        parser.add_argument("--workers", type=int, default=1, help="processes that answer (default: 1)")
        parser.add_argument(
            "--no-worker", action="store_true", help="do not run `manage.py worker` beside it, which sends webhooks"
        )

    def handle(self, *, host: str, port: int, workers: int, no_worker: bool, **options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what runs beside it ends, too
        with listening(host, port) as listener, contextlib.ExitStack() as beside:
            for path in settings.RUN_BESIDE_SERVER:
                beside.enter_context(import_string(path)())
            config = uvicorn.Config(
                "puffer.asgi:application",
                ws="none",
                backlog=BACKLOG,
                log_config=None,  # Django's LOGGING holds for its loggers too
                access_log=False,  # puffer writes its own lines, which never hold a query string
                server_header=False,
                proxy_headers=False,  # client_ip() reads them, as far as TRUSTED_PROXY_COUNT allows
                timeout_keep_alive=75,  # longer than a proxy in front keeps idle connections, lest it meet a closed one
                timeout_graceful_shutdown=max(settings.COMPLETION_TIMEOUT, settings.IMAGE_TIMEOUT),
            )
            load(config)
            works = workers * [Work("server", partial(answer, config, listener))]  # uvicorn limits the seconds itself
            if not no_worker:
                works.append(Work("worker", partial(worker.work, worker.jobs()), SECONDS_TO_END))
            Forks(works).run()


def load(config: uvicorn.Config) -> None:
    """All that the servers will need, for they share what is there before they are forked."""
    config.load()
    get_resolver().url_patterns  # noqa: B018  loads every view
    for name in settings.LOADED_BEFORE_SERVING:
        import_module(name)


def answer(config: uvicorn.Config, listener: socket.socket) -> None:
    uvicorn.Server(config).run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """Raises CommandError where that can't be, now and not after everything else has started."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
    except OSError as error:
        raise CommandError(f"Cannot listen on {host}:{port} ({error.strerror}). Choose another port.") from None
