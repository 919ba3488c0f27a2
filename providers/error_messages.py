"""Find a provider's message about a failure, wherever its JSON contains it, and remove secrets from it."""

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx2
import orjson

from puffer.text import storable

MAX_TEXT = 1000  # characters of a provider's message; 200 of a body that is not JSON
MAX_DEPTH = 6
MAX_ERROR_BYTES = 256 * 1024  # of a body that are parsed
# The vendors' keys for a message, the most informative first.
MESSAGE_KEYS = (
    "message", "msg", "detail", "error", "errors", "error_msg", "error_message", "errorMessage", "status_msg",
    "error_description", "description", "reason", "title",
    "Message", "fault", "faultstring",  # AWS, Apigee
)  # fmt: skip
# Keys for the message of the provider behind a gateway, which itself only says "Provider returned error".
INNER_MESSAGE_KEYS = ("raw", "reasons")
NO_REASON = "It gave no reason."
# Keys that only an answer has. An object with a message that fills none of them reports a failure.
ANSWER_KEYS: tuple[str, ...] = ("choices", "type", "candidates", "content", "delta", "usage", "usageMetadata")
ANSWER_KEYS += ("promptFeedback", "data", "embeddings", "results", "predictions")
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


def reports_failure(answer: Mapping[str, Any]) -> bool:
    """Return whether a JSON object with status 200 explicitly reports that the call failed."""
    if any(map(is_filled, (answer.get("error"), answer.get("errors"), first_choice(answer).get("error")))):
        return True
    if answer.get("type") == "error" or answer.get("object") == "error" or answer.get("success") is False:
        return True
    inner = answer.get("base_resp")  # MiniMax, next to empty choices
    return isinstance(inner, dict) and bool(inner.get("status_code"))


def is_filled(error: Any) -> bool:
    return any(error.values()) if isinstance(error, dict) else bool(error)


def has_only_message(answer: Mapping[str, Any]) -> bool:
    """Return whether an object has a message and no part of an answer: a failure, unless an answer follows."""
    return not any(map(answer.get, ANSWER_KEYS)) and bool(message_in(answer))


def first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = answer.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def read_error(response: Any) -> dict[str, Any]:
    """Return the error object of the body, wherever the provider puts it, or {} if the body is not a JSON object."""
    content = body_of(response)
    try:
        body = orjson.loads(content) if len(content) <= MAX_ERROR_BYTES else None
    except orjson.JSONDecodeError:
        return {}
    if isinstance(body, list) and body:  # Google
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error") or body.get("errors") or first_choice(body).get("error") or body.get("base_resp") or body
    if isinstance(error, list) and len(error) == 1 and isinstance(error[0], dict):  # Cloudflare
        return error[0]
    # The message may be next to the error, which is a flag, a title or a code then: {"error": true, "message": ...}.
    if not isinstance(error, dict):
        return {"message": message_in(body), "code": body.get("code")}
    if not message_in(error) and (message := message_in(body)):
        return {**error, "message": message}
    return error


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
        content = TAG.sub(" ", body_of(response)[:5000].decode(errors="replace"))
        return redact(" ".join(content.split()), api_key)[:200] or phrase_of(response)
    text = message_in(error) or str(error.get("message") or phrase_of(response))
    notes = []
    code = error.get("code") or error.get("status_code")
    if code and not is_status(code):  # the templates of messages contain the status already
        notes.append(f"Code: {code}")
    elif error.get("type"):
        notes.append(f"Type: {error['type']}")
    inner = error.get("innererror")
    if isinstance(inner, dict) and inner.get("code"):  # Azure
        notes.append(f"InnerCode: {inner['code']}")
    # Truncate after the redaction, which would not recognize half a key.
    text = redact(text[: 10 * MAX_TEXT], api_key)[:MAX_TEXT]
    return f"{text} ({redact(', '.join(notes), api_key)[:200]})" if notes else text


def phrase_of(response: Any) -> str:
    """Return the HTTP reason phrase, but not that of a failure with status 200, which is "OK"."""
    return (response.reason_phrase if response.status_code >= 400 else "") or NO_REASON


def is_status(code: Any) -> bool:
    return str(code).isdecimal() and 100 <= int(str(code)[:10]) <= 599


def message_in(value: Any, depth: int = 0) -> str:
    """Return the message in a value: a text, also one that is JSON itself, an object or a list."""
    if depth > MAX_DEPTH:
        return ""
    if isinstance(value, str):
        return message_in_text(value, depth)
    if isinstance(value, list):
        return "; ".join(filter(None, (message_in(item, depth + 1) for item in value[:5])))
    if not isinstance(value, dict):
        return ""
    text = next((message for name in MESSAGE_KEYS if (message := message_in(value.get(name), depth + 1))), "")
    if text and isinstance(place := value.get("loc"), list):  # FastAPI
        text = f"{'.'.join(map(str, place))}: {text}"
    metadata = value.get("metadata")
    for name in INNER_MESSAGE_KEYS:
        more = message_in(metadata.get(name), depth + 1) if isinstance(metadata, dict) else ""  # OpenRouter
        if more and more not in text:
            text = f"{text.rstrip('.: ')}: {more}" if text else more
    return text


def message_in_text(text: str, depth: int) -> str:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return message_in(json.loads(text), depth + 1) or text
        except (ValueError, RecursionError):
            pass
    return text.strip()


def redact(text: str, api_key: str) -> str:
    """Remove our key, should the provider repeat it, and anything that looks like a key."""
    text = storable(text)
    if api_key:
        text = text.replace(api_key, "[redacted]")
    return SECRETS.sub("[redacted]", text)
