"""Conversations, usage and prices in the admin."""

import html
import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from urllib.parse import parse_qsl, urlencode

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.models import Chatbot
from logs.conversations.history import store_feedback
from logs.conversations.writer import VISITOR_LEFT, Turn, write_turns
from logs.models import Conversation, Message, ModelPrice, new_uuid
from logs.search.query import MAX_LISTED
from puffer.admin.base import CappedPaginator
from puffer.models import ApiKey
from tests.support.admin.logged import NASTY
from tests.support.providers.answers import CHAT_COMPLETION

pytestmark = pytest.mark.django_db


CONVERSATIONS = "/admin/logs/conversation/"


def make_conversation(**values) -> Conversation:
    return Conversation.objects.create(identity=new_uuid(), **values)


def make_conversations(count: int) -> list[Conversation]:
    """Return conversations, the oldest first."""
    now = timezone.now()
    return Conversation.objects.bulk_create(
        Conversation(identity=new_uuid(), updated_at=now + timedelta(milliseconds=number)) for number in range(count)
    )


@pytest.fixture
def conversation(bot) -> Conversation:
    """Return a conversation of two questions: one was answered, the other failed."""
    conversation = make_conversation(chatbot=bot, session_id="abcdef0123456789", message_count=4)
    Message.objects.create(conversation=conversation, role="user", content="Do you sell 50% & more?")
    Message.objects.create(
        conversation=conversation,
        role="bot",
        content=f"Yes.\n{NASTY}",
        provider="openai",
        model=NASTY,
        usage={"input_tokens": 11, "output_tokens": 22, "total_tokens": 33},
        milliseconds=1234,
    )
    Message.objects.create(conversation=conversation, role="user", content="Why?")
    Message.objects.create(
        conversation=conversation, role="bot", content="Error: Quota exceeded", error="Quota exceeded"
    )
    return conversation


def find(client, **parameters) -> list[Conversation]:
    return list(client.get(CONVERSATIONS, parameters).context["cl"].result_list)


def chat_of(client, conversation, **parameters):
    """Return the text of the chat on the conversation's page, without tags."""
    page = client.get(f"{CONVERSATIONS}{conversation.pk}/change/", parameters).text
    assert NASTY not in page
    _, _, chat = page.partition('role="log"')
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", chat)).split())


def test_a_conversation_is_shown_as_a_chat(admin_client, conversation):
    Message.objects.filter(role="bot", error="").update(
        content=f"**Yes.**\n{NASTY}\n\n- one\n- [two](javascript:alert(1))",
        cost=Decimal("0.0012"),
        feedback="down",
        redactions={"email": 2},
        searched_for=f"Do you sell {NASTY}?",
        passages=[
            {"score": 0.8123, "title": NASTY, "url": "", "collection_name": "shop", "content_preview": "We sell it all"}
        ],
    )
    page = admin_client.get(f"{CONVERSATIONS}{conversation.pk}/change/").text
    assert NASTY not in page
    for part in ("<strong>Yes.</strong>", "<li>one</li>", 'title="Thumbs down">thumb_down'):
        assert part in page
    assert 'href="javascript' not in page
    assert re.findall('chat-message (question|answer[a-z ]*)"', page) == [
        "question",
        "answer",
        "question",
        "answer failed",
    ]
    words = chat_of(admin_client, conversation)
    for text in (
        *("Do you sell 50% & more?", "11 + 22 tokens", "1.2 s", "$0.001200", "redacted: email 2"),
        f"Also searched for: Do you sell {NASTY}?",
        *("1 passage from the knowledge", f"0.81 {NASTY} shop We sell it all", "Error: Quota exceeded"),
    ):
        assert text in words
    assert "No passage in the knowledge" not in words


def test_an_answer_without_passages_says_so(admin_client, conversation):
    Message.objects.filter(role="bot", error="").update(passages=[])
    assert chat_of(admin_client, conversation).count("No passage in the knowledge was similar enough") == 1


def test_an_interrupted_answer_is_shown_with_its_error(admin_client, conversation):
    Message.objects.filter(role="bot", error="").update(content="It begins", error="Then it broke.")
    assert "It begins Then it broke." in chat_of(admin_client, conversation)


def test_a_very_long_conversation_is_shown_in_pages_from_its_end(admin_client, conversation):
    Message.objects.bulk_create(
        Message(conversation=conversation, role="user", content=f"number {number}.") for number in range(300)
    )
    end = admin_client.get(f"{CONVERSATIONS}{conversation.pk}/change/", {"_changelist_filters": "source=api"})
    assert ("number 299." in end.text, "number 100." in end.text, "number 99." in end.text) == (True, True, False)
    earlier = admin_client.get(end.context["earlier"])
    assert ("number 100." in earlier.text, "number 99." in earlier.text, "Do you sell" in earlier.text) == (
        False, True, True
    )  # fmt: skip
    assert not earlier.context["earlier"]
    assert "Latest messages" in earlier.text
    assert "source%3Dapi" in end.context["earlier"]
    assert admin_client.get(f"{CONVERSATIONS}{conversation.pk}/change/", {"before": "x²"}).status_code == 200


def test_a_long_conversation_takes_as_many_queries_as_a_short_one(admin_client, conversation):
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(f"{CONVERSATIONS}{conversation.pk}/change/")
        return len(queries)

    count()
    short = count()
    Message.objects.bulk_create(Message(conversation=conversation, role="user", content="again") for _ in range(200))
    assert count() == short


def test_a_conversation_can_only_be_deleted(admin_client, conversation):
    assert admin_client.get(f"{CONVERSATIONS}add/").status_code == 403
    assert admin_client.post(f"{CONVERSATIONS}{conversation.pk}/change/", {"source": "api"}).status_code == 403
    question = admin_client.get(f"{CONVERSATIONS}{conversation.pk}/delete/")
    assert "Messages: 4" in re.sub(r"\s+", " ", question.text)
    admin_client.post(f"{CONVERSATIONS}{conversation.pk}/delete/", {"post": "yes"})
    assert not Message.objects.exists()


def test_several_conversations_are_deleted_at_once(admin_client, conversation):
    others = [make_conversation(), make_conversation()]
    selected = {"action": "delete_selected", "_selected_action": [conversation.pk, others[0].pk]}
    assert "Are you sure" in admin_client.post(CONVERSATIONS, selected).text
    admin_client.post(CONVERSATIONS, {**selected, "post": "yes"})
    assert list(Conversation.objects.all()) == [others[1]]


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("50% & MORE", True),
        ("50_", False),  # % and _ are not wildcards
        ("Quota", True),
        ("abcdef01", True),
        ("gpt", False),  # model names are not searched
        ("'\";--", False),
        ("  ", True),  # an empty search
    ],
)
def test_search(admin_client, conversation, text, is_found):
    assert (conversation in find(admin_client, q=text)) is is_found


def test_a_conversation_is_found_once(admin_client, conversation, admin_user):
    mine = make_conversation(user=admin_user)
    Message.objects.create(conversation=mine, role="user", content="admin and admin")
    Message.objects.create(conversation=mine, role="user", content="admin again")
    assert find(admin_client, q="admin") == [mine]
    assert find(admin_client, q=admin_user.email) == [mine]


def test_filters(admin_client, conversation):
    old = make_conversation(
        chatbot=Chatbot.objects.create(name="Other"), source="preview", updated_at=timezone.now() - timedelta(days=40)
    )
    assert find(admin_client, chatbot__id__exact=old.chatbot_id) == [old]
    assert find(admin_client, source__exact="api") == [conversation]
    recently = timezone.now() - timedelta(days=7)
    assert find(admin_client, updated_at__gte=recently.isoformat()) == [conversation]
    assert find(admin_client) == [conversation, old]


def test_writing_turns_flags_errors_and_unanswered_questions(admin_client, bot):
    def say(uuid, **answer):
        write_turns([Turn("Hi", bot.pk, conversation_uuid=uuid, provider=answer.pop("provider", "openai"), **answer)])

    say("good", reply="All\n\n is  well. " + "Really. " * 50, passages=[{"score": 0.5}], usage={"total_tokens": 30})
    say("good", reply="As I said.", usage={"total_tokens": 12})
    say("bad", error="It broke.", provider="claude")
    say("bad", reply="Now it works.")
    say("left", reply="Well", error=VISITOR_LEFT)
    say("unknown", reply="Hm.", passages=[])
    say("refused", reply="I have no information about that.", is_refusal=True)
    rows = {row.conversation_uuid: row for row in Conversation.objects.all()}
    assert (rows["good"].message_count, rows["good"].tokens, rows["good"].last_message) == (4, 42, "As I said.")
    assert rows["bad"].provider == "openai"
    assert rows["left"].last_message == "Well"

    def uuids(**parameters):
        return sorted(row.conversation_uuid for row in find(admin_client, **parameters))

    assert uuids(has_error__exact=1) == ["bad"]
    assert uuids(has_unanswered__exact=1) == ["refused", "unknown"]
    assert uuids(provider="claude") == []
    assert uuids(provider="openai", has_error__exact=0, has_unanswered__exact=0) == ["good", "left"]
    say("line", reply="All\n\n is  well. " + "Really. " * 50)
    line = Conversation.objects.get(conversation_uuid="line").last_message
    assert (line[:12], len(line), line[-1]) == ("All is well.", 200, "…")
    page = admin_client.get(CONVERSATIONS).text
    assert (page.count(">error<"), page.count(">unanswered<")) == (1, 2)


@pytest.mark.parametrize(
    ("text", "only_from_sources", "is_unanswered"),
    [
        ("I have no information about that.", True, True),
        ("I have some.", True, False),
        ("I have no information about that.", False, False),  # without the option, the text has no special meaning
    ],
)
def test_a_refusal_flags_the_conversation_as_unanswered(api, upstream, bot, text, only_from_sources, is_unanswered):
    bot.only_from_sources = only_from_sources
    bot.save()
    choice = {"message": {"content": f" {text}\n"}, "finish_reason": "stop"}
    upstream.will_answer({**CHAT_COMPLETION, "choices": [choice]})
    api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hi"}]})
    assert Conversation.objects.get().has_unanswered is is_unanswered


def test_the_cost_of_an_answer_is_stored_with_it(bot):
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1600}  # the other 500 are reasoning tokens
    write_turns([Turn("Hi", bot.pk, reply="Hello", provider="openai", model="gpt-4o", usage=usage)])
    assert Message.objects.get(role="bot").cost == Decimal("0.0085")
    ModelPrice.objects.create(provider="openai", model="gpt-4o", input_price=0, output_price=0)
    write_turns([Turn("Hi", bot.pk, reply="Hello", provider="openai", model="gpt-4o", usage=usage)])
    assert [message.cost for message in Message.objects.filter(role="bot")] == [Decimal("0.0085"), 0]


def test_the_last_vote_is_the_rating(admin_client, bot):
    turn = Turn("Hi", bot.pk, reply="Hello", conversation_uuid="a")
    write_turns([turn, replace(turn, question_id="q2", reply_id="r2")])

    def vote(message_id, feedback):
        assert async_to_sync(store_feedback)(turn, message_id, feedback)
        return Conversation.objects.get().rating

    assert vote(turn.reply_id, "up") == "up"
    assert vote("r2", "down") == "down"
    assert len(find(admin_client, rating__exact="down")) == 1
    assert vote("r2", "") == "up"
    assert vote(turn.reply_id, "") == ""
    assert not find(admin_client, rating__exact="up")
    assert not async_to_sync(store_feedback)(turn, turn.question_id, "up")
    assert not async_to_sync(store_feedback)(replace(turn, conversation_uuid="b"), turn.reply_id, "up")


def test_identified_visitors_and_guests(admin_client, admin_user):
    user, external, guest = (
        make_conversation(user=admin_user), make_conversation(external_user_id="42"), make_conversation(session_id="s")
    )  # fmt: skip
    assert find(admin_client, who="identified") == [external, user]
    assert find(admin_client, who="guest") == [guest]


def test_previous_and_next_follow_the_order_of_the_list(admin_client, bot):
    now = timezone.now()
    rows = [
        make_conversation(chatbot=chatbot, updated_at=now - timedelta(hours=number // 2), tokens=number % 3)
        for number, chatbot in enumerate([bot, None, bot, bot, bot])
    ]
    for filters in ("", f"chatbot__id__exact={bot.pk}", "o=6", "o=4.-6", "p=2"):
        listed = [row.pk for row in find(admin_client, **dict(parse_qsl(filters.replace("p=2", ""))))]
        path, visited = f"{CONVERSATIONS}{listed[0]}/change/?{urlencode({'_changelist_filters': filters})}", []
        while path:
            response = admin_client.get(path)
            before = f"/{visited[-1]}/change/" if visited else ""
            assert before in response.context.get("previous", "")
            visited.append(response.context["original"].pk)
            path = response.context.get("next")
        assert visited == listed, filters
    for invalid in ("nothing=1", "updated_at__gte=x", "o=99", "chatbot__secret=1"):
        page = admin_client.get(f"{CONVERSATIONS}{rows[0].pk}/change/", {"_changelist_filters": invalid})
        assert page.status_code == 200


def test_the_list_can_be_sorted_by_message_count(admin_client):
    few, most = make_conversation(message_count=2), make_conversation(message_count=8)
    Message.objects.bulk_create(Message(conversation=most, role="user", content=text) for text in "abc")
    assert find(admin_client, o="5") == [few, most]
    assert find(admin_client, o="-5") == [most, few]


@pytest.mark.parametrize("others", [0, MAX_LISTED], ids=["few", "many"])
def test_a_search_in_the_list_keeps_its_order_and_filters(admin_client, bot, others):
    rows = [make_conversation(chatbot=chatbot, tokens=tokens) for chatbot, tokens in [(bot, 5), (None, 9), (bot, 7)]]
    matching = [*rows, *make_conversations(others)]
    Message.objects.bulk_create(Message(conversation=row, role="user", content="Wool?") for row in matching)
    make_conversation(tokens=8)
    assert find(admin_client, q="wool", o="-6")[:3] == [rows[1], rows[2], rows[0]]
    assert find(admin_client, q="wool", chatbot__id__exact=bot.pk, o="6") == [rows[0], rows[2]]
    assert find(admin_client, q="silk") == []


def test_counting_stops_at_a_limit(admin_client):
    rows = make_conversations(CappedPaginator.limit + 1)
    assert "10,000+ total" in admin_client.get(CONVERSATIONS).text
    assert "All 10,000+ selected" in admin_client.get(CONVERSATIONS).text
    assert find(admin_client, p="200") == rows[1:51][::-1]
    rows[0].delete()
    assert "10,000 total" in admin_client.get(CONVERSATIONS).text


def test_the_list_names_the_visitor(admin_client, admin_user):
    key = ApiKey(name="Website", scopes=["chat"])
    key.issue()
    for values in ({"user": admin_user}, {"api_key": key}, {"session_id": "abcdef0123"}, {}):
        make_conversation(**values)
    page = admin_client.get(CONVERSATIONS).text
    visitors = re.findall(r"field-visitor.*?<a[^>]*>\s*(.*?)\s*</a>", page, re.DOTALL)
    assert visitors == ["Guest", "Guest abcdef01", "API key Website", "admin"]


def test_conversations_of_a_deleted_chatbot_can_be_read(admin_client, conversation):
    conversation.chatbot.delete()
    assert admin_client.get(f"{CONVERSATIONS}{conversation.pk}/change/").status_code == 200
    assert admin_client.get(CONVERSATIONS).status_code == 200


@pytest.mark.parametrize("pk", ["999", "x"])
def test_unknown_conversations_redirect(admin_client, pk):
    assert admin_client.get(f"{CONVERSATIONS}{pk}/change/").status_code == 302
