"""Errors of the API. Each carries its status, code and message, and is sent as {"code", "message", "data"}."""

import logging
import math
import sqlite3
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from puffer.runtime.storage import is_disk_full

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """An error of the API. `data` is added to `data` in the body, next to the status."""

    status = 500
    code = "internal_server_error"
    message = "Internal server error. Search the server's log for the X-Request-ID of this response."

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int | None = None,
        code: str | None = None,
        data: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.message = message or self.message
        self.status = status or self.status
        self.code = code or self.code
        self.data = data or {}
        self.headers = headers or {}
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "data": {"status": self.status, **self.data}}


class NoRoute(ApiError):
    status = 404
    code = "rest_no_route"
    message = "No route was found matching the URL and request method."


class RequestTooLarge(ApiError):
    status = 413
    code = "rest_request_too_large"
    message = "The request body is too large."


class InvalidJson(ApiError):
    """A body that is not JSON. `number` and `reason` are PHP's: 3 control character, 4 syntax, 5 UTF-8."""

    status = 400
    code = "rest_invalid_json"
    message = "Invalid JSON body passed."

    def __init__(self, number: int = 4, reason: str = "Syntax error") -> None:
        super().__init__(data={"json_error_code": number, "json_error_message": reason})


class InvalidUrl(ApiError):
    status = 400
    code = "rest_invalid_url"
    message = "The URL is not valid UTF-8."


class TooManyParameters(ApiError):
    status = 400
    code = "rest_too_many_parameters"
    message = "The request has too many parameters."


class InvalidForm(ApiError):
    status = 400
    code = "rest_invalid_form"
    message = "The form in the request body cannot be read."


class MissingParameters(ApiError):
    status = 400
    code = "rest_missing_callback_param"

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"Missing parameter(s): {', '.join(names)}", data={"params": names})


class InvalidParameters(ApiError):
    """Parameters that break their schema: `problems` by name, in the order in which the client sent them."""

    status = 400
    code = "rest_invalid_param"

    def __init__(self, problems: dict[str, "Problem"]) -> None:
        super().__init__(
            f"Invalid parameter(s): {', '.join(problems)}",
            data={
                "params": {name: problem.message for name, problem in problems.items()},
                "details": {name: problem.detail() for name, problem in problems.items()},
            },
        )


class Problem(Exception):
    """A problem with one parameter: WordPress' inner code, its text and its data."""

    def __init__(self, code: str, message: str, data: dict[str, Any] | None = None) -> None:
        self.code, self.message, self.data = code, message, data
        super().__init__(message)

    def detail(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "data": self.data}


class AccessDisabled(ApiError):
    status = 403
    code = "rest_aipkit_api_access_disabled"
    message = "REST API access is disabled."


class NoApiKeyConfigured(ApiError):
    status = 403
    code = "rest_aipkit_no_api_key_configured"
    message = "No API key exists yet. Create one in the admin or with `manage.py create_api_key`."


class InvalidApiKey(ApiError):
    status = 401
    code = "rest_aipkit_invalid_api_key"
    message = "Invalid or missing API Key."


class InsufficientScope(ApiError):
    status = 403
    code = "rest_aipkit_insufficient_scope"
    message = "This API key may not do that."


class TooManyCalls(ApiError):
    status = 429
    code = "rate_limit_exceeded"
    message = "These are too many calls. Wait a minute."


class StorageFull(ApiError):
    """A refusal before a model is paid for an answer that can't be stored."""

    status = 503
    code = "storage_full"
    message = "The server's disk is full, so nothing can be stored. The operator of the server must free some space."


class DatabaseUnavailable(ApiError):
    status = 503
    code = "database_unavailable"
    message = "The server's database does not answer. Try again in a few seconds."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "5"})


def unexpected_error(exception: Exception) -> ApiError:
    """Log an exception, and return the error that tells the client as much of it as may be known."""
    if is_disk_full(exception):
        logger.error("a request failed, because the disk of the database is full")
        return StorageFull()
    logger.error("a request failed: %s", type(exception).__name__, exc_info=exception)
    is_unavailable = isinstance(exception, OperationalError | InterfaceError) and not is_wrong_sql(exception)
    return DatabaseUnavailable() if is_unavailable else ApiError()


def is_wrong_sql(exception: Exception) -> bool:
    """Return whether SQLite refused the statement itself, which it reports as an operational error too."""
    return getattr(exception.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR


def exception_handler(exception: Exception, context: dict[str, Any]) -> Response:
    """Return the response for a view's exception; called by DRF. An unexpected exception is logged and not shown."""
    if isinstance(exception, Http404):
        exception = exceptions.NotFound()
    if isinstance(exception, SuspiciousOperation):  # too many parameters, for instance
        exception = ApiError("The request cannot be read.", status=400, code="rest_invalid_request")
    if isinstance(exception, exceptions.APIException):
        exception = from_drf(exception)
    elif not isinstance(exception, ApiError):
        exception = unexpected_error(exception)
    return Response(exception.body(), status=exception.status, headers=exception.headers)


def from_drf(exception: exceptions.APIException) -> ApiError:
    """Translate an exception of DRF's own classes: serializers, parsers, permissions and throttles."""
    wait = getattr(exception, "wait", None)  # seconds, of Throttled
    headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
    if isinstance(exception, exceptions.ValidationError):
        params = exception.detail if isinstance(exception.detail, dict) else {}
        message = f"Invalid parameter(s): {', '.join(params)}" if params else " ".join(map(str, exception.detail))
        return ApiError(message, status=400, code="rest_invalid_param", data={"params": params} if params else None)
    code = f"rest_{exception.default_code}"
    return ApiError(str(exception.detail), status=exception.status_code, code=code, headers=headers)
