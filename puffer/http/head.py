"""Check the head of a request, for the API and for Django's pages, so that no view has to parse hostile headers."""

from email.message import Message
from typing import Any

MAX_CONTENT_TYPE = 300  # bytes
MAX_ORIGIN = 300  # bytes; the longest host name has 253
UTF_8 = {"utf-8", "utf8", "us-ascii", "ascii"}
FORM_TYPES = {"application/x-www-form-urlencoded", "multipart/form-data"}


class InvalidHead(Exception):
    """A request that is refused for one of its headers."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code, self.message = status, code, message
        super().__init__(message)


def check_head(scope: dict[str, Any]) -> dict[str, Any]:
    """Return the scope, with only the necessary part of Content-Type. Raise InvalidHead."""
    content_type = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            if content_type is not None or len(value) > MAX_CONTENT_TYPE:
                raise InvalidHead(400, "rest_invalid_content_type", "The Content-Type header cannot be read.")
            content_type = value
        elif name == b"origin" and len(value) > MAX_ORIGIN:
            raise InvalidHead(400, "rest_invalid_origin", f"The Origin header is longer than {MAX_ORIGIN} bytes.")
    if content_type is None or b";" not in content_type:
        return scope
    necessary = necessary_part(content_type.decode("latin-1")).encode("latin-1")
    headers = [(name, necessary if name == b"content-type" else value) for name, value in scope["headers"]]
    return {**scope, "headers": headers}


def necessary_part(content_type: str) -> str:
    """Return the type, with a form's boundary. Text is UTF-8: some other codecs take quadratic time or longer.

    Raise InvalidHead for a form in another character set.
    """
    message = Message()
    message["Content-Type"] = content_type
    parameters = dict(message.get_params(failobj=[], unquote=True)[1:])
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in FORM_TYPES:
        return media_type
    charset = parameters.get("charset") or "utf-8"
    if not isinstance(charset, str) or charset.strip().lower() not in UTF_8:
        raise InvalidHead(400, "rest_invalid_form", "Send the form in UTF-8, or leave the charset out.")
    boundary = parameters.get("boundary")
    has_boundary = isinstance(boundary, str) and not set(boundary) & {'"', "\\"}
    return f'{media_type}; boundary="{boundary}"' if has_boundary else media_type
