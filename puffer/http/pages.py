"""Answer requests for Django's pages, within limits of size and rate, and in separate threads.

Public pages, the sign-in page, the admin and the health checks have their own threads, so that none waits for another.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, parse_cookie
from django.template.loader import render_to_string
from django.urls import set_script_prefix
from django.utils import translation

from puffer.http.bodies import SMALL_BODY, Body, BodyTooLarge, Receive
from puffer.http.head import InvalidHead, check_head
from puffer.http.rates import RateLimit
from puffer.http.strangers import public_files, public_requests, seconds_to_wait
from puffer.net import network_of, seen_ip
from puffer.runtime.database_threads import (
    DatabaseThreads,
    admin_threads,
    public_threads,
    sign_in_threads,
)
from puffer.security.admin_sessions import SessionStore

Scope = dict[str, Any]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

ADMIN, SIGN_IN = "/admin/", "/admin/login/"
FILES = ("/static/", "/embed.js", "/widget/", "/media/")
ERROR_POLICY = b"default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
UPLOADS_AT_ONCE = 10  # times MAX_UPLOAD_BYTES, in one request of a signed-in user
MAX_WAITING_SIGN_INS = 20  # each takes up to a second of a processor
sign_ins = RateLimit(30)  # per minute and network, counted before a password is hashed
_waiting = 0


class Refusal(Exception):
    """The answer to a request that is refused before any page runs."""

    def __init__(self, status: int, message: str, retry_after: str = "") -> None:
        self.status, self.message, self.retry_after = status, message, retry_after
        super().__init__(message)


async def page(application: ASGIHandler, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request for one of Django's pages."""
    limit = public_files if scope["path"].startswith(FILES) else public_requests
    if wait := seconds_to_wait(limit, client_of(scope)):
        await send_too_many(scope, send, wait)
        return
    threads_for(scope["path"]).assign_one()
    try:
        scope = check_head(scope)
        body = Body(scope, receive)
        if scope["path"] == SIGN_IN and scope["method"] == "POST":
            await sign_in(application, scope, body, send)
        else:
            await application.handle(with_root(scope), await receiver(scope, body), send)
    except InvalidHead as error:
        await send_text(send, error.status, error.message)
    except BodyTooLarge as error:
        await send_text(send, 413, str(error))
    except Refusal as refusal:
        await send_text(send, refusal.status, refusal.message, refusal.retry_after)


def with_root(scope: Scope) -> Scope:
    """Return the scope with the path as visitors see it, which Django expects."""
    return {**scope, "path": f"{settings.FORCE_SCRIPT_NAME or ''}{scope['path']}"}


def threads_for(path: str) -> DatabaseThreads:
    if path == SIGN_IN:
        return sign_in_threads
    return admin_threads if path.startswith(ADMIN) else public_threads


async def receiver(scope: Scope, body: Body) -> Receive:
    """Return how a page receives the body. Only signed-in users may send a large one."""
    if not body.is_chunked and body.declared <= SMALL_BODY:
        return body.limited(SMALL_BODY)
    is_known = await sync_to_async(is_signed_in)(scope)
    return body.limited(largest_body() if is_known else SMALL_BODY)


def largest_body() -> int:
    """Return the bytes of the largest body that is read at all: that of a page or of an API call."""
    return max(UPLOADS_AT_ONCE * settings.MAX_UPLOAD_BYTES, settings.MAX_REQUEST_BYTES)


def is_signed_in(scope: Scope) -> bool:
    session_key = parse_cookie(header(scope, b"cookie", "; ")).get(settings.SESSION_COOKIE_NAME)
    return bool(session_key) and SESSION_KEY in SessionStore(session_key)


def client_of(scope: Scope) -> str:
    address, _port = scope.get("client") or ("", 0)
    return seen_ip(address, header(scope, b"x-forwarded-for", ","))


def header(scope: Scope, wanted: bytes, separator: str) -> str:
    return separator.join(value.decode("latin-1") for name, value in scope["headers"] if name == wanted)


async def sign_in(application: ASGIHandler, scope: Scope, body: Body, send: Send) -> None:
    """Let Django check a password. Raise Refusal if the network, or all clients together, try too many."""
    global _waiting
    if not sign_ins.allows(network_of(client_of(scope))):
        raise Refusal(429, "Too many sign-ins from your network. Try again in a minute.", sign_ins.retry_after())
    if _waiting >= MAX_WAITING_SIGN_INS:
        raise Refusal(503, "Too many sign-ins are being checked. Try again in a moment.", "10")
    _waiting += 1
    try:
        await application.handle(with_root(scope), body.limited(SMALL_BODY), send)
    finally:
        _waiting -= 1


async def send_too_many(scope: Scope, send: Send, retry_after: str) -> None:
    """Answer 429: with a page where a browser shows one, else with a line of text."""
    if scope["path"].startswith(FILES) or "text/html" not in header(scope, b"accept", ",")[:300]:
        await send_text(send, 429, "Too many requests from your network. Try again in a minute.", retry_after)
        return
    content = too_many_page(language_of(scope))
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
        (b"content-security-policy", ERROR_POLICY),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"retry-after", retry_after.encode()),
    ]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def language_of(scope: Scope) -> str:
    """Return the browser's language for the admin, else LANGUAGE_CODE."""
    if not scope["path"].startswith(ADMIN):
        return settings.LANGUAGE_CODE
    request = HttpRequest()
    request.META["HTTP_ACCEPT_LANGUAGE"] = header(scope, b"accept-language", ",")[:300]
    return translation.get_language_from_request(request)


@cache
def too_many_page(language: str) -> bytes:
    set_script_prefix(settings.ROOT_PATH)
    with translation.override(language):
        return render_to_string("429.html").encode()


async def send_text(send: Send, status: int, message: str, retry_after: str = "") -> None:
    content = f"{message}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    if retry_after:
        headers.append((b"retry-after", retry_after.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
