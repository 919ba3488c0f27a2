"""What goes wrong at a provider -> an ApiError with our status and code, and the provider's own words.

Status: what the caller can mend passes through; what only we can mend (our credentials, the provider's faults) is a
502, 503 or 504. The codes are those of AI Puffer.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import openai
import orjson
from django.conf import settings
from django.utils.html import strip_tags
from google.genai import errors as google_errors

from providers.base import Capability
from providers.http_client import AnswerTooLarge
from puffer.api.errors import ApiError

if TYPE_CHECKING:
    from providers.base import Provider

logger = logging.getLogger(__name__)

PASSED_ON = {400, 404, 408, 409, 413, 422, 429}
OVERLOADED = {503, 529}  # 529 is Anthropic's
MAX_TEXT = 1000  # characters of a provider's words; 200 of a body that is no JSON

# Kinds of failure: "api" (an error status), "transport" (no answer), "unreadable", "empty" (nothing usable in it).
CODES = {
    Capability.COMPLETION: {
        "api": "api_error",
        "transport": "http_request_failed",
        "unreadable": "json_decode_error",
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
# Keys as the vendors write them, bearer tokens, and Google's key in URLs.
SECRETS = re.compile(
    r"\b(?:sk|pk|xai|gsk|r8|hf|puf)[-_][\w-]{6,}"
    r"|\bAIza[\w-]{20,}"
    r"|(?<=[?&]key=)[^&\s\"']+"
    r"|(?<=[Bb]earer )[\w.~+/-]{6,}=*"
)


def failure_code(provider: "Provider", capability: Capability, kind: str, upstream_status: int = 0) -> str:
    if capability is Capability.IMAGE and provider.slug == "google":
        if upstream_status >= 500:
            return "google_interactions_server_error"
        return GOOGLE_IMAGE_CODES_BY_STATUS.get(upstream_status, GOOGLE_IMAGE_CODES[kind])
    return CODES[capability][kind].format(slug=provider.slug)


def empty_answer(provider: "Provider", capability: Capability, text: str) -> ApiError:
    """An answer that was readable but holds nothing of what was asked for."""
    return ApiError(text, status=502, code=failure_code(provider, capability, "empty"))


def no_answer_in_time(provider: "Provider", capability: Capability, seconds: float) -> ApiError:
    return ApiError(
        f"HTTP request failed: {provider.label} did not answer within {seconds:g} seconds.",
        status=504,
        code=failure_code(provider, capability, "transport"),
    )


@contextmanager
def upstream_errors(provider: "Provider", capability: Capability) -> Iterator[None]:
    """Around a call of an SDK and the reading of its answer: whatever they raise leaves as an ApiError."""
    try:
        yield
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        raise error_status(provider, capability, error.response) from error
    except google_errors.APIError as error:
        raise error_status(provider, capability, error.response) from error
    except (openai.APIConnectionError, anthropic.APIConnectionError, httpx2.TransportError) as error:
        raise no_answer(provider, capability, error) from error
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        # The answer is not what the provider's reference promises; the SDKs' own parsing ends here too.
        logger.warning("%s sent an answer that cannot be read", provider.label, exc_info=True)
        raise ApiError(
            f"{provider.label} sent an answer that cannot be read.",
            status=502,
            code=failure_code(provider, capability, "unreadable"),
        ) from error


def error_status(provider: "Provider", capability: Capability, response: Any) -> ApiError:
    upstream = response.status_code
    fault_status = 503 if upstream in OVERLOADED else 502
    status = upstream if upstream in PASSED_ON else fault_status
    text = redact(error_text(response), provider.settings.api_key)
    retry_after = response.headers.get("retry-after", "")
    return ApiError(
        SPOKEN[capability].format(label=provider.label, status=upstream, text=text),
        status=status,
        code=failure_code(provider, capability, "api", upstream),
        headers={"Retry-After": retry_after}
        if status in (429, 503) and re.fullmatch(r"[\w ,:]{1,40}", retry_after)
        else {},
    )


def no_answer(provider: "Provider", capability: Capability, error: Exception) -> ApiError:
    causes = list(chain(error))
    code = failure_code(provider, capability, "transport")
    if any(isinstance(cause, AnswerTooLarge) for cause in causes):
        return ApiError(
            f"{provider.label}'s answer is larger than {settings.MAX_ANSWER_BYTES} bytes.", status=502, code=code
        )
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


def error_text(response: Any) -> str:
    """The provider's own words: `message (Code: c)`, or the beginning of a body that is no JSON."""
    if 300 <= response.status_code < 400:
        return "It answered with a redirect, which is not followed. Check the base URL."
    try:
        body = orjson.loads(response.content)
    except (orjson.JSONDecodeError, httpx2.StreamError):
        words = " ".join(strip_tags(response.text).split()) if response.is_stream_consumed else ""
        return words[:200] or response.reason_phrase
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return str(body)[:200]
    error = body.get("error") or body
    if not isinstance(error, dict):  # xAI: {"code": "...", "error": "..."}
        error = {"message": error, "code": body.get("code")}
    text = str(error.get("message") or error.get("detail") or body.get("message") or response.reason_phrase)
    notes = [f"{name}: {value}" for name, value in (("Code", error.get("code")), ("Type", error.get("type"))) if value]
    inner = error.get("innererror")
    if isinstance(inner, dict) and inner.get("code"):  # Azure
        notes.append(f"InnerCode: {inner['code']}")
    return f"{text[:MAX_TEXT]} ({', '.join(notes)[:200]})" if notes else text[:MAX_TEXT]


def redact(text: str, api_key: str) -> str:
    """The text without secrets: neither our key, should the provider repeat it, nor anything that looks like one."""
    if api_key:
        text = text.replace(api_key, "[redacted]")
    return SECRETS.sub("[redacted]", text)
