"""Translate failures at a provider to an ApiError with our status and code, and the provider's message.

A status that the caller can act on passes through; anything else (the server's credentials, the provider's faults)
becomes 502, 503 or 504. The codes are AI Puffer's.
"""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx2

from providers.base import Capability, Usage
from providers.error_messages import error_text, is_status, read_error
from providers.http_client import UnusableAnswer
from puffer.api import ApiError
from puffer.net import retry_after_headers
from puffer.text import without_control_characters

if TYPE_CHECKING:
    from providers.base import Provider

logger = logging.getLogger(__name__)

PASSED_ON = {400, 404, 408, 409, 413, 422, 429}
OVERLOADED = {503, 529}  # 529 is Anthropic's
# An error with status 200 may have only a type or a code. Sources: https://docs.anthropic.com/en/api/errors,
# https://platform.openai.com/docs/guides/error-codes, https://cloud.google.com/apis/design/errors
STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 529,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "resource_exhausted": 429,
    "invalid_argument": 400,
    "context_length_exceeded": 400,
    "unavailable": 503,
}
MILLISECONDS = re.compile(r"\d{1,12}(\.\d*)?", re.ASCII)
# Kinds of failure: "api" (an error status), "transport" (no answer), "unreadable" (not JSON), "empty" (JSON without the
# requested content).
CODES = {
    Capability.COMPLETION: {
        "api": "api_error",
        "transport": "http_request_failed",
        "unreadable": "json_decode_error",
        "empty": "invalid_response_structure_{slug}",
    },
    Capability.EMBEDDING: {
        "api": "{slug}_embedding_api_error_logic",
        "transport": "{slug}_embedding_http_error_logic",
        "unreadable": "{slug}_embedding_no_data_logic",
        "empty": "{slug}_embedding_no_data_logic",
    },
    Capability.MODERATION: {
        "api": "api_error",
        "transport": "http_request_failed",
        "unreadable": "json_decode_error",
        "empty": "invalid_response_structure_{slug}",
    },
    Capability.IMAGE: {
        "api": "{slug}_image_api_error",
        "transport": "{slug}_image_http_error",
        "unreadable": "{slug}_image_api_error",
        "empty": "{slug}_image_no_data",
    },
}
NO_TEXT_CODES = {  # codes for "empty" that differ from CODES
    "openai": "invalid_response_structure_openai_logic",
    "azure": "invalid_response_structure_azure_logic",
    "openrouter": "invalid_response_structure_openrouter_logic",
    "google": "google_interactions_missing_text_output",
    "deepseek": "empty_response_chatcompletion",
}
WITHHELD_CODES = {
    "azure": "content_filter_logic",
    "openrouter": "content_filter_logic",
    "google": "google_interactions_missing_text_output",
}
GOOGLE_IMAGE_CODES = {
    "api": "google_interactions_api_error",
    "transport": "google_interactions_http_error",
    "unreadable": "google_interactions_invalid_json",
    "empty": "google_interactions_missing_image_output",
}
GOOGLE_IMAGE_CODES_BY_STATUS = {
    400: "google_interactions_invalid_request",
    401: "google_interactions_auth_error",
    403: "google_interactions_auth_error",
    404: "google_interactions_not_found",
    429: "google_interactions_rate_limited",
}
MESSAGE_TEMPLATES = {
    Capability.COMPLETION: "{label} API Error (HTTP {status}): {text}",
    Capability.EMBEDDING: "{label} Embeddings API Error ({status}): {text}",
    Capability.IMAGE: "{label} Image API Error ({status}): {text}",
    Capability.MODERATION: "{label} Moderation API Error ({status}): {text}",
}


def failure_code(provider: "Provider", capability: Capability, kind: str, upstream_status: int = 0) -> str:
    if capability is Capability.IMAGE and provider.slug == "google":
        if upstream_status >= 500:
            return "google_interactions_server_error"
        return GOOGLE_IMAGE_CODES_BY_STATUS.get(upstream_status, GOOGLE_IMAGE_CODES[kind])
    if capability is Capability.COMPLETION and kind == "empty" and provider.slug in NO_TEXT_CODES:
        return NO_TEXT_CODES[provider.slug]
    return CODES[capability][kind].format(slug=provider.slug)


class EmptyAnswer(ApiError):
    """A readable answer without the requested content. Its `usage` is billed all the same."""

    status = 502

    def __init__(self, message: str, *, code: str, usage: Usage | None = None) -> None:
        super().__init__(message, code=code)
        self.usage = usage


def empty_answer(provider: "Provider", capability: Capability, message: str, usage: Usage | None = None) -> EmptyAnswer:
    return EmptyAnswer(message, code=failure_code(provider, capability, "empty"), usage=usage)


def without_text(provider: "Provider", finish_reason: str, usage: Usage | None) -> EmptyAnswer:
    """Return the error for a completion without text: withheld, cut off before its first word, or empty."""
    if finish_reason == "content_filter":
        return EmptyAnswer(
            f"{provider.label} withheld the answer: its content filter stopped it.",
            code=WITHHELD_CODES.get(provider.slug, "content_filter"),
            usage=usage,
        )
    reason = " The token limit was reached before it began." if finish_reason == "length" else ""
    message = f"{provider.label} sent an answer without text.{reason}"
    return empty_answer(provider, Capability.COMPLETION, message, usage)


def no_answer_in_time(provider: "Provider", capability: Capability, seconds: float) -> ApiError:
    return ApiError(
        f"HTTP request failed: {provider.label} did not answer within {seconds:g} seconds.",
        status=504,
        code=failure_code(provider, capability, "transport"),
    )


def no_end_in_time(provider: "Provider", seconds: float) -> ApiError:
    """Return the error for a stream that does not end."""
    return ApiError(
        f"HTTP request failed: {provider.label} did not finish its answer within {seconds:g} seconds.",
        status=504,
        code=failure_code(provider, Capability.COMPLETION, "transport"),
    )


def broken_off(provider: "Provider") -> ApiError:
    """Return the error for a stream that ended without its last event."""
    return ApiError(
        f"HTTP request failed: {provider.label} stopped in the middle of its answer.",
        status=502,
        code=failure_code(provider, Capability.COMPLETION, "transport"),
    )


def ended_by_failure(provider: "Provider", reason: str) -> ApiError:
    """Return the error for an answer whose finish reason is a failure."""
    return ApiError(
        f"{provider.label} broke off its answer, for the reason: {without_control_characters(reason)[:100]}.",
        status=502,
        code=failure_code(provider, Capability.COMPLETION, "api"),
    )


@contextmanager
def upstream_errors(provider: "Provider", capability: Capability) -> Iterator[None]:
    """Convert the exceptions of an SDK's call, and of reading its answer, to ApiError."""
    try:
        yield
    except Exception as error:
        if failure := as_api_error(provider, capability, error):
            raise failure from error
        raise


def as_api_error(provider: "Provider", capability: Capability, error: Exception) -> ApiError | None:
    """Return the ApiError, or None if the provider did not fail (our own time limit, an ApiError)."""
    sdk = provider.sdk_errors()
    if isinstance(error, (sdk.status, httpx2.HTTPStatusError)):
        return error_status(provider, capability, getattr(error, "response"))  # noqa: B009  every SDK sets it
    if isinstance(error, (sdk.connection, httpx2.RequestError, aiohttp.ClientError)):
        return no_answer(provider, capability, error)
    if isinstance(error, (sdk.unreadable, json.JSONDecodeError, RecursionError)):
        return unexpected_answer(provider, capability, "unreadable", error)
    if isinstance(error, (ValueError, TypeError, LookupError, AttributeError)):  # also raised by the SDKs' own parsing
        return unexpected_answer(provider, capability, "empty", error)
    return None


def unexpected_answer(provider: "Provider", capability: Capability, kind: str, error: Exception) -> ApiError:
    """Log the answer's parsing error, and return the ApiError for it."""
    logger.warning("%s sent an answer that cannot be read", provider.label, exc_info=error)
    return ApiError(
        f"{provider.label} sent an answer that cannot be read.",
        status=502,
        code=failure_code(provider, capability, kind),
    )


def error_status(provider: "Provider", capability: Capability, response: Any) -> ApiError:
    error = read_error(response)
    upstream = response.status_code
    if upstream < 300:  # OpenRouter and streams report the failure in the body
        upstream = status_in(error)
    fault_status = 503 if upstream in OVERLOADED else 502
    status = upstream if upstream in PASSED_ON else fault_status
    text = error_text(response, error, provider.settings.api_key)
    return ApiError(
        MESSAGE_TEMPLATES[capability].format(label=provider.label, status=upstream, text=text),
        status=status,
        code=failure_code(provider, capability, "api", upstream),
        headers=retry_after_headers(status, retry_after(response, error)),
    )


def status_in(error: dict[str, Any]) -> int:
    """Return the status that an error object contains."""
    for name in ("code", "status", "status_code", "type"):
        value = error.get(name)
        if is_status(value) and int(str(value)) >= 400:
            return int(str(value))
        if status := STATUS_OF_TYPE.get(str(value).lower()):
            return status
    return 502


def retry_after(response: Any, error: dict[str, Any]) -> str:
    """Return the value for a Retry-After header, from wherever the provider has it, or ""."""
    milliseconds = response.headers.get("retry-after-ms", "")  # Azure and OpenAI
    if MILLISECONDS.fullmatch(milliseconds):
        return str(float(milliseconds) / 1000)
    if header := response.headers.get("retry-after"):
        return header.removesuffix("s")  # some write 7s
    details, metadata = error.get("details"), error.get("metadata")
    places = [error, metadata, *(details if isinstance(details, list) else [])]
    for place in places:
        for name in ("retryDelay", "retry_after", "retry_after_seconds") if isinstance(place, dict) else ():
            if place.get(name) is not None:
                return str(place[name]).removesuffix("s")  # Google writes 34.07s
    return ""


def no_answer(provider: "Provider", capability: Capability, error: Exception) -> ApiError:
    causes = list(chain(error))
    code = failure_code(provider, capability, "transport")
    for cause in causes:
        if isinstance(cause, UnusableAnswer):
            return ApiError(f"HTTP request failed: {provider.label}'s answer {cause}.", status=502, code=code)
    # The type of the outermost error is unreliable: the aiohttp transport reports a closed connection as a timeout.
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return ApiError(f"HTTP request failed: {provider.label} did not answer in time.", status=504, code=code)
    return ApiError(
        f"HTTP request failed: {provider.label} cannot be reached, or closed the connection.", status=502, code=code
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
