"""The Retry-After header of other servers. Source: RFC 9110, section 10.2.3: a number of seconds or an HTTP date.

Some servers send a fraction of a second, which the RFC does not know.
"""

import math
import re
import time
from email.utils import parsedate_to_datetime

MAX_LENGTH = 40  # characters; a longer value is not passed on
SECONDS = re.compile(r"\d+(\.\d*)?|\.\d+", re.ASCII)


def parse_retry_after(value: str) -> float | None:
    """Return the seconds to wait, or None if the value is neither a number nor a date."""
    value = value.strip()
    if SECONDS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def retry_after_headers(status: int, value: str) -> dict[str, str]:
    """Return the header for our own answer: the server's valid value with a 429 or 503, otherwise none.

    A fraction becomes the next whole number, because clients read no other.
    """
    is_safe = value.isascii() and value.isprintable() and len(value) <= MAX_LENGTH
    seconds = parse_retry_after(value) if is_safe and status in (429, 503) else None
    if seconds is None:
        return {}
    return {"Retry-After": str(math.ceil(seconds)) if SECONDS.fullmatch(value.strip()) else value}
