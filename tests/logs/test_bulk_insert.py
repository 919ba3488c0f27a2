"""insert() writes the same rows as save()."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from logs.bulk_insert import insert
from logs.models import Conversation, Message, UsageEvent

AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def conversations(bot):
    common = {"chatbot": bot, "created_at": AT, "updated_at": AT}
    yield lambda name: Conversation(
        identity=name, ip_address="2001:DB8::1", external_name="Zoë", source=Conversation.Source.WIDGET, **common
    )
    yield lambda name: Conversation(identity=name, has_error=True, tokens=2**40, session_id="s", **common)


def messages(bot):
    common = {"conversation": Conversation.objects.create(chatbot=bot), "created_at": AT}
    yield lambda name: Message(
        message_id=name, role=Message.Role.USER, content="Où?", redactions={"email": 1}, **common
    )
    yield lambda name: Message(
        message_id=name, role="bot", content="Here", usage={"total_tokens": 1}, cost=Decimal("0.00000001"),
        passages=[{"score": 0.5}], milliseconds=3, **common,
    )  # fmt: skip


def events(bot):
    common = {"operation": "completion", "created_at": AT, "milliseconds": 3, "status": 200, "chatbot": bot}
    yield lambda name: UsageEvent(request_id=name, provider="openai", model="m", cost=Decimal("1.5"), **common)
    yield lambda name: UsageEvent(request_id=name, provider="", model="é", input_tokens=7, images=2, **common)


@pytest.mark.parametrize(
    ("rows", "name"), [(conversations, "identity"), (messages, "message_id"), (events, "request_id")]
)
def test_insert_writes_the_same_rows_as_save(bot, rows, name):
    kinds = list(rows(bot))
    saved, inserted = [
        [make(f"{method} {number}") for number, make in enumerate(kinds)] for method in ("saved", "inserted")
    ]
    for row in saved:
        row.save()
    assert insert(inserted) == []

    def stored(method):
        found = type(saved[0]).objects.filter(**{f"{name}__startswith": method}).order_by("id").values()
        return [
            {key: value for key, value in row.items() if key not in ("id", "conversation_uuid", name)} for row in found
        ]

    assert len(stored("saved")) == len(kinds)
    assert stored("inserted") == stored("saved")


def test_many_rows_are_inserted_in_order(bot):
    names = [f"{number:04}" for number in range(300)]
    returned = insert((Conversation(identity=name) for name in names), "RETURNING identity")
    assert [name for (name,) in returned] == names
    assert list(Conversation.objects.order_by("id").values_list("identity", flat=True)) == names


def test_inserting_no_rows_takes_no_query(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert insert([]) == []
