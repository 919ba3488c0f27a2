"""The REST API: dispatch, authentication, parameters, errors and the ASGI handler."""

from puffer.api.authentication import ApiKeyAuthentication, Caller, caller_of
from puffer.api.errors import ApiError, StorageFull, unexpected_error
from puffer.api.event_stream import Event, EventStream
from puffer.api.permissions import HasScope
from puffer.api.schema import Array, Boolean, Integer, Lenient, Object, Parameters, String, StringOrArray
from puffer.api.site_url import site_url
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
    "Integer",
    "Lenient",
    "Object",
    "Parameters",
    "StorageFull",
    "String",
    "StringOrArray",
    "caller_of",
    "site_url",
    "unexpected_error",
]
