"""The REST API: dispatch, authentication, parameters, errors and the ASGI handler."""

from puffer.api.authentication import ApiKeyAuthentication, Caller, caller_of
from puffer.api.errors import ApiError, InsufficientScope, StorageFull, TooManyCalls, unexpected_error
from puffer.api.event_stream import Event, EventStream
from puffer.api.permissions import HasScope
from puffer.api.schema import Array, Boolean, Integer, Lenient, Object, Parameters, String, StringOrArray
from puffer.api.site_url import path_below_site, requested_url, site_url
from puffer.api.views import AsyncAPIView

__all__ = [
    "ApiError",
    "ApiKeyAuthentication",
    "Array",
    "AsyncAPIView",
    "Boolean",
    "Caller",
    "Event",
    "EventStream",
    "HasScope",
    "InsufficientScope",
    "Integer",
    "Lenient",
    "Object",
    "Parameters",
    "StorageFull",
    "String",
    "StringOrArray",
    "TooManyCalls",
    "caller_of",
    "path_below_site",
    "requested_url",
    "site_url",
    "unexpected_error",
]
