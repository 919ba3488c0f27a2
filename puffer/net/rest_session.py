"""Outgoing REST calls with time limits, retries and a size limit.

Providers are called through their SDKs instead: see providers/http_client.py.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
import urllib3
from django.conf import settings
from requests.adapters import HTTPAdapter

from puffer.net.addresses import is_loopback
from puffer.net.retry_after import parse_retry_after
from puffer.runtime import backoff

SILENT_SECONDS = 30.0  # without a single byte, after which a call fails
ATTEMPTS = 4  # of an idempotent call
FIRST_WAIT, LAST_WAIT = 0.25, 1.0  # seconds before the next attempt, unless the server sends Retry-After
LONGEST_WAIT = 20.0  # seconds; a longer Retry-After is not waited for
RETRY_STATUSES = {429, 502, 503}
CONNECTIONS = 16
READ_AT_ONCE = 64 * 1024
USER_AGENT = "puffer"


class NoAnswer(Exception):
    """A call without a usable answer. The message continues a sentence that starts with the server's name."""

    def __init__(self, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


class Interrupted(NoAnswer):
    """A call whose connection broke after it was established: an idempotent call may be retried."""

    retry_after = None


class Busy(Exception):
    """An answer with one of RETRY_STATUSES."""

    def __init__(self, answer: "Answer") -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer
        self.retry_after = answer.retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of another server, whatever its status. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body. Raise NoAnswer if it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise NoAnswer("sent an answer that is not JSON.") from None

    @property
    def retry_after(self) -> float | None:
        """Return the seconds to wait before the next attempt, or None if the server names none."""
        return parse_retry_after(self.headers.get("retry-after", ""))


class Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect: even with allow_redirects=False, requests would read the whole body of one."""
        return


class RestSession:
    """Persistent connections to one server, shared by threads, without redirects and cookies."""

    def __init__(self, base_url: str, headers: Mapping[str, str], total_seconds: float) -> None:
        self.base_url = base_url.rstrip("/")
        self.total_seconds = total_seconds
        self.session = Session()
        self.session.trust_env = False  # ignore ~/.netrc, but honor proxies:
        if not is_loopback(urlsplit(base_url).hostname or ""):
            self.session.proxies = requests.utils.get_environ_proxies(base_url)
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json", **headers})
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        idempotent: bool = True,
    ) -> Answer:
        """Return the answer, whatever its status. `body` is sent as JSON, numpy arrays as lists.

        An idempotent call is retried on RETRY_STATUSES and on a broken connection. It takes at most `total_seconds`,
        plus SILENT_SECONDS if the server falls silent at the very end. Raise NoAnswer.
        """
        deadline = time.monotonic() + self.total_seconds
        data = None if body is None else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        last = ATTEMPTS if idempotent else 1
        for attempt in range(1, last + 1):
            try:
                return self.try_once(method, self.base_url + path, data, params, deadline)
            except (Busy, Interrupted) as trouble:
                wait = wait_after(trouble, attempt) if attempt < last else None
                if wait is None or time.monotonic() + wait > deadline:
                    if isinstance(trouble, Busy):
                        return trouble.answer
                    raise
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def try_once(
        self, method: str, url: str, data: bytes | None, params: Mapping[str, Any] | None, deadline: float
    ) -> Answer:
        left = max(0.1, deadline - time.monotonic())
        with (
            no_answer_errors(),
            self.session.request(
                method,
                url,
                data=data,
                params=params,
                headers={"Content-Type": "application/json"} if data is not None else None,
                timeout=(min(settings.CONNECT_TIMEOUT, left), min(SILENT_SECONDS, left)),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            answer = read_answer(response, deadline, settings.MAX_ANSWER_BYTES)
        if answer.status in RETRY_STATUSES:
            raise Busy(answer)
        return answer


def wait_after(trouble: Busy | Interrupted, attempt: int) -> float | None:
    """Return the seconds before the next attempt; None if the server asks for a longer wait than a call may take."""
    if trouble.retry_after is None:
        return backoff(attempt, FIRST_WAIT, LAST_WAIT, jitter=0.5)
    return trouble.retry_after if trouble.retry_after <= LONGEST_WAIT else None


def read_answer(response: requests.Response, deadline: float, max_bytes: int) -> Answer:
    body = bytearray()
    # read1() returns the bytes that have arrived, so the deadline also stops a server that sends single bytes slowly.
    while chunk := response.raw.read1(READ_AT_ONCE, decode_content=True):
        body += chunk
        if len(body) > max_bytes:
            raise NoAnswer(f"sent an answer that is larger than {max_bytes} bytes.")
        if time.monotonic() > deadline:
            raise NoAnswer("did not finish its answer in time.", timed_out=True)
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, bytes(body))


@contextmanager
def no_answer_errors() -> Iterator[None]:
    """Convert the errors of the HTTP client to NoAnswer: those of requests, and of urllib3 while the body is read.

    The message leaves out the URL, which may contain secrets.
    """
    try:
        yield
    except (requests.exceptions.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise NoAnswer("did not answer in time.", timed_out=True) from error
    except urllib3.exceptions.ProtocolError as error:
        raise Interrupted("stopped in the middle of its answer.") from error
    except urllib3.exceptions.DecodeError as error:
        raise NoAnswer("sent an answer that cannot be decoded.") from error
    except requests.exceptions.SSLError as error:
        raise NoAnswer("has no trusted TLS certificate.") from error
    except requests.exceptions.ConnectionError as error:
        if error.args and isinstance(error.args[0], urllib3.exceptions.ProtocolError):
            raise Interrupted("closed the connection.") from error
        raise NoAnswer("cannot be reached.") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError, OSError) as error:
        raise NoAnswer("cannot be reached.") from error
