"""A view's declared parameters: WordPress' types, coercions, bounds and error shapes, and the source of the OpenAPI
document.

A declaration is compiled once, when the view is loaded, into plain functions. The rules are those of WordPress' REST
layer (rest_validate_value_from_schema and rest_sanitize_value_from_schema), checked against recorded answers.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from puffer.api.errors import InvalidParameters, MissingParameters, Problem

# (value, path such as "messages[0][role]") -> the value in its declared type; raises Problem
Check = Callable[[Any, str], Any]

NUMERIC = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?\s*\Z")
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def wrong_type(path: str, type_name: str) -> Problem:
    return Problem("rest_invalid_type", f"{path} is not of type {type_name}.", {"param": path})


def listed(words: Iterable[str]) -> str:
    """Join words in WordPress' way: "a", "a and b", "a, b, and c"."""
    *others, last = words
    if not others:
        return last
    return f"{', '.join(others)}{',' if len(others) > 1 else ''} and {last}"


class Parameter(ABC):
    """One declared parameter, or an item or property of one. `description` is for the OpenAPI document."""

    type_name: str

    def __init__(self, *, required: bool = False, default: Any = None, description: str = "") -> None:
        self.required = required
        self.default = default
        self.description = description

    @abstractmethod
    def check(self) -> Check: ...

    def json_schema(self) -> dict[str, Any]:
        """Return the declaration as JSON Schema, in which WordPress describes it too."""
        schema: dict[str, Any] = {"type": self.type_name}
        if self.description:
            schema["description"] = self.description
        if self.default is not None:
            schema["default"] = self.default
        return schema


class String(Parameter):
    type_name = "string"

    def __init__(self, *, enum: Iterable[str] | None = None, max_length: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.enum = list(enum) if enum else None
        self.max_length = max_length

    def check(self) -> Check:
        allowed = frozenset(self.enum or ())
        if not self.enum:
            refusal = ""
        elif len(self.enum) == 1:
            refusal = f"is not {self.enum[0]}."
        else:
            refusal = f"is not one of {listed(self.enum)}."

        def check(value: Any, path: str) -> str:
            if not isinstance(value, str):
                raise wrong_type(path, "string")
            if allowed and value not in allowed:
                raise Problem("rest_not_in_enum", f"{path} {refusal}")
            if self.max_length is not None and len(value) > self.max_length:
                raise Problem("rest_too_long", f"{path} must be at most {self.max_length} characters long.")
            return value

        return check

    def json_schema(self) -> dict[str, Any]:
        bounds = {"enum": self.enum, "maxLength": self.max_length}
        return super().json_schema() | {name: bound for name, bound in bounds.items() if bound}


class Integer(Parameter):
    """A whole number, also as "5", 5.0 or "5.0". Handlers get an int."""

    type_name = "integer"

    def __init__(self, *, minimum: int | None = None, maximum: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.minimum, self.maximum = minimum, maximum

    def check(self) -> Check:
        low = float("-inf") if self.minimum is None else self.minimum
        high = float("inf") if self.maximum is None else self.maximum
        if self.maximum is None:
            refusal = f"must be greater than or equal to {self.minimum}"
        elif self.minimum is None:
            refusal = f"must be less than or equal to {self.maximum}"
        else:
            refusal = f"must be between {self.minimum} (inclusive) and {self.maximum} (inclusive)"

        def check(value: Any, path: str) -> int:
            number = whole_number(value)
            if number is None:
                raise wrong_type(path, "integer")
            if not low <= number <= high:
                raise Problem("rest_out_of_bounds", f"{path} {refusal}")
            return number

        return check

    def json_schema(self) -> dict[str, Any]:
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        return super().json_schema() | {name: bound for name, bound in bounds.items() if bound is not None}


def whole_number(value: Any) -> int | None:
    """Return the int that PHP reads from a number or a numeric string without a fraction, else None."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > 400 or not NUMERIC.match(value):
            return None
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


class Boolean(Parameter):
    """A boolean, also as 0, 1, "0", "1", "true" or "false" in any letter case."""

    type_name = "boolean"

    def check(self) -> Check:
        def check(value: Any, path: str) -> bool:
            if isinstance(value, bool):
                return value
            known = BOOLEANS.get(value.lower() if isinstance(value, str) else str(value))
            if known is None:
                raise wrong_type(path, "boolean")
            return known

        return check


class Array(Parameter):
    """A list. A scalar, as forms and queries send it, is split at commas and white space."""

    type_name = "array"

    def __init__(self, items: Parameter, *, max_items: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.items, self.max_items = items, max_items

    def check(self) -> Check:
        check_item, max_items = self.items.check(), self.max_items
        cuts = -1 if max_items is None else max_items  # which leave one item too many; -1: no limit

        def check(value: Any, path: str) -> list[Any]:
            if isinstance(value, (str, int, float)):
                value = _as_text(value).replace(",", " ").split(None, cuts)
            elif isinstance(value, dict) and all(key.isdigit() for key in value):
                value = list(value.values())
            if not isinstance(value, list):
                raise wrong_type(path, "array")
            if max_items is not None and len(value) > max_items:
                raise Problem("rest_too_many_items", f"{path} must contain at most {max_items} items.")
            return [check_item(item, f"{path}[{index}]") for index, item in enumerate(value)]

        return check

    def json_schema(self) -> dict[str, Any]:
        limit = {} if self.max_items is None else {"maxItems": self.max_items}
        return super().json_schema() | {"items": self.items.json_schema(), **limit}


def _as_text(value: str | float) -> str:
    """Return a scalar as PHP writes it: true is "1", false is ""."""
    if isinstance(value, bool):
        return "1" if value else ""
    return str(value)


class Object(Parameter):
    """A JSON object. Undeclared properties are kept. A list is accepted (both are arrays in PHP), and so is ""."""

    type_name = "object"

    def __init__(
        self, properties: dict[str, Parameter] | None = None, *, max_properties: int | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.properties, self.max_properties = properties or {}, max_properties

    def check(self) -> Check:
        required = [name for name, declared in self.properties.items() if declared.required]
        checks = {name: declared.check() for name, declared in self.properties.items()}
        most = self.max_properties

        def check(value: Any, path: str) -> dict[str, Any]:
            if value == "":
                value = {}
            elif isinstance(value, list):
                value = {str(index): item for index, item in enumerate(value)}
            if not isinstance(value, dict):
                raise wrong_type(path, "object")
            if most is not None and len(value) > most:
                raise Problem("rest_too_many_properties", f"{path} must contain at most {most} properties.")
            for name in required:
                if name not in value:
                    raise Problem("rest_property_required", f"{name} is a required property of {path}.")
            return {
                name: checks[name](item, f"{path}[{name}]") if name in checks else item for name, item in value.items()
            }

        return check

    def json_schema(self) -> dict[str, Any]:
        schema = super().json_schema()
        if self.max_properties is not None:
            schema["maxProperties"] = self.max_properties
        if self.properties:
            schema["properties"] = {name: declared.json_schema() for name, declared in self.properties.items()}
            if required := [name for name, declared in self.properties.items() if declared.required]:
                schema["required"] = required
        return schema


class StringOrArray(Parameter):
    """A string, which is not split, or a list by the rules of Array."""

    type_name = "string,array"

    def __init__(self, items: Parameter, *, max_items: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.array = Array(items, max_items=max_items)

    def check(self) -> Check:
        check_array = self.array.check()

        def check(value: Any, path: str) -> Any:
            if isinstance(value, str):
                return value
            if (isinstance(value, dict) and not all(key.isdigit() for key in value)) or value is None:
                raise wrong_type(path, self.type_name)
            return check_array(value, path)

        return check

    def json_schema(self) -> dict[str, Any]:
        return super().json_schema() | self.array.json_schema() | {"type": ["string", "array"]}


class Lenient(Parameter):
    """A parameter with its own sanitizer: the handler gets `sanitize(value)`, and no value is refused."""

    def __init__(self, declared: Parameter, sanitize: Callable[[Any], Any]) -> None:
        super().__init__(required=declared.required, default=declared.default, description=declared.description)
        self.declared = declared
        self.sanitize = sanitize

    def check(self) -> Check:
        return lambda value, path: self.sanitize(value)

    def json_schema(self) -> dict[str, Any]:
        return self.declared.json_schema()


class Parameters:
    """The parameters of a view, in the order in which missing ones are reported."""

    def __init__(self, **declared: Parameter) -> None:
        self.declared = declared
        self.required = [name for name, parameter in declared.items() if parameter.required]
        self.checks = {name: parameter.check() for name, parameter in declared.items()}
        self.defaults = {name: parameter.default for name, parameter in declared.items()}

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        """Return every declared parameter by name, in its type or with its default. Unknown ones are dropped.

        Raise MissingParameters if any is missing, else InvalidParameters with every invalid one.
        """
        if missing := [name for name in self.required if sent.get(name) is None]:
            raise MissingParameters(missing)
        values = dict(self.defaults)
        problems: dict[str, Problem] = {}
        for name, value in sent.items():
            if check := self.checks.get(name):
                try:
                    values[name] = check(value, name)
                except Problem as problem:
                    problems[name] = problem
        if problems:
            raise InvalidParameters(problems)
        return values
