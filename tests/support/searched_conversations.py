"""Conversations for tests of the search, and the names of those that it finds."""

from logs.models import Conversation, Message, new_uuid

LONG = "All of this sentence is in there, and the end of it tells one from the other by its last word: "


CONTENTS = {
    "shop": "Where is my 100% wool_hat?",
    "hundred": "100 woolxhats",
    "french": "Déjà VU à l'École, ÇA VA?",
    "norse": "Smørrebrød in Łódź, Straße",
    "greek": "ΟΔΥΣΣΕΥΣ και Ωραία",
    "russian": "Ёлка и Йод",
    "cjk": "東京は大きい",
    "korean": "한국어를 배워요",
    "japanese": "がくせい",
    "emoji": "Thanks 😀👍🏽!",
    "quotes": """She said "no", it's 'fine' ``x``""",
    "backslash": r"C:\temp\new \% \_",
    "syntax": "body: x AND y OR NOT z NEAR(a, b) col* ^start -minus {a b}: (c) + d",
    "lines": "first\nsecond line\n\nlast",
    "long": LONG + "apples",
    "longer": LONG + "pears",
    "combining": "Cafe\u0301",
    "zq": "zq",
    "q": "Q",
    "dots": "... --- !!!",
}


def make_conversation(*contents: str, **values) -> Conversation:
    conversation = Conversation.objects.create(identity=new_uuid(), **values)
    Message.objects.bulk_create(Message(conversation=conversation, role="user", content=text) for text in contents)
    return conversation


def names(found) -> list[str]:
    conversations = Conversation.objects.in_bulk(list(found))
    return [conversations[key].conversation_uuid for key in found]
