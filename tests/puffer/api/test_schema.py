"""WordPress' types, coercions and error texts, one row per rule, recorded from a real WordPress."""

import pytest

from puffer.api.errors import InvalidParameters, MissingParameters
from puffer.api.schema import Array, Boolean, Integer, Object, Parameters, String, StringOrArray

THING = Parameters(
    name=String(required=True),
    kind=String(required=True, enum=["red", "green"]),
    only=String(enum=["a"]),
    three=String(enum=["a", "b", "c"]),
    count=Integer(minimum=1, maximum=5, default=1),
    seed=Integer(minimum=0),
    percent=Integer(maximum=100),
    flag=Boolean(),
    tags=Array(String(enum=["a", "b"])),
    opts=Object({"depth": Integer(required=True), "mode": String(enum=["x", "y"])}),
    free=Object(),
    short=String(max_length=3),
    few=Array(String(), max_items=2),
    messages=Array(Object({"role": String(required=True, enum=["user"]), "content": String(required=True)})),
    input=StringOrArray(String(), max_items=3),
    pair=Array(Integer(), max_items=2),
    small=Object(max_properties=2),
)
GOOD = {"name": "abc", "kind": "red"}


@pytest.mark.parametrize(
    ("sent", "values"),
    [
        ({}, {"count": 1, "flag": None}),
        ({"count": "3"}, {"count": 3}),
        ({"count": 2.0}, {"count": 2}),
        ({"count": "2.0"}, {"count": 2}),
        ({"count": " 2 "}, {"count": 2}),
        ({"seed": "1e3"}, {"seed": 1000}),
        ({"flag": "true"}, {"flag": True}),
        ({"flag": "TRUE"}, {"flag": True}),
        ({"flag": "false"}, {"flag": False}),
        ({"flag": "0"}, {"flag": False}),
        ({"flag": 1}, {"flag": True}),
        ({"flag": 0}, {"flag": False}),
        ({"tags": "a,b"}, {"tags": ["a", "b"]}),
        ({"tags": "a b"}, {"tags": ["a", "b"]}),
        ({"tags": {"0": "a", "1": "b"}}, {"tags": ["a", "b"]}),
        ({"tags": {}}, {"tags": []}),
        ({"opts": {"depth": "1", "more": [1]}}, {"opts": {"depth": 1, "more": [1]}}),
        ({"free": ""}, {"free": {}}),
        ({"short": "äöü"}, {"short": "äöü"}),
        ({"few": "a,b"}, {"few": ["a", "b"]}),
        ({"free": [1]}, {"free": {"0": 1}}),
        ({"input": "a, b"}, {"input": "a, b"}),  # a string is not split where a string is allowed
        ({"input": ["a", "b"]}, {"input": ["a", "b"]}),
        ({"input": 123}, {"input": ["123"]}),
        ({"unknown": 1}, {}),
    ],
)
def test_accepted_values_are_coerced(sent, values):
    validated = THING.validate({**GOOD, **sent})
    assert {name: validated[name] for name in values} == values
    assert "unknown" not in validated


@pytest.mark.parametrize(
    ("sent", "name", "code", "message", "data"),
    [
        ({"count": "abc"}, "count", "rest_invalid_type", "count is not of type integer.", {"param": "count"}),
        ({"count": 2.5}, "count", "rest_invalid_type", "count is not of type integer.", {"param": "count"}),
        ({"count": True}, "count", "rest_invalid_type", "count is not of type integer.", {"param": "count"}),
        ({"count": None}, "count", "rest_invalid_type", "count is not of type integer.", {"param": "count"}),
        ({"count": "1e999"}, "count", "rest_invalid_type", "count is not of type integer.", {"param": "count"}),
        ({"count": "9" * 5000}, "count", "rest_invalid_type", "count is not of type integer.", {"param": "count"}),
        ({"name": 123}, "name", "rest_invalid_type", "name is not of type string.", {"param": "name"}),
        ({"name": True}, "name", "rest_invalid_type", "name is not of type string.", {"param": "name"}),
        ({"name": ["x"]}, "name", "rest_invalid_type", "name is not of type string.", {"param": "name"}),
        ({"name": {"a": 1}}, "name", "rest_invalid_type", "name is not of type string.", {"param": "name"}),
        ({"flag": "maybe"}, "flag", "rest_invalid_type", "flag is not of type boolean.", {"param": "flag"}),
        ({"flag": "yes"}, "flag", "rest_invalid_type", "flag is not of type boolean.", {"param": "flag"}),
        ({"flag": ""}, "flag", "rest_invalid_type", "flag is not of type boolean.", {"param": "flag"}),
        ({"flag": 2}, "flag", "rest_invalid_type", "flag is not of type boolean.", {"param": "flag"}),
        ({"kind": "blue"}, "kind", "rest_not_in_enum", "kind is not one of red and green.", None),
        ({"kind": "RED"}, "kind", "rest_not_in_enum", "kind is not one of red and green.", None),
        ({"kind": 5}, "kind", "rest_invalid_type", "kind is not of type string.", {"param": "kind"}),
        ({"only": "b"}, "only", "rest_not_in_enum", "only is not a.", None),
        ({"three": "d"}, "three", "rest_not_in_enum", "three is not one of a, b, and c.", None),
        ({"short": "abcd"}, "short", "rest_too_long", "short must be at most 3 characters long.", None),
        ({"few": ["a", "b", "c"]}, "few", "rest_too_many_items", "few must contain at most 2 items.", None),
        ({"count": 0}, "count", "rest_out_of_bounds", "count must be between 1 (inclusive) and 5 (inclusive)", None),
        ({"count": 9}, "count", "rest_out_of_bounds", "count must be between 1 (inclusive) and 5 (inclusive)", None),
        ({"seed": -1}, "seed", "rest_out_of_bounds", "seed must be greater than or equal to 0", None),
        ({"percent": 101}, "percent", "rest_out_of_bounds", "percent must be less than or equal to 100", None),
        ({"tags": "a,zzz"}, "tags", "rest_not_in_enum", "tags[1] is not one of a and b.", None),
        ({"tags": [["n"]]}, "tags", "rest_invalid_type", "tags[0] is not of type string.", {"param": "tags[0]"}),
        ({"tags": {"k": "a"}}, "tags", "rest_invalid_type", "tags is not of type array.", {"param": "tags"}),
        ({"tags": 5}, "tags", "rest_not_in_enum", "tags[0] is not one of a and b.", None),
        ({"opts": {}}, "opts", "rest_property_required", "depth is a required property of opts.", None),
        ({"opts": [1]}, "opts", "rest_property_required", "depth is a required property of opts.", None),
        ({"opts": ""}, "opts", "rest_property_required", "depth is a required property of opts.", None),
        ({"opts": "str"}, "opts", "rest_invalid_type", "opts is not of type object.", {"param": "opts"}),
        ({"opts": {"depth": "x"}}, "opts", "rest_invalid_type", "opts[depth] is not of type integer.", {"param": "opts[depth]"}),
        ({"opts": {"depth": 1, "mode": "z"}}, "opts", "rest_not_in_enum", "opts[mode] is not one of x and y.", None),
        # Only the first invalid item is reported; in it, missing properties come before invalid ones.
        ({"messages": [{"role": "bad"}]}, "messages", "rest_property_required", "content is a required property of messages[0].", None),
        ({"messages": "Hi"}, "messages", "rest_invalid_type", "messages[0] is not of type object.", {"param": "messages[0]"}),
        ({"messages": {"role": "user"}}, "messages", "rest_invalid_type", "messages is not of type array.", {"param": "messages"}),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "bad", "content": "y"}]}, "messages", "rest_not_in_enum", "messages[1][role] is not user.", None),
        ({"messages": [{"role": "user", "content": 5}]}, "messages", "rest_invalid_type", "messages[0][content] is not of type string.", {"param": "messages[0][content]"}),
        ({"input": {"a": "b"}}, "input", "rest_invalid_type", "input is not of type string,array.", {"param": "input"}),
        ({"input": None}, "input", "rest_invalid_type", "input is not of type string,array.", {"param": "input"}),
        ({"input": 4 * ["a"]}, "input", "rest_too_many_items", "input must contain at most 3 items.", None),
        ({"pair": "1,2,3"}, "pair", "rest_too_many_items", "pair must contain at most 2 items.", None),
        ({"pair": {"0": 1, "1": 2, "2": 3}}, "pair", "rest_too_many_items", "pair must contain at most 2 items.", None),
        ({"small": dict.fromkeys("abc")}, "small", "rest_too_many_properties", "small must contain at most 2 properties.", None),
        ({"input": ["a", 5]}, "input", "rest_invalid_type", "input[1] is not of type string.", {"param": "input[1]"}),
    ],
)  # fmt: skip
def test_invalid_values_are_refused(sent, name, code, message, data):
    with pytest.raises(InvalidParameters) as refusal:
        THING.validate({**GOOD, **sent})
    assert refusal.value.body() == {
        "code": "rest_invalid_param",
        "message": f"Invalid parameter(s): {name}",
        "data": {
            "status": 400,
            "params": {name: message},
            "details": {name: {"code": code, "message": message, "data": data}},
        },
    }


def test_all_invalid_parameters_are_reported_together_in_the_order_sent():
    with pytest.raises(InvalidParameters) as refusal:
        THING.validate({"flag": "maybe", "name": "abc", "count": 9, "kind": "blue"})
    assert refusal.value.message == "Invalid parameter(s): flag, count, kind"


@pytest.mark.parametrize("sent", [{"kind": "blue", "count": 99}, {"name": None, "kind": "blue"}])
def test_missing_parameters_are_reported_alone(sent):
    with pytest.raises(MissingParameters) as refusal:
        THING.validate(sent)
    assert refusal.value.body()["data"] == {"status": 400, "params": ["name"]}


def test_missing_parameters_are_reported_in_declaration_order():
    with pytest.raises(MissingParameters) as refusal:
        THING.validate({})
    assert refusal.value.message == "Missing parameter(s): name, kind"


def test_defaults_are_not_shared_between_requests():
    parameters = Parameters(a=String(default="x"))
    first = parameters.validate({})
    first["a"] = "changed"
    assert parameters.validate({}) == {"a": "x"}
