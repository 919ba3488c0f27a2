"""The Retry-After header of other servers. Source: RFC 9110, section 10.2.3: a number of seconds or an HTTP date."""

import time
from email.utils import parsedate_to_datetime

MAX_LENGTH = 40  # characters; a longer value is not passed on


def parse_retry_after(value: str) -> float | None:
    """Return the seconds to wait, or None if the value is neither a number nor a date."""
    value = value.strip()
    try:
        return float(value) if value.isdigit() else max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def retry_after_headers(status: int, value: str) -> dict[str, str]:
    """Return the header for our own answer: the server's valid value with a 429 or 503, otherwise none."""
    is_safe = value.isascii() and value.isprintable() and len(value) <= MAX_LENGTH
    return {"Retry-After": value} if status in (429, 503) and is_safe and parse_retry_after(value) is not None else {}
