"""Messages as each provider is sent them, and the answers."""

import datetime
import json
from copy import deepcopy
from zoneinfo import ZoneInfo

import pytest

from providers.registry import PROVIDERS
from providers.use_cases.completions import DEFAULT_INSTRUCTIONS
from tests.support.providers.answers import ANTHROPIC_MESSAGE, CHAT_COMPLETION, COMPLETIONS, GENERATED_CONTENT
from tests.support.providers.bodies import GOOGLE_USAGE, request_body
from tests.support.providers.requests import generate


@pytest.mark.parametrize(
    ("instruction", "system", "sent"),
    [
        ("You are Ada.", [], "You are Ada."),
        ("  \r\n ", [], DEFAULT_INSTRUCTIONS),
        (None, ["Be brief."], "Be brief."),
        ("You are Ada.", ["Be brief.", " ", "Be kind."], "You are Ada.\n\nBe brief.\n\nBe kind."),
        ("Hello [username]!", [], "Hello !"),  # API keys have no user
        ("<b>You</b> are Ada.", [], "<b>You</b> are Ada."),
        ("a\r\nb\rc\x00\x07d\te", [], "a\nb\ncd\te"),
        (None, ["[username]"], "[username]"),  # placeholders work in the instruction only
    ],
)
def test_the_instruction_and_system_messages_are_joined(api, upstream, instruction, system, sent):
    messages = [{"role": "system", "content": text} for text in system] + [{"role": "user", "content": "Hi"}]
    options = {} if instruction is None else {"system_instruction": instruction}
    assert request_body(api, upstream, "openai", messages=messages, **options)["messages"][0]["content"] == sent


def test_the_date_placeholder_is_today_in_the_sites_time_zone(api, upstream, settings):
    settings.TIME_ZONE = "Pacific/Kiritimati"  # the time zone where each day starts first
    days = []
    for _ in range(2):  # the test may run at midnight
        today = datetime.datetime.now(ZoneInfo("Pacific/Kiritimati"))
        days.append(f"{today:%B} {today.day}, {today.year}")
        upstream.will_answer(CHAT_COMPLETION)
        generate(api, "openai", content="[date]", system_instruction="[date] and [date]")
    system, user = upstream.sent[-1].json["messages"]
    assert system["content"] in [f"{day} and {day}" for day in days]
    assert user["content"] == "[date]"


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ("  Hi \n", "Hi"),
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("a\x00b\x08c\x1fd\x7fe\tf", "abcde\tf"),
        ("<script>alert('&amp;')</script>", "<script>alert('&amp;')</script>"),
        ("Grüße, 你好, 👩‍🚀, \u202e, e\u0301", "Grüße, 你好, 👩‍🚀, \u202e, e\u0301"),
        ('"\\{}', '"\\{}'),
    ],
)
def test_control_characters_are_removed_from_messages(api, upstream, content, sent):
    assert request_body(api, upstream, "openai", content=content)["messages"][1] == {"role": "user", "content": sent}


@pytest.mark.parametrize("slug", PROVIDERS)
def test_unicode_is_preserved_in_both_directions(api, upstream, slug):
    text = "Grüße, 你好, 👩"
    upstream.will_answer(json.dumps(COMPLETIONS[slug], ensure_ascii=False).replace("Hi!", text).encode())
    assert generate(api, slug, content=text).json()["content"] == text
    assert text in str(upstream.sent[0].json)


def test_blank_messages_are_dropped(api, upstream):
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": " \r\n\x00 "},
        {"role": "user", "content": ""},
        {"role": "user", "content": "Still there?", "name": "Eve", "extra": 1},
    ]
    assert request_body(api, upstream, "openai", messages=messages)["messages"][1:] == [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "Still there?"},
    ]


@pytest.mark.parametrize("slug", ["openai", "google"])
@pytest.mark.parametrize("content", ["", " \n", "\x00", "\u200b", "\ufeff\u00ad\u2060", "\u3164", "\u2800\ufe0f"])
def test_a_message_without_anything_to_see_is_not_sent(api, upstream, slug, content):
    answer = generate(api, slug, content=content)
    assert (answer.status_code, answer.json()["code"]) == (400, "rest_aipkit_invalid_param")
    assert upstream.sent == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"model": " "}, "rest_aipkit_missing_param"),
        ({"messages": []}, "rest_aipkit_invalid_param"),
        ({"messages": 2001 * [{"role": "user", "content": "Hi"}]}, "rest_invalid_param"),
        ({"stream": True}, "rest_aipkit_streaming_not_supported"),
        ({"stream": True, "messages": []}, "rest_aipkit_invalid_param"),  # messages are validated first
        ({"messages": [{"role": "tool", "content": "x"}]}, "rest_invalid_param"),
        ({"provider": "mistral"}, "rest_invalid_param"),
    ],
)
def test_invalid_calls_are_not_sent(api, upstream, options, code):
    answer = generate(api, **{"provider": "openai", **options})
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert upstream.sent == []


def chat(**message):
    return {"choices": [{"message": message, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("slug", "answer", "text"),
    [
        ("openai", chat(content=" \n Hi! \n"), "Hi!"),
        ("openai", chat(content=[{"type": "text", "text": "H"}, {"type": "text", "text": "i!"}]), "Hi!"),
        ("openai", chat(content=[{"type": "reasoning"}, "?", {"type": "text", "text": "Hi!"}]), "Hi!"),
        ("openai", chat(content=None, refusal="I won't."), "I won't."),
        ("deepseek", chat(content="Hi!", reasoning_content="They greet me."), "Hi!"),
        ("openai", chat(content="<p>Hi!</p>"), "<p>Hi!</p>"),
        ("openai", {"choices": [{"message": {"content": "Hi"}, "finish_reason": "length"}]}, "Hi"),
        ("openai", {"choices": [{"message": {"content": "Hi"}, "finish_reason": "content_filter"}]}, "Hi"),
        ("openai", {"choices": [{"message": {"content": "Hi"}}], "error": None}, "Hi"),
        ("claude", {"content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i!"}]}, "Hi!"),
        ("claude", {"content": [{"type": "thinking", "thinking": "?"}, {"type": "text", "text": "Hi!"}]}, "Hi!"),
        ("google", {"candidates": [{"content": {"parts": [{"text": "H"}, {"text": "i!"}]}}]}, "Hi!"),
        (
            "google",
            {"candidates": [{"content": {"parts": [{"text": "Hm.", "thought": True}, {"text": "Hi!"}]}}]},
            "Hi!",
        ),
    ],
)
def test_the_text_is_read_from_every_shape_of_answer(api, upstream, slug, answer, text):
    upstream.will_answer(answer)
    assert generate(api, slug).json() == {
        "content": text,
        "usage": None,
        "provider": PROVIDERS[slug].label,
        "model": "some-model",
    }


@pytest.mark.filterwarnings("ignore:A_NEW_REASON is not a valid FinishReason")
def test_an_unknown_finish_reason_is_accepted(api, upstream):
    answer = deepcopy(GENERATED_CONTENT)
    answer["candidates"][0]["finishReason"] = "A_NEW_REASON"
    upstream.will_answer(answer)
    assert generate(api, "google").json()["content"] == "Hi!"


@pytest.mark.parametrize(
    ("slug", "usage", "expected"),
    [
        ("openai", {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, [3, 4, 7]),
        ("openai", {"prompt_tokens": 3, "completion_tokens": 4}, [3, 4, 7]),
        (
            "xai",
            {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 27},
            [3, 4, 27],
        ),  # the total includes reasoning tokens
        ("openrouter", {"input_tokens": 3, "output_tokens": 4}, [3, 4, 7]),  # the other naming scheme
        ("openai", {"prompt_tokens": 3.0, "completion_tokens": None, "total_tokens": "7"}, [3, 0, 3]),
        ("openai", {"prompt_tokens": -3, "completion_tokens": 1e300, "total_tokens": []}, [0, 2**31 - 1, 2**31 - 1]),
        ("openai", {}, None),
        ("openai", None, None),
        ("openai", "many", None),
        ("openai", [3, 4], None),
        ("claude", {"input_tokens": 3, "output_tokens": 4}, [3, 4, 7]),
        ("claude", {"output_tokens": 4}, [0, 4, 4]),
        ("claude", None, None),
        ("claude", "many", None),
        ("google", {"promptTokenCount": 3}, [3, 0, 3, 0, 0, 0]),
        (
            "google",
            {
                "promptTokenCount": 3,
                "candidatesTokenCount": 4,
                "totalTokenCount": 60,
                "cachedContentTokenCount": 2,
                "thoughtsTokenCount": 50,
                "toolUsePromptTokenCount": 3,
            },
            [3, 4, 60, 2, 50, 3],
        ),
        ("google", None, None),
    ],
)
def test_usage_is_normalized_to_whole_tokens(api, upstream, slug, usage, expected):
    name = "usageMetadata" if slug == "google" else "usage"
    upstream.will_answer({**COMPLETIONS[slug], name: usage})
    answer = generate(api, slug)
    assert answer.status_code == 200
    assert answer.json()["usage"] == (expected and dict(zip(GOOGLE_USAGE, expected, strict=False)))


def test_the_response_names_the_requested_model(api, upstream):
    upstream.will_answer(ANTHROPIC_MESSAGE)
    assert generate(api, "claude", model="claude-2.1").json()["model"] == "claude-2.1"
    assert upstream.sent[0].json["model"] == "claude-2.1"
