"""The ASGI application: the API on its short path, everything else on Django's."""

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
from puffer.http.pages import page  # noqa: E402
from puffer.runtime.event_loop import set_server_loop  # noqa: E402

# WhiteNoise hands files over piece by piece, and Django reads those in a thread: as it should be.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

api_handler = ApiHandler()
API_ROOT = "/wp-json"
MAX_FIELDS = 1000  # in a query, as Django has it


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http" and (path := api_path(scope)):
        # WordPress matches routes in any letter case and with or without a slash at the end.
        path = path.rstrip("/").lower() or API_ROOT
        await api_handler({**scope, "path": path, "raw_path": path.encode()}, receive, send)
    elif scope["type"] == "http":
        await page(django_application, scope, receive, send)


def api_path(scope: Scope) -> str | None:
    """The path below /wp-json/ that is asked for, also when it is spelled `/?rest_route=/aipkit/v1/logs`."""
    path = scope["path"]
    if path[: len(API_ROOT)].lower() == API_ROOT and path[len(API_ROOT) : len(API_ROOT) + 1] in ("", "/"):
        return path
    if path in ("/", "/index.php") and b"rest_route=" in scope["query_string"]:
        try:
            routes = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=MAX_FIELDS).get("rest_route")
        except ValueError:  # the API says so
            return f"{API_ROOT}/"
        return f"{API_ROOT}/{routes[-1].lstrip('/')}" if routes else None
    return None


async def lifespan(receive: Receive, send: Send) -> None:
    """What must end in order when the server stops is named in settings.AT_SHUTDOWN."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            # What is loaded by now stays for good; to look through it for garbage stops all requests for 0.2 s.
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
