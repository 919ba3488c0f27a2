"""Text search over visitors."""

import pytest
from django.contrib.auth import get_user_model

from logs.models import Conversation
from logs.search.indexer import index_batch
from logs.search.query import matching, with_visitor
from logs.search.tables import VISITORS
from tests.support.searched_conversations import make_conversation, names


@pytest.fixture
def visitors(db):
    users = get_user_model().objects
    ada = users.create_user("countess", "ada@lovelace.example", first_name="Ada", last_name="Kíng")
    users.create_user("silent", "silent@example.com", first_name="Silent")
    make_conversation("x", conversation_uuid="user", user=ada, session_id="of-a-user")
    make_conversation("x", conversation_uuid="guest", session_id="0a1b2c3d4e")
    make_conversation(
        "x", conversation_uuid="named", session_id="ffff0000",
        external_user_id="c-77", external_name="Zoë Müller", external_email="zoe@shop.example",
    )  # fmt: skip
    make_conversation("x", conversation_uuid="api")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ada King", ["user"]),
        ("king", ["user"]),
        ("KÍNG", ["user"]),
        ("countess", ["user"]),
        ("lovelace.ex", ["user"]),
        ("silent", []),  # has no conversation
        ("of-a-user", []),
        ("0a1b2c", ["guest"]),
        ("3D4E", ["guest"]),
        ("zoe mul", ["named"]),
        ("ZOË", ["named"]),
        ("zoe@", ["named"]),
        ("c-77", ["named"]),
        ("ffff", ["named"]),
        ("example", ["user", "named"]),
        ("ë", ["user", "guest", "named"]),
        ("%", []),
        ("_", []),
        ("müllerzoe", []),  # a match lies within one field
        ("Guest", []),
    ],
)
@pytest.mark.parametrize("is_indexed", [True, False])
def test_visitor_search(visitors, is_indexed, text, found):
    if is_indexed:
        index_batch(VISITORS)
    assert names(with_visitor(text)) == found


def test_the_admin_searches_messages_and_visitors(conversations):
    make_conversation("x", conversation_uuid="by visitor", external_user_id="1", external_name="Déjà Brew")
    found = matching(Conversation.objects.all(), "deja")
    assert set(found.values_list("conversation_uuid", flat=True)) == {"french", "by visitor"}
    assert matching(Conversation.objects.filter(conversation_uuid="french"), "deja").count() == 1
    assert matching(Conversation.objects.all(), "nowhere").count() == 0
