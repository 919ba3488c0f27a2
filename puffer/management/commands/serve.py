import contextlib
import signal
import socket
import sys
from argparse import ArgumentParser
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.log import configure_logging
from django.utils.module_loading import import_string

WORKER = "puffer.beside_server.worker"


class Command(BaseCommand):
    requires_system_checks: list[str] = []
    help = "Serve puffer: API, admin and static files. On SIGTERM running requests are finished first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="the port to listen on (default: 8000)")
        parser.add_argument("--workers", type=int, default=1, help="worker processes (default: 1)")
        parser.add_argument(
            "--no-worker", action="store_true", help="do not run `manage.py worker` beside it, which sends webhooks"
        )

    def handle(self, *, host: str, port: int, workers: int, no_worker: bool, **options: Any) -> None:
        configure_logging(
            "logging.config.dictConfig", settings.LOGGING
        )  # Django's setup may not have run: see manage.py
        refuse_taken_port(host, port)
        # uvicorn sends itself the signal again when it has stopped in order: then what runs beside it must end too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with contextlib.ExitStack() as beside:
            for path in settings.RUN_BESIDE_SERVER:
                if no_worker and path == WORKER:
                    continue
                beside.enter_context(import_string(path)())
            uvicorn.run(
                "puffer.asgi:application",
                host=host,
                port=port,
                workers=workers,
                log_config=None,  # Django's LOGGING holds for its loggers too
                access_log=False,  # puffer writes its own lines, which never hold a query string
                server_header=False,
                proxy_headers=False,  # client_ip() reads them, as far as TRUSTED_PROXY_COUNT allows
                timeout_keep_alive=75,  # longer than a proxy in front keeps idle connections, lest it meet a closed one
                timeout_graceful_shutdown=max(settings.COMPLETION_TIMEOUT, settings.IMAGE_TIMEOUT),
            )


def refuse_taken_port(host: str, port: int) -> None:
    """Say so now, in words, instead of after everything else has started."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise CommandError(f"Cannot listen on {host}:{port} ({error.strerror}). Choose another port.") from None
