"""Our own outgoing calls: which addresses they may go to, how long they may take, how much they may bring back.

Calls of LLM providers are not among them; those go through their SDKs: see providers/http_client.py.
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

SILENT_SECONDS = 30.0  # without a single byte, after which a server is given up
ATTEMPTS = 4  # of an idempotent call
FIRST_WAIT, LAST_WAIT = 0.25, 1.0  # seconds before the next attempt, where the server names none
LONGEST_WAIT = 20.0  # seconds between two tries, whatever Retry-After says
WORTH_ANOTHER_TRY = {429, 502, 503}
CONNECTIONS = 16
READ_AT_ONCE = 64 * 1024
USER_AGENT = "puffer"


class NoAnswer(Exception):
    """Nothing usable came back. Its text goes on from the server's name; `timed_out` tells the two kinds apart."""

    def __init__(self, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


class Interrupted(NoAnswer):
    """The connection broke after it was there: the call may be tried again if doing it twice does no harm."""

    retry_after = None


class Busy(Exception):
    def __init__(self, answer: "Answer") -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer
        self.retry_after = answer.retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """What an outside server sent, whatever its status. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises NoAnswer if it is none."""
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
        """None is followed by requests. Even when told not to, it would read the whole body of one, however large."""
        return


class RestSession:
    """LiveCache connections to one server, for several threads at once. Follows no redirect and keeps no cookie."""

    def __init__(self, base_url: str, headers: Mapping[str, str], total_seconds: float) -> None:
        self.base_url = base_url.rstrip("/")
        self.total_seconds = total_seconds
        self.session = Session()
        self.session.trust_env = False  # a ~/.netrc is none of its business; proxies are:
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
        """The answer, of whatever status. `body` goes out as JSON, numpy arrays as lists.

        An idempotent call is tried again on 429, 502, 503 and a broken connection. Takes at most `total_seconds`, and
        half a minute more if a server falls silent at the very end. Raises NoAnswer.
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
        raise AssertionError("the last try either returns or raises")

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
        if answer.status in WORTH_ANOTHER_TRY:
            raise Busy(answer)
        return answer


def wait_after(trouble: Busy | Interrupted, attempt: int) -> float | None:
    """Return the seconds before the next attempt; None if the server asks for a longer wait than a call may take."""
    if trouble.retry_after is None:
        return backoff(attempt, FIRST_WAIT, LAST_WAIT, jitter=0.5)
    return trouble.retry_after if trouble.retry_after <= LONGEST_WAIT else None


def read_answer(response: requests.Response, deadline: float, max_bytes: int) -> Answer:
    body = bytearray()
    # read1() gives what has come, so that a server which sends a byte now and then is stopped at the deadline too.
    while chunk := response.raw.read1(READ_AT_ONCE, decode_content=True):
        body += chunk
        if len(body) > max_bytes:
            raise NoAnswer(f"sent an answer that is larger than {max_bytes} bytes.")
        if time.monotonic() > deadline:
            raise NoAnswer("did not finish its answer in time.", timed_out=True)
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, bytes(body))


@contextmanager
def no_answer_errors() -> Iterator[None]:
    """Whatever the HTTP client raises leaves as NoAnswer, without the URL, which may hold what nobody should read.

    Until the body is read it raises what requests has, and from then on what urllib3 has.
    """
    try:
        yield
    except (requests.exceptions.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise NoAnswer("did not answer in time.", timed_out=True) from error
    except urllib3.exceptions.ProtocolError as error:
        raise Interrupted("broke off its answer.") from error
    except urllib3.exceptions.DecodeError as error:
        raise NoAnswer("sent an answer that cannot be decoded.") from error
    except requests.exceptions.SSLError as error:
        raise NoAnswer("has no certificate that is trusted here.") from error
    except requests.exceptions.ConnectionError as error:
        if error.args and isinstance(error.args[0], urllib3.exceptions.ProtocolError):
            raise Interrupted("closed the connection.") from error
        raise NoAnswer("cannot be reached.") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError, OSError) as error:
        raise NoAnswer("cannot be reached.") from error
