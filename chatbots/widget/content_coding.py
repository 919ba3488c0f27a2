"""Compress the widget's files in the content coding that the client prefers.

The build makes the Brotli copies. A Python package for Brotli would do more than intended: once one is installed,
requests and aiohttp accept Brotli from every server they call.
"""

import gzip
import re
from functools import cache

from django.conf import settings

from chatbots.widget.config import read_asset

CODINGS = ("br", "gzip", "identity")  # smallest first: the server's choice between equal weights
UNLISTED_IDENTITY = 0.0001  # acceptable by default, but a listed coding is preferred
WEIGHT = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


def preferred_coding(accept_encoding: str) -> str:
    """Return the best of `CODINGS` for an Accept-Encoding header; identity if none is acceptable.

    Source: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
    """
    weights = dict(read_weight(item) for item in accept_encoding.split(","))

    def weight(coding: str) -> float:
        return weights.get(coding, weights.get("*", UNLISTED_IDENTITY if coding == "identity" else 0))

    return max(filter(weight, CODINGS), key=weight, default="identity")


def read_weight(item: str) -> tuple[str, float]:
    """Split an item such as "br;q=0.8". A malformed weight is 0: the coding is not used."""
    coding, _, parameter = (part.strip() for part in item.partition(";"))
    match = WEIGHT.fullmatch(parameter)
    return coding.lower(), 1 if not parameter else float(match[1]) if match else 0


def encoded_asset(name: str, coding: str) -> bytes:
    """Return the file in the coding, cached in memory unless DEBUG is on."""
    return _encode(name, coding) if not settings.DEBUG else _encode.__wrapped__(name, coding)


@cache
def _encode(name: str, coding: str) -> bytes:
    if coding == "br":
        return read_asset(f"{name}.br")
    return gzip.compress(read_asset(name), mtime=0) if coding == "gzip" else read_asset(name)
