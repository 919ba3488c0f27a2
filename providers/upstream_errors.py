"""What goes wrong at a provider -> an ApiError with our status and code, and the provider's own words.

Status: what the caller can mend passes through; what only we can mend (our credentials, the provider's faults) is a
502, 503 or 504. The codes are those of AI Puffer.
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
# An error in a stream that has begun with status 200 tells its kind in words. Source: https://docs.anthropic.com/en/api/errors
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
MAX_TEXT = 1000  # characters of a provider's words; 200 of a body that is no JSON

# Kinds of failure: "api" (an error status), "transport" (no answer), "unreadable" (no JSON), "empty" (JSON without
# what was asked for).
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
    Capability.IMAGE: {
        "api": "{slug}_image_api_error",
        "transport": "{slug}_image_http_error",
        "unreadable": "{slug}_image_api_error",
        "empty": "{slug}_image_no_data",
    },
}
NO_TEXT_CODES = {  # where "empty" is not the one above
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
SPOKEN = {
    Capability.COMPLETION: "{label} API Error (HTTP {status}): {text}",
    Capability.EMBEDDING: "{label} Embeddings API Error ({status}): {text}",
    Capability.IMAGE: "{label} Image API Error ({status}): {text}",
}
# Keys as the vendors write them, also with their middle starred out; bearer tokens; and keys in URLs.
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
    """For an answer that was readable but holds nothing of what was asked for. Its `usage` is paid for all the same."""

    status = 502

    def __init__(self, message: str, *, code: str, usage: Usage | None = None) -> None:
        super().__init__(message, code=code)
        self.usage = usage


def empty_answer(provider: "Provider", capability: Capability, message: str, usage: Usage | None = None) -> EmptyAnswer:
    return EmptyAnswer(message, code=failure_code(provider, capability, "empty"), usage=usage)


def without_text(provider: "Provider", finish_reason: str, usage: Usage | None) -> EmptyAnswer:
    """A completion that says nothing: withheld, cut off before its first word, or simply empty."""
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
    """For a stream that goes on and on."""
    return ApiError(
        f"HTTP request failed: {provider.label} did not end its answer within {seconds:g} seconds.",
        status=504,
        code=failure_code(provider, Capability.COMPLETION, "transport"),
    )


def broken_off(provider: "Provider") -> ApiError:
    """For a stream that ended, but without what its protocol ends with."""
    return ApiError(
        f"HTTP request failed: {provider.label} broke its answer off.",
        status=502,
        code=failure_code(provider, Capability.COMPLETION, "transport"),
    )


@contextmanager
def upstream_errors(provider: "Provider", capability: Capability) -> Iterator[None]:
    """Around a call of an SDK and the reading of its answer: whatever they raise leaves as an ApiError."""
    try:
        yield
    except Exception as error:
        if failure := as_api_error(provider, capability, error):
            raise failure from error
        raise


def as_api_error(provider: "Provider", capability: Capability, error: Exception) -> ApiError | None:
    """None for what is no failure of the provider: our own time limit, an ApiError."""
    sdk = provider.sdk_errors()
    if isinstance(error, (sdk.status, httpx2.HTTPStatusError)):
        return error_status(provider, capability, getattr(error, "response"))  # noqa: B009  all SDKs have it
    if isinstance(error, (sdk.connection, httpx2.RequestError, aiohttp.ClientError)):
        return no_answer(provider, capability, error)
    if isinstance(error, (sdk.unreadable, json.JSONDecodeError, RecursionError)):
        return not_as_promised(provider, capability, "unreadable", error)
    if isinstance(error, (ValueError, TypeError, LookupError, AttributeError)):  # the SDKs' own parsing ends here too
        return not_as_promised(provider, capability, "empty", error)
    return None


def not_as_promised(provider: "Provider", capability: Capability, kind: str, error: Exception) -> ApiError:
    """For an answer that is not what the provider's reference says."""
    logger.warning("%s sent an answer that cannot be read", provider.label, exc_info=error)
    return ApiError(
        f"{provider.label} sent an answer that cannot be read.",
        status=502,
        code=failure_code(provider, capability, kind),
    )


def error_status(provider: "Provider", capability: Capability, response: Any) -> ApiError:
    error = read_error(response)
    upstream = response.status_code
    if upstream < 300:  # what failed behind OpenRouter, or within a stream, is told in the body
        code, kind = error.get("code"), str(error.get("type"))
        upstream = code if isinstance(code, int) else STATUS_OF_TYPE.get(kind, 502)
    fault_status = 503 if upstream in OVERLOADED else 502
    status = upstream if upstream in PASSED_ON else fault_status
    text = error_text(response, error, provider.settings.api_key)
    return ApiError(
        SPOKEN[capability].format(label=provider.label, status=upstream, text=text),
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
    # The type of the outermost error can't be trusted: the aiohttp transport calls a closed connection a time-out.
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
    """What the body tells of the error, wherever the provider puts it; empty where it is no JSON object."""
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
    except httpx2.StreamError:  # it broke off, or was not read
        return b""


def error_text(response: Any, error: dict[str, Any], api_key: str) -> str:
    """The provider's own words without secrets: `message (Code: c)`, or the beginning of a body that is no JSON."""
    if 300 <= response.status_code < 400:
        return "It answered with a redirect, which is not followed. Check the base URL."
    if not error:
        words = TAG.sub(" ", body_of(response)[:5000].decode(errors="replace"))
        return redact(" ".join(words.split()), api_key)[:200] or response.reason_phrase
    text = str(error.get("message") or error.get("detail") or response.reason_phrase)
    notes = []
    if error.get("code") and not isinstance(error["code"], int):  # a number is the status once more
        notes.append(f"Code: {error['code']}")
    elif error.get("type"):
        notes.append(f"Type: {error['type']}")
    inner = error.get("innererror")
    if isinstance(inner, dict) and inner.get("code"):  # Azure
        notes.append(f"InnerCode: {inner['code']}")
    # Cut after the redaction, for half a key is none that it would know.
    text = redact(text, api_key)[:MAX_TEXT]
    return f"{text} ({redact(', '.join(notes), api_key)[:200]})" if notes else text


def redact(text: str, api_key: str) -> str:
    """The text without secrets: neither our key, should the provider repeat it, nor anything that looks like one."""
    text = storable(text)
    if api_key:
        text = text.replace(api_key, "[redacted]")
    return SECRETS.sub("[redacted]", text)
