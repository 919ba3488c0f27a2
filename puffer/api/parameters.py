"""The parameters of a request: JSON body, form and query as one mapping, in WordPress' order of precedence."""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import SuspiciousOperation, TooManyFieldsSent
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParserError

from puffer.api.errors import ApiError, InvalidForm, InvalidJson, RequestTooLarge, TooManyParameters
from puffer.http import SMALL_BODY, form_fields, has_many_values

JSON_TYPE = re.compile(r"application/([\w.-]+\+)?json\Z")
URL_ENCODED = "application/x-www-form-urlencoded"
FORM_TYPES = {URL_ENCODED, "multipart/form-data"}
BODY_METHODS = {"POST", "PUT", "PATCH", "DELETE"}
BRACKETS = re.compile(r"\[([^\[\]]*)\]")
MAX_DEPTH = 64  # PHP's max_input_nesting_level
MAX_BRACKETS = 5000  # in all names of a form together: each makes a dict
MAX_JSON_VALUES = 100_000  # of a body; orjson stops all other requests, for up to a microsecond a value
MAX_SMALL_PARTS = 100  # of a stranger's multipart body: each costs Django up to 0.1 ms


async def body_of(request: Any, limit: int) -> bytes:
    """Return the body, read only now below /wp-json/; on other paths Django has read it. Raise RequestTooLarge."""
    if reads_later := getattr(request, "read_body", None):
        content: bytes = await reads_later(limit)
        return content
    if len(request.body) > limit:
        raise RequestTooLarge(f"The request body is larger than {limit} bytes.")
    return request.body


def read_parameters(request: HttpRequest, body: bytes) -> dict[str, Any]:
    """Return every parameter by name; a body of another type holds none.

    Raise InvalidJson, InvalidForm or TooManyParameters.
    """
    parameters = nested(query_of(request))
    content_type = request.content_type or ""
    if request.method in BODY_METHODS:
        if content_type in FORM_TYPES:
            parameters.update(nested(_form(request)))
        elif JSON_TYPE.match(content_type):
            parameters.update(_json(body))
    return parameters


def parameter_in_body(request: HttpRequest, body: bytes, name: str) -> Any:
    """Return one parameter of a small body, or None: also if the body is malformed, or has too many parts to look."""
    assert len(body) <= SMALL_BODY
    content_type = request.content_type or ""
    if request.method not in BODY_METHODS:
        return None
    with suppress(ApiError):
        if JSON_TYPE.match(content_type):
            return _json(body).get(name)
        if content_type in FORM_TYPES:
            refuse_many_parts(request, body)
            return _form(request).get(name)
    return None


def refuse_many_parts(request: HttpRequest, body: bytes) -> None:
    """Raise TooManyParameters for a multipart body with more parts than a stranger needs."""
    boundary = (request.content_params or {}).get("boundary")
    if boundary and body.count(f"--{boundary}".encode()) > MAX_SMALL_PARTS:
        raise TooManyParameters


def query_of(request: HttpRequest) -> QueryDict:
    try:
        return request.GET
    except TooManyFieldsSent:
        raise TooManyParameters from None


def _json(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    if len(body) > SMALL_BODY and has_many_values(body, MAX_JSON_VALUES):
        raise TooManyParameters(f"The request has more than {MAX_JSON_VALUES:,} values in its JSON.")
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "UTF-8: " in str(error):
            raise InvalidJson(5, "Malformed UTF-8 characters, possibly incorrectly encoded") from None
        if "control character" in str(error):
            raise InvalidJson(3, "Control character error, possibly incorrectly encoded") from None
        raise InvalidJson from None
    return parsed if isinstance(parsed, dict) else {}  # a list or a scalar has no named parameters


def _form(request: HttpRequest) -> QueryDict:
    body = request.body  # the parser then reads from memory, and what comes later can read it again
    if request.content_type == URL_ENCODED:
        return _url_encoded(body)
    try:
        return request.POST
    except TooManyFieldsSent:
        raise TooManyParameters from None
    except (SuspiciousOperation, MultiPartParserError, UnicodeDecodeError, LookupError):
        raise InvalidForm from None


def _url_encoded(body: bytes) -> QueryDict:
    if body.count(b"&") >= settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:
        raise TooManyParameters
    form = QueryDict(mutable=True)
    for name, value in form_fields(body):
        form.appendlist(name, value)
    return form


def nested(form: QueryDict) -> dict[str, Any]:
    """PHP's bracket syntax resolved: `tags[]=a&opts[depth]=1` is {"tags": ["a"], "opts": {"depth": "1"}}.

    Raise TooManyParameters if the names have too many brackets.
    """
    if sum(name.count("[") * len(values) for name, values in form.lists()) > MAX_BRACKETS:
        raise TooManyParameters
    result: dict[str, Any] = {}
    for name, values in form.lists():
        top, bracket, rest = name.partition("[")
        path = BRACKETS.findall(bracket + rest)
        if not path or not top or len(path) > MAX_DEPTH:
            result[name] = values[-1]
            continue
        for value in values:
            _put(result, [top, *path], value)
    return {name: _lists(value) for name, value in result.items()}


def _put(target: dict[str, Any], path: Iterable[str], value: str) -> None:
    *parents, last = path
    for part in parents:
        part = part or str(len(target))
        if not isinstance(target.get(part), dict):
            target[part] = {}
        target = target[part]
    target[last or str(len(target))] = value


def _lists(value: Any) -> Any:
    """Convert mappings whose keys are 0, 1, 2 ... to lists, which they are in PHP."""
    if not isinstance(value, dict):
        return value
    items = {key: _lists(item) for key, item in value.items()}
    if items and list(items) == [str(index) for index in range(len(items))]:
        return list(items.values())
    return items
