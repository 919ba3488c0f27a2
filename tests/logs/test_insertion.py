"""insert() writes what save() writes."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from logs.bulk_insert import insert
from logs.models import Conversation, Message, UsageEvent

AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def conversations(bot):
    known = {"chatbot": bot, "created_at": AT, "updated_at": AT}
    yield lambda name: Conversation(
        identity=name, ip_address="2001:DB8::1", external_name="Zoë", source=Conversation.Source.WIDGET, **known
    )
    yield lambda name: Conversation(identity=name, has_error=True, tokens=2**40, session_id="s", **known)


def messages(bot):
    known = {"conversation": Conversation.objects.create(chatbot=bot), "created_at": AT}
    yield lambda name: Message(message_id=name, role=Message.Role.USER, content="Où?", redactions={"email": 1}, **known)
    yield lambda name: Message(
        message_id=name, role="bot", content="Here", usage={"total_tokens": 1}, cost=Decimal("0.00000001"),
        passages=[{"score": 0.5}], milliseconds=3, **known,
    )  # fmt: skip


def events(bot):
    known = {"operation": "completion", "created_at": AT, "milliseconds": 3, "status": 200, "chatbot": bot}
    yield lambda name: UsageEvent(request_id=name, provider="openai", model="m", cost=Decimal("1.5"), **known)
    yield lambda name: UsageEvent(request_id=name, provider="", model="é", input_tokens=7, images=2, **known)


@pytest.mark.parametrize(
    ("rows", "name"), [(conversations, "identity"), (messages, "message_id"), (events, "request_id")]
)
def test_a_row_is_as_save_writes_it(bot, rows, name):
    kinds = list(rows(bot))
    saved, inserted = [[make(f"{way} {number}") for number, make in enumerate(kinds)] for way in ("saved", "inserted")]
    for row in saved:
        row.save()
    assert insert(inserted) == []

    def stored(way):
        found = type(saved[0]).objects.filter(**{f"{name}__startswith": way}).order_by("id").values()
        return [
            {key: value for key, value in row.items() if key not in ("id", "conversation_uuid", name)} for row in found
        ]

    assert len(stored("saved")) == len(kinds)
    assert stored("inserted") == stored("saved")


def test_many_rows_are_inserted_in_their_order(bot):
    names = [f"{number:04}" for number in range(300)]
    returned = insert((Conversation(identity=name) for name in names), "RETURNING identity")
    assert [name for (name,) in returned] == names
    assert list(Conversation.objects.order_by("id").values_list("identity", flat=True)) == names


def test_nothing_is_inserted_of_nothing(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert insert([]) == []
