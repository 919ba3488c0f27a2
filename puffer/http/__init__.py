"""Requests before any view sees them: limits of connections, heads, bodies and rates."""

from puffer.http.bodies import SMALL_BODY, Body, BodyTooLarge, ClientLeft
from puffer.http.forms import form_fields
from puffer.http.head import InvalidHead, check_head
from puffer.http.json_values import has_many_values
from puffer.http.rates import RateLimit
from puffer.http.strangers import health_checks, public_files, public_requests, seconds_to_wait

__all__ = [
    "SMALL_BODY",
    "Body",
    "BodyTooLarge",
    "ClientLeft",
    "InvalidHead",
    "RateLimit",
    "check_head",
    "form_fields",
    "has_many_values",
    "health_checks",
    "public_files",
    "public_requests",
    "seconds_to_wait",
]
