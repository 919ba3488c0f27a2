"""Fetch web pages from untrusted URLs without reaching into the server's own network (SSRF protection)."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from django.conf import settings
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from w3lib.encoding import http_content_type_encoding

from puffer.net.addresses import may_connect
from puffer.net.rest_session import SILENT_SECONDS, USER_AGENT, NoAnswer, Session, no_answer_errors, read_answer

MAX_REDIRECTS = 5
TOTAL_SECONDS = 60.0  # for a page with all its redirects


@dataclass(frozen=True, slots=True)
class Page:
    """A fetched page. `url` is the address after all redirects, `charset` the declared one as a codec, if known.

    The names of `headers` are lower case.
    """

    url: str
    status: int
    media_type: str
    charset: str | None
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def fetch(url: str, *, max_bytes: int | None = None, headers: Mapping[str, str] | None = None) -> Page:
    """Return the page at a public address, or at one in PRIVATE_HOST_ALLOWLIST, whatever its status.

    Every redirect is checked like the first address. `headers` are sent in addition to ours. Raise NoAnswer.
    """
    deadline = time.monotonic() + TOTAL_SECONDS
    adapter = GuardedAdapter()
    with Session() as session, adapter.cut_off_after(TOTAL_SECONDS + SILENT_SECONDS):
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        for _ in range(MAX_REDIRECTS + 1):
            check_address(url)
            with (
                no_answer_errors(),
                session.get(
                    url,
                    headers={"User-Agent": crawler_name(), **(headers or {})},
                    timeout=(settings.CONNECT_TIMEOUT, SILENT_SECONDS),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                if not response.is_redirect:
                    answer = read_answer(response, deadline, max_bytes or settings.MAX_ANSWER_BYTES)
                    content_type = answer.headers.get("content-type", "")
                    media_type = content_type.partition(";")[0].strip().lower()
                    charset = http_content_type_encoding(content_type)
                    return Page(url, answer.status, media_type, charset, answer.body, answer.headers)
                location = response.headers["location"]
            url = redirected(url, location)
    raise NoAnswer("redirects too often.")


def crawler_name() -> str:
    """Return our name for the logs of other sites, with the address of this server where it has a public one."""
    return f"{USER_AGENT} (+{settings.PUBLIC_URL})" if settings.PUBLIC_URL else USER_AGENT


def redirected(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise NoAnswer("redirects to an invalid address.") from None


def check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        allowed = parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.password)
    except ValueError:
        allowed = False
    if not allowed:
        raise NoAnswer("has an address that is not a valid http or https URL.")


class GuardedAdapter(HTTPAdapter):
    """An adapter that checks the address of each connection before it sends anything.

    Checking the host name is not enough: a public name may resolve to a private address, or to another one next time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reached: list[socket.socket] = []
        reached = self.reached

        class Guard(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                connection = super()._new_conn()
                if not may_connect(self.host, self.port, connection.getpeername()[0]):
                    connection.close()
                    raise NoAnswer("has no public address. To allow it, add its host to PRIVATE_HOST_ALLOWLIST.")
                reached.append(connection.dup())
                return connection

        class TlsGuard(Guard, HTTPSConnection):
            pass

        class Pool(HTTPConnectionPool):
            ConnectionCls = Guard

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = TlsGuard

        self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}

    @contextlib.contextmanager
    def cut_off_after(self, seconds: float) -> Iterator[None]:
        """Close all connections after `seconds`: no other limit applies to slow headers."""
        timer = threading.Timer(seconds, self.cut_off)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            for connection in self.reached:
                connection.close()
            self.reached.clear()

    def cut_off(self) -> None:
        for connection in list(self.reached):
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
