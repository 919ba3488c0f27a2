"""The ASGI application: API calls go to ApiHandler, everything else to Django."""

import asyncio
import gc
import os
import warnings
from urllib.parse import parse_qs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "puffer.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.utils.module_loading import import_string

django_application = get_asgi_application()

from puffer.api.handler import ApiHandler, Receive, Scope, Send  # noqa: E402
from puffer.runtime import health  # noqa: E402
from puffer.runtime.database_threads import page_threads  # noqa: E402
from puffer.runtime.event_loop import set_server_loop  # noqa: E402

# WhiteNoise streams files with synchronous iterators, which Django reads in a thread. That is intended.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

api_handler = ApiHandler()
API_ROOT = "/wp-json"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http" and (path := api_path(scope)):
        # WordPress matches routes in any letter case and with or without a slash at the end.
        path = path.rstrip("/").lower() or API_ROOT
        await api_handler({**scope, "path": path, "raw_path": path.encode()}, receive, send)
    elif scope["type"] == "http" and scope["path"] in health.PATHS:
        await health.answer(scope["path"], send)
    elif scope["type"] == "http":
        page_threads.assign_one()
        await django_application.handle(scope, receive, send)


def api_path(scope: Scope) -> str | None:
    """Return the path if it is below /wp-json/, also if it is written as `/?rest_route=/aipkit/v1/logs`."""
    path = scope["path"]
    if path[: len(API_ROOT)].lower() == API_ROOT and path[len(API_ROOT) : len(API_ROOT) + 1] in ("", "/"):
        return path
    if path in ("/", "/index.php") and b"rest_route=" in scope["query_string"]:
        routes = parse_qs(scope["query_string"].decode("latin-1")).get("rest_route")
        return f"{API_ROOT}/{routes[-1].lstrip('/')}" if routes else None
    return None


async def lifespan(receive: Receive, send: Send) -> None:
    """Set up the event loop at startup, and run settings.AT_SHUTDOWN when the server stops."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            # Exclude the loaded objects from garbage collection: they stay, and scanning them stops requests for 0.2 s.
            set_server_loop(asyncio.get_running_loop())
            gc.collect()
            gc.freeze()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            for path in settings.AT_SHUTDOWN:
                await import_string(path)()
            set_server_loop(None)
            await send({"type": "lifespan.shutdown.complete"})
            return
