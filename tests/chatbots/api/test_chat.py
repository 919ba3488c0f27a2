"""POST /chat/{bot_id}/message: the prompt, the response and the log."""

import json
import re
from dataclasses import replace

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from logs.conversations.writer import Turn, write_turns
from logs.models import Conversation, Message, UsageEvent
from puffer.models import ApiKey
from tests.support.api import Api
from tests.support.processor import cpu_milliseconds
from tests.support.providers.answers import CHAT_COMPLETION, COMPLETIONS


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def ask(api, bot, *messages, **more):
    return api.post(f"/chat/{bot.pk}/message", json={"messages": list(messages) or [user("Hello")], **more})


def change(bot, **fields):
    for name, value in fields.items():
        setattr(bot, name, value)
    bot.save()


def test_the_reply_has_the_documented_shape(api, bot, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    response = ask(api, bot)
    assert response.status_code == 200
    answer = response.json()
    assert list(answer) == ["reply", "usage", "bot_id", "model", "conversation_uuid"]
    assert answer | {"conversation_uuid": None} == {
        "reply": "Hi!",
        "usage": {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16},
        "bot_id": bot.pk,
        "model": "gpt-4o-mini",
        "conversation_uuid": None,
    }
    assert re.fullmatch(r"[0-9a-f-]{36}", answer["conversation_uuid"])


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([user("x" * 100_001)], "rest_too_long"),
        ([user("Hi"), assistant("Hi")] * 500 + [user("Hi")], "rest_too_many_items"),
    ],
)
def test_a_conversation_has_an_end(api, bot, upstream, messages, code):
    response = ask(api, bot, *messages)
    assert response.status_code == 400
    assert response.json()["data"]["details"]["messages"]["code"] == code
    assert not upstream.sent


def test_a_heap_of_marks_stops_nothing(api, bot, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    text = "a" + "\u0315\u0316" * 49_000
    assert cpu_milliseconds(lambda: ask(api, bot, user(text)), 1000) < 1000
    assert len(upstream.sent) > 0


def test_the_prompt_contains_the_bots_settings_and_the_conversation(api, bot, upstream):
    change(bot, instructions="Sell shoes. It is [date]. Hello [username].", temperature=0.3, max_completion_tokens=77)
    upstream.will_answer(CHAT_COMPLETION)
    ask(api, bot, user("a"), assistant("b"), user(" c \r\n"))
    body = upstream.sent[0].json
    today = timezone.localdate()
    assert body["messages"] == [
        {"role": "system", "content": f"Sell shoes. It is {today:%B} {today.day}, {today.year}. Hello ."},
        user("a"),
        assistant("b"),
        user("c"),
    ]
    assert (body["model"], body["temperature"], body["max_completion_tokens"]) == ("gpt-4o-mini", 0.3, 77)


def test_the_prompt_is_limited_to_the_bots_max_messages(api, bot, upstream):
    change(bot, max_messages=2)
    upstream.will_answer(CHAT_COMPLETION)
    ask(api, bot, user("1"), assistant("2"), user("3"), assistant("4"), user("5"))
    assert [message["content"] for message in upstream.sent[0].json["messages"][1:]] == ["3", "4", "5"]


@pytest.mark.parametrize("slug", COMPLETIONS)
def test_a_bot_works_with_every_provider(api, bot, upstream, slug):
    change(bot, provider=slug, model="some-model")
    upstream.will_answer(COMPLETIONS[slug])
    assert ask(api, bot).json()["reply"] == "Hi!"


def test_a_bot_without_a_model_uses_and_reports_the_providers_default(api, bot, upstream):
    change(bot, model="")
    upstream.will_answer(CHAT_COMPLETION)
    assert ask(api, bot).json()["model"] == "gpt-5.6-luna"
    assert upstream.sent[0].json["model"] == "gpt-5.6-luna"


def test_a_bot_without_a_provider_uses_the_first_that_is_configured(api, bot, upstream, settings):
    change(bot, provider="", model="")
    settings.PROVIDER_ENVIRONMENT = {slug: settings.PROVIDER_ENVIRONMENT[slug] for slug in ("deepseek", "xai")}
    upstream.will_answer(CHAT_COMPLETION)
    assert ask(api, bot).json()["model"] == "deepseek-v4-flash"


def test_without_any_provider_the_status_is_503(api, bot, settings):
    change(bot, provider="", model="")
    settings.PROVIDER_ENVIRONMENT = {}
    response = ask(api, bot)
    assert response.status_code == 503
    assert response.json()["code"] in ("missing_model_orchestrator", "provider_not_installed")


@pytest.mark.parametrize(
    "messages",
    [[], [assistant("b")], [user("a"), assistant("b")], [user("")], [user("  \n ")], [user("\x00")], [user("\u200b")]],
)
def test_the_last_message_must_be_the_users_and_not_blank(api, bot, upstream, messages):
    response = api.post(f"/chat/{bot.pk}/message", json={"messages": messages})
    code = "rest_aipkit_invalid_last_message" if messages else "rest_aipkit_invalid_messages"
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert not upstream.sent


def test_messages_are_validated_before_the_bot_is_looked_up(api, db):
    assert api.post("/chat/999/message", json={"messages": []}).status_code == 400


@pytest.mark.parametrize("role", ["system", "tool", "USER", ""])
def test_other_roles_than_user_and_assistant_are_rejected(api, bot, role):
    response = ask(api, bot, {"role": role, "content": "x"})
    assert response.json()["data"]["details"]["messages"]["code"] == "rest_not_in_enum"


@pytest.mark.parametrize("bot_id", ["0", "999999", "99999999999999999999999999"])
def test_an_unknown_bot_is_404(api, db, bot_id):
    response = api.post(f"/chat/{bot_id}/message", json={"messages": [user("Hi")]})
    assert (response.status_code, response.json()["code"]) == (404, "rest_aipkit_bot_not_found")


@pytest.mark.parametrize(("status", "expected"), [("published", 200), ("draft", 200), ("trash", 404)])
def test_drafts_answer_and_trashed_bots_do_not(api, bot, upstream, status, expected):
    change(bot, status=status)
    upstream.will_answer(CHAT_COMPLETION)
    assert ask(api, bot).status_code == expected


def test_changes_of_a_bot_apply_to_the_next_turn(api, bot, upstream):
    for instructions in ("One.", "Two."):
        change(bot, instructions=instructions)
        upstream.will_answer(CHAT_COMPLETION)
        ask(api, bot)
    assert [sent.json["messages"][0]["content"] for sent in upstream.sent] == ["One.", "Two."]
    bot.delete()
    assert ask(api, Chatbot(pk=1)).status_code == 404


def test_a_turn_is_logged_with_its_usage(api, api_key, bot, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    uuid = ask(api, bot, user("a"), assistant("b"), user("Shoes?")).json()["conversation_uuid"]
    conversation = Conversation.objects.get()
    assert (conversation.chatbot, conversation.conversation_uuid) == (bot, uuid)
    assert (conversation.api_key, conversation.source, conversation.message_count) == (api_key, "api", 2)
    question, reply = conversation.messages.all()
    assert (question.role, question.content) == ("user", "Shoes?")
    assert (reply.role, reply.content, reply.provider, reply.model) == ("bot", "Hi!", "openai", "gpt-4o-mini")
    assert reply.usage == {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}
    assert (reply.error, reply.milliseconds is not None) == ("", True)
    event = UsageEvent.objects.get()
    assert (event.chatbot, event.api_key, event.total_tokens, event.status) == (bot, api_key, 16, 200)


def test_a_failed_turn_is_logged_with_its_error(api, bot, upstream):
    upstream.will_answer({"error": {"message": "Slow down."}}, status=429, headers={"Retry-After": "7"})
    response = ask(api, bot, user("Shoes?"))
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    question, reply = Message.objects.all()
    assert question.content == "Shoes?"
    assert reply.content == "Error: OpenAI API Error (HTTP 429): Slow down."
    assert (reply.usage, reply.error) == (None, "OpenAI API Error (HTTP 429): Slow down.")


def test_a_conversation_continues_under_its_uuid(api, bot, upstream):
    for _ in range(2):
        upstream.will_answer(CHAT_COMPLETION)
        assert ask(api, bot, conversation_uuid="Conv_1 !ä").json()["conversation_uuid"] == "conv_1"
    conversation = Conversation.objects.get()
    assert (conversation.message_count, conversation.messages.count()) == (4, 4)


def test_the_same_uuid_of_another_key_is_another_conversation(api, bot, upstream):
    other = Api(ApiKey(name="other", scopes=["chat"]).issue())
    for client in (api, other):
        upstream.will_answer(CHAT_COMPLETION)
        ask(client, bot, conversation_uuid="same")
    assert Conversation.objects.filter(conversation_uuid="same").count() == 2


@pytest.mark.parametrize("uuid", [None, 5, ["a"], "", "ÄÖÜ", "x" * 500])
def test_an_invalid_uuid_is_never_an_error(api, bot, upstream, uuid):
    upstream.will_answer(CHAT_COMPLETION)
    answer = ask(api, bot, conversation_uuid=uuid).json()
    assert 0 < len(answer["conversation_uuid"]) <= 64


@pytest.mark.django_db(transaction=True)
def test_a_bot_deleted_during_its_turn_loses_no_turn_of_the_batch():
    bot = Chatbot.objects.create(name="LiveCache")
    answered = Turn("Q", bot.pk, "openai", "m", reply="A", conversation_uuid="kept")
    orphan = replace(answered, chatbot_id=bot.pk + 1, conversation_uuid="orphan", question_id="q", reply_id="r")
    write_turns([orphan, answered])
    found = Conversation.objects.values_list("conversation_uuid", "chatbot_id", "message_count")
    assert sorted(found) == [("kept", bot.pk, 2), ("orphan", None, 2)]
    assert Message.objects.count() == 4


def test_messages_are_logged_unchanged_except_for_control_characters(api, bot, upstream):
    said = "<script>alert(1)</script> ünï \U0001f600 % _ \\ '\" \x00\x07end"
    upstream.will_answer(json.loads(json.dumps(CHAT_COMPLETION).replace("Hi!", "<b>ok</b>")))
    ask(api, bot, user(said))
    contents = list(Message.objects.values_list("content", flat=True))
    assert contents == ["<script>alert(1)</script> ünï \U0001f600 % _ \\ '\" end", "<b>ok</b>"]


@pytest.mark.parametrize("slug", ["openai", "google", "claude"])
def test_nul_characters_are_removed_from_answers_and_errors(api, bot, upstream, slug):
    change(bot, provider=slug, model="some-model")
    said = json.dumps(COMPLETIONS[slug])
    upstream.will_answer(said.replace("Hi!", "a\\u0000b").encode())
    assert ask(api, bot).json()["reply"] == "ab"
    upstream.will_answer({"error": {"message": "a\x00b"}}, status=400)
    assert "ab" in ask(api, bot).json()["message"]
    assert Message.objects.filter(content__contains="ab").count() == 2


def test_a_lone_surrogate_in_an_answer_is_replaced(api, bot, upstream):
    change(bot, provider="google", model="some-model")  # its SDK accepts JSON that a strict parser rejects
    upstream.will_answer(json.dumps(COMPLETIONS["google"]).replace("Hi!", "a\\ud800b").encode())
    assert ask(api, bot).json()["reply"] == "a?b"


@pytest.mark.django_db(transaction=True)
def test_a_turn_that_cannot_be_stored_does_not_affect_the_others(caplog):
    bot = Chatbot.objects.create(name="LiveCache")
    good = Turn("Q", bot.pk, "openai", "m", reply="A", conversation_uuid="good")
    write_turns([replace(good, question="\ud800", conversation_uuid="bad"), good])
    assert Conversation.objects.get().conversation_uuid == "good"
    assert "not in the log" in caplog.text


def test_the_date_is_in_the_sites_time_zone(api, bot, upstream, settings):
    settings.TIME_ZONE = "Pacific/Kiritimati"
    change(bot, instructions="[date]")
    upstream.will_answer(CHAT_COMPLETION)
    ask(api, bot)
    assert re.fullmatch(r"[A-Z][a-z]+ \d{1,2}, \d{4}", upstream.sent[0].json["messages"][0]["content"])
