"""The parameters of a request: JSON body, form and query as one mapping, in WordPress' order of precedence."""

import re
from collections.abc import Iterable
from typing import Any

import orjson
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParserError

from puffer.api.errors import InvalidForm, InvalidJson

JSON_TYPE = re.compile(r"application/([\w.-]+\+)?json\Z")
FORM_TYPES = {"application/x-www-form-urlencoded", "multipart/form-data"}
BRACKETS = re.compile(r"\[([^\[\]]*)\]")
MAX_DEPTH = 64  # PHP's max_input_nesting_level


def read_parameters(request: HttpRequest) -> dict[str, Any]:
    """Return every parameter by name. Raise InvalidJson or InvalidForm; a body of another type has no parameters."""
    parameters = nested(request.GET)
    content_type = request.content_type or ""
    if request.method in ("POST", "PUT", "PATCH", "DELETE"):
        if content_type in FORM_TYPES:
            parameters.update(_form(request))
        elif JSON_TYPE.match(content_type):
            parameters.update(_json(request.body))
    return parameters


def _json(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "UTF-8: " in str(error):
            raise InvalidJson(5, "Malformed UTF-8 characters, possibly incorrectly encoded") from None
        if "control character" in str(error):
            raise InvalidJson(3, "Control character error, possibly incorrectly encoded") from None
        raise InvalidJson from None
    return parsed if isinstance(parsed, dict) else {}  # a list or a scalar has no named parameters


def _form(request: HttpRequest) -> dict[str, Any]:
    try:
        return nested(request.POST)
    except (SuspiciousOperation, MultiPartParserError, UnicodeDecodeError, LookupError):
        raise InvalidForm from None


def nested(form: QueryDict) -> dict[str, Any]:
    """Resolve PHP's bracket syntax: `tags[]=a&opts[depth]=1` is {"tags": ["a"], "opts": {"depth": "1"}}."""
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
