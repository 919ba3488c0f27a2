"""The ASGI application: API calls go to ApiHandler, everything else to Django."""

import asyncio
import gc
import os
import re
import warnings
from urllib.parse import parse_qs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "puffer.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.utils.module_loading import import_string

django_application = get_asgi_application()

from puffer.api.handler import ApiHandler, Receive, Scope, Send  # noqa: E402
from puffer.http import health_checks, seconds_to_wait  # noqa: E402
from puffer.http.pages import client_of, page  # noqa: E402
from puffer.runtime import health, startup  # noqa: E402
from puffer.runtime.event_loop import set_server_loop  # noqa: E402

# WhiteNoise streams files with synchronous iterators, which Django reads in a thread. That is intended.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

api_handler = ApiHandler()
API_ROOT = "/wp-json"
API_PATH = re.compile(r"/+(?:index\.php/+)?wp-json(/.*)?\Z", re.IGNORECASE | re.DOTALL)
SLASHES = re.compile("/+")
MAX_FIELDS = 1000  # in a query, as Django has it
ROOT = settings.FORCE_SCRIPT_NAME or ""


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    scope = {**scope, "path": path_below_root(scope["path"])}
    if scope["type"] == "http" and (path := api_path(scope)):
        # WordPress matches routes in any letter case and with or without a slash at the end.
        path = path.rstrip("/").lower() or API_ROOT
        await api_handler({**scope, "path": path, "raw_path": path.encode()}, receive, send)
    elif scope["type"] == "http" and scope["path"] in health.PATHS:
        is_cheap = scope["path"] == health.LIVE
        wait = "" if is_cheap else seconds_to_wait(health_checks, client_of(scope))
        await health.answer(scope["path"], send, wait)
    elif scope["type"] == "http":
        await page(django_application, scope, receive, send)


def path_below_root(path: str) -> str:
    """Return the path without settings.FORCE_SCRIPT_NAME, which some proxies remove and others do not."""
    is_below = path == ROOT or path.startswith(f"{ROOT}/")
    return path[len(ROOT) :] or "/" if is_below else path


def api_path(scope: Scope) -> str | None:
    """Return the path below /wp-json/ that is asked for, in any spelling that WordPress takes, or None.

    /wp-json/aipkit/v1/logs, /index.php/wp-json/aipkit/v1/logs, /?rest_route=/aipkit/v1/logs; also with more slashes.
    """
    path = scope["path"]
    if found := API_PATH.match(path):
        return f"{API_ROOT}/{SLASHES.sub('/', found[1] or '').lstrip('/')}"
    if path in ("/", "/index.php") and b"rest_route=" in scope["query_string"]:
        try:
            routes = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=MAX_FIELDS).get("rest_route")
        except ValueError:  # the API says so
            return f"{API_ROOT}/"
        return f"{API_ROOT}/{SLASHES.sub('/', routes[-1]).lstrip('/')}" if routes else None
    return None


async def lifespan(receive: Receive, send: Send) -> None:
    """Set up the event loop and begin settings.AT_STARTUP; run settings.AT_SHUTDOWN when the server stops."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            # Exclude the loaded objects from garbage collection: they stay, and scanning them stops requests for 0.2 s.
            set_server_loop(asyncio.get_running_loop())
            gc.collect()
            gc.freeze()
            startup.begin()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            for path in settings.AT_SHUTDOWN:
                await import_string(path)()
            set_server_loop(None)
            await send({"type": "lifespan.shutdown.complete"})
            return
