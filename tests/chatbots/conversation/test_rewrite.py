"""The rewrite of follow-up questions: when the model is asked, what it gets, and what of its answer is searched for."""

import json
import time

import pytest

from chatbots.conversation import rewrite
from chatbots.conversation.trace import trace_turn
from chatbots.conversation.turn import take_turn
from chatbots.models import Chatbot, TokenAllowance
from logs.models import Message, UsageEvent
from providers.run_async import run_async
from tests.support.guests import guest
from tests.support.knowledge.shop import OPENING, RETURNS
from tests.support.providers.answers import ANTHROPIC_MESSAGE, CHAT_COMPLETION
from tests.support.upstream import answering

HISTORY = [
    {"role": "user", "content": "Within how many days may shoes be returned?"},
    {"role": "assistant", "content": "Within 45 days. [1]"},
]
QUESTION = "And who pays for that?"
REWRITTEN = "Who pays for the return of shoes?"
WITH_CONTEXT = f"{HISTORY[0]['content']}\n{QUESTION}"


@pytest.fixture
def bot(store):
    store(RETURNS, OPENING)
    return Chatbot.objects.create(
        name="Shop", provider="openai", model="gpt-4o-mini", instructions="Sell shoes.", enable_vector_store=True,
        collections=["shop"], vector_store_confidence_threshold=10, rewrite_questions=True,
    )  # fmt: skip


def completion(text, **choice):
    message = {"role": "assistant", "content": text}
    return CHAT_COMPLETION | {"choices": [CHAT_COMPLETION["choices"][0] | {"message": message} | choice]}


def is_rewrite(sent):
    return "/chat/completions" in sent.path and sent.json["messages"][0]["content"] == rewrite.INSTRUCTIONS


@pytest.fixture
def rewrites(openai):
    """Return a function that sets how the server behaves when it is asked for a rewrite; it replies "Hi!" to others."""

    def behave(behavior):
        def either(connection):
            (behavior if is_rewrite(connection.received) else answering(CHAT_COMPLETION))(connection)

        openai.pages["/v1/chat/completions"] = either

    behave(answering(completion(REWRITTEN)))
    return behave


def ask(api, bot, question=QUESTION, history=HISTORY):
    answer = api.post(f"/chat/{bot.pk}/message", json={"messages": [*history, {"role": "user", "content": question}]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["reply"] == "Hi!"
    return answer


def embedded(openai):
    (texts,) = [sent.json["input"] for sent in openai.sent if sent.path == "/v1/embeddings"]
    return texts


def test_a_follow_up_is_searched_for_as_rewritten(api, bot, openai, rewrites):
    ask(api, bot)
    assert [sent.path.rpartition("/")[2] for sent in openai.sent] == ["completions", "embeddings", "completions"]
    assert embedded(openai) == [QUESTION, REWRITTEN]
    call = openai.sent[0].json
    assert (call["model"], call["temperature"], call["max_completion_tokens"]) == ("gpt-4o-mini", 0.0, 200)
    assert call.get("stream") is None
    [system, user] = call["messages"]
    assert system["content"] == rewrite.INSTRUCTIONS
    assert user["content"] == (
        "The conversation:\nVisitor: Within how many days may shoes be returned?\nAssistant: Within 45 days.\n\n"
        f"The visitor's last message:\n{QUESTION}"
    )
    reply = openai.sent[-1].json["messages"]
    assert REWRITTEN not in json.dumps(reply)
    assert reply[-1]["content"].endswith(QUESTION)


def test_what_was_searched_for_is_in_the_log_and_not_in_the_api(api, bot, openai, rewrites):
    answer = ask(api, bot)
    assert list(answer.json()) == ["reply", "usage", "bot_id", "model", "conversation_uuid", "sources"]
    question, reply = Message.objects.order_by("id")
    assert (question.searched_for, reply.searched_for) == ("", REWRITTEN)
    assert REWRITTEN not in api.get("/logs").text


def test_the_log_redacts_what_was_searched_for(api, bot, openai, rewrites, settings):
    settings.REDACT = ["email"]
    rewrites(answering(completion("May ada@shop.example return shoes?")))
    ask(api, bot)
    assert embedded(openai) == [QUESTION, "May ada@shop.example return shoes?"]
    assert Message.objects.get(role="bot").searched_for == "May [e-mail] return shoes?"


@pytest.mark.parametrize(
    ("question", "history"),
    [
        (QUESTION, []),  # the beginning of a conversation
        (QUESTION, [{"role": "assistant", "content": "Welcome! How can I help?"}]),
        ("Thanks a lot!", HISTORY),
        ("x" * 1001, HISTORY),  # says enough by itself
    ],
)
def test_other_messages_are_not_rewritten(api, bot, openai, rewrites, question, history):
    ask(api, bot, question, history)
    assert not any(map(is_rewrite, openai.sent))


@pytest.mark.parametrize("setting", [{"rewrite_questions": False}, {"enable_vector_store": False}])
def test_without_the_setting_or_knowledge_nothing_is_rewritten(api, bot, openai, rewrites, setting):
    Chatbot.objects.filter(pk=bot.pk).update(**setting)
    ask(api, bot)
    assert not any(map(is_rewrite, openai.sent))


def test_a_yes_after_an_offer_is_rewritten(api, bot, openai, rewrites):
    offer = {"role": "assistant", "content": "Within 45 days. Shall I tell you who pays?"}
    ask(api, bot, "OK", [HISTORY[0], offer])
    assert embedded(openai) == ["OK", REWRITTEN]


def test_a_question_that_the_model_repeats_is_searched_for_alone(api, bot, openai, rewrites):
    rewrites(answering(completion("When does  the shop open?\n")))
    ask(api, bot, "When does the shop open?")
    assert embedded(openai) == ["When does the shop open?"]
    assert Message.objects.get(role="bot").searched_for == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"“{REWRITTEN}”", REWRITTEN),
        (f"**{REWRITTEN}**", REWRITTEN),
        (f"\n\n  {REWRITTEN}\n\n", REWRITTEN),
        (f"<think>They mean\nshoes.</think>\n{REWRITTEN}", REWRITTEN),
        (f"They mean shoes.\n</think>\n\n{REWRITTEN}", REWRITTEN),
        ("Who\x07 pays\t\u202efor\u200b \x1b[31mAB-1234?", "Who pays for [31mAB-1234?"),
    ],
)
def test_what_models_put_around_the_question_is_removed(api, bot, openai, rewrites, text, expected):
    rewrites(answering(completion(text)))
    ask(api, bot)
    assert embedded(openai) == [QUESTION, expected]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (completion("Here is the question:\n\nWho pays?"), "did not answer with one line"),
        (completion("Who pays? " * 60), "longer than 500 characters"),
        (completion("…?!"), "contains no words"),
        (completion('""'), "contains no words"),
        (completion("\u200b\u2028\u200b"), "did not answer with one line"),
        (completion(REWRITTEN, finish_reason="length"), "was cut off"),
        (completion("Who pays for", finish_reason="content_filter"), "was cut off"),
        (completion(""), "without text"),
        (completion("<think>Hm. " * 50, finish_reason="length"), "without text"),
        ({"choices": []}, "cannot be read"),
        (["?"], "cannot be read"),
        (b"<html>Bad gateway</html>", "cannot be read"),
    ],
)
def test_anything_else_is_not_searched_for(bot, openai, rewrites, body, reason):
    rewrites(answering(body))
    trace = run_async(lambda: trace_turn(bot, QUESTION, history=HISTORY, visitor=guest()))
    assert trace.reply.text == "Hi!"
    assert reason in str(trace.found.rewrite.failure)
    assert trace.found.search.questions == embedded(openai) == [QUESTION, WITH_CONTEXT]
    assert Message.objects.get(role="bot").searched_for == WITH_CONTEXT


@pytest.mark.parametrize(("status", "recorded"), [(401, 502), (429, 429), (500, 502), (503, 503)])
def test_a_failing_provider_does_not_fail_the_turn(api, bot, openai, rewrites, status, recorded):
    rewrites(answering({"error": {"message": "out of order"}}, status))
    ask(api, bot)
    assert embedded(openai) == [QUESTION, WITH_CONTEXT]
    assert UsageEvent.objects.get(operation="rewrite").status == recorded


def test_a_slow_model_is_not_waited_for(api, bot, openai, rewrites, monkeypatch):
    monkeypatch.setattr(rewrite, "SECONDS", 0.05)
    rewrites(lambda connection: time.sleep(1))
    ask(api, bot)
    assert embedded(openai) == [QUESTION, WITH_CONTEXT]
    event = UsageEvent.objects.get(operation="rewrite")
    assert (event.status, event.error_code) == (504, "http_request_failed")


def test_long_messages_are_shortened(api, bot, openai, rewrites):
    history = [{"role": "user", "content": "a" * 5000}, {"role": "assistant", "content": f"{'b' * 5000} Shall I?"}]
    ask(api, bot, history=[*HISTORY, *history, *HISTORY, *HISTORY])
    sent = next(filter(is_rewrite, openai.sent)).json["messages"][1]["content"]
    assert len(sent) < 3000
    assert "b Shall I?" in sent
    assert sent.count("Visitor: ") == 3


def test_special_tokens_of_a_visitor_are_only_text(api, bot, openai, rewrites):
    ask(api, bot, "And <|im_end|> that?")
    sent = next(filter(is_rewrite, openai.sent)).json["messages"]
    assert len(sent) == 2
    assert sent[1]["content"].endswith("And < |im_end|> that?")


def test_each_provider_can_rewrite(api, bot, openai):
    Chatbot.objects.filter(pk=bot.pk).update(provider="claude", model="m")
    openai.pages["/v1/messages"] = answering(ANTHROPIC_MESSAGE)
    ask(api, bot)
    first, _ = [sent.json for sent in openai.sent if sent.path == "/v1/messages"]
    assert (first["system"], first["max_tokens"], first["temperature"]) == (rewrite.INSTRUCTIONS, 200, 0.0)
    assert embedded(openai) == [QUESTION, "Hi!"]


# Usage


def test_the_call_is_recorded(api, bot, api_key, openai, rewrites):
    ask(api, bot)
    event = UsageEvent.objects.get(operation="rewrite")
    assert (event.chatbot, event.api_key, event.provider, event.model) == (bot, api_key, "openai", "gpt-4o-mini")
    assert (event.input_tokens, event.output_tokens, event.status) == (11, 5, 200)
    assert event.cost > 0
    assert UsageEvent.objects.get(operation="completion").input_tokens == 11


@pytest.mark.parametrize(
    ("body", "used"),
    [
        (completion(REWRITTEN), 32),  # both calls report 16 tokens
        (completion("No\nquestion"), 32),
        (completion("<think>Hm.", finish_reason="length"), 32),
        ({"error": {"message": "down"}}, 16),
    ],
)
def test_the_call_counts_against_the_limits(bot, openai, rewrites, body, used):
    rewrites(answering(body, 500 if "error" in body else 200))
    bot.tokens_per_day = bot.token_guest_limit = 100_000
    bot.save()
    run_async(lambda: take_turn(bot, QUESTION, history=HISTORY, visitor=guest()))
    assert {allowance.used for allowance in TokenAllowance.objects.all()} == {used}
