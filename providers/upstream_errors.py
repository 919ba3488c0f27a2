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
import orjson

from providers.base import Capability, Usage
from providers.http_client import UnusableAnswer
from puffer.api import ApiError
from puffer.net import retry_after_headers
from puffer.text import storable

if TYPE_CHECKING:
    from providers.base import Provider

logger = logging.getLogger(__name__)

PASSED_ON = {400, 404, 408, 409, 413, 422, 429}
OVERLOADED = {503, 529}  # 529 is Anthropic's
# An error within a stream of status 200 has only a type. Source: https://docs.anthropic.com/en/api/errors
STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 529,
}
MAX_TEXT = 1000  # characters of a provider's message; 200 of a body that is not JSON

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
# Keys in the vendors' formats, also with a masked middle; bearer tokens; and keys in URLs.
SECRETS = re.compile(
    r"\b(?:sk|pk|xai|gsk|r8|hf|puf)[-_][\w*-]{6,}"
    r"|\bAIza[\w*-]{20,}"
    r"|(?<=key=)[^&\s\"']+"
    r"|(?<=token=)[^&\s\"']+"
    r"|(?<=bearer )[\w.~+/-]{6,}=*",
    re.IGNORECASE,
)
TAG = re.compile(r"<[^<>]*>")


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
        code, kind = error.get("code"), str(error.get("type"))
        upstream = code if isinstance(code, int) else STATUS_OF_TYPE.get(kind, 502)
    fault_status = 503 if upstream in OVERLOADED else 502
    status = upstream if upstream in PASSED_ON else fault_status
    text = error_text(response, error, provider.settings.api_key)
    return ApiError(
        MESSAGE_TEMPLATES[capability].format(label=provider.label, status=upstream, text=text),
        status=status,
        code=failure_code(provider, capability, "api", upstream),
        headers=retry_after_headers(status, response.headers.get("retry-after", "")),
    )


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


def read_error(response: Any) -> dict[str, Any]:
    """Return the error object of the body, wherever the provider puts it, or {} if the body is not a JSON object."""
    try:
        body = orjson.loads(body_of(response))
    except orjson.JSONDecodeError:
        return {}
    if isinstance(body, list) and body:  # Google
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error") or body
    return error if isinstance(error, dict) else {"message": error, "code": body.get("code")}  # xAI


def body_of(response: Any) -> bytes:
    try:
        return response.content
    except httpx2.StreamError:  # broken off, or not read
        return b""


def error_text(response: Any, error: dict[str, Any], api_key: str) -> str:
    """Return the provider's message without secrets: `message (Code: c)`, or the start of a body that is not JSON."""
    if 300 <= response.status_code < 400:
        return "It answered with a redirect, which is not followed. Check the base URL."
    if not error:
        words = TAG.sub(" ", body_of(response)[:5000].decode(errors="replace"))
        return redact(" ".join(words.split()), api_key)[:200] or response.reason_phrase
    text = str(error.get("message") or error.get("detail") or response.reason_phrase)
    notes = []
    if error.get("code") and not isinstance(error["code"], int):  # a number repeats the status
        notes.append(f"Code: {error['code']}")
    elif error.get("type"):
        notes.append(f"Type: {error['type']}")
    inner = error.get("innererror")
    if isinstance(inner, dict) and inner.get("code"):  # Azure
        notes.append(f"InnerCode: {inner['code']}")
    # Truncate after the redaction, which would not recognize half a key.
    text = redact(text, api_key)[:MAX_TEXT]
    return f"{text} ({redact(', '.join(notes), api_key)[:200]})" if notes else text


def redact(text: str, api_key: str) -> str:
    """Remove our key, in case the provider repeats it, and anything that looks like a key."""
    text = storable(text)
    if api_key:
        text = text.replace(api_key, "[redacted]")
    return SECRETS.sub("[redacted]", text)
