"""Evaluations in tests: a provider that plays a chatbot's model and the judge, and visitors' questions in the log."""

import json
import re
from typing import Any

from chatbots.models import Chatbot
from logs.models import Conversation, Message, new_uuid
from tests.support.admin.golden_questions import completion_with
from tests.support.commands import run
from tests.support.upstream import Behavior, Connection, Sent, Upstream, answering

COMPLETIONS = "/v1/chat/completions"
JUDGE = "judge-1"


def plays(upstream: Upstream, replies: dict[str, str] | str, judge: Behavior | None = None) -> None:
    """Reply to each question as told, or to all the same; answer the calls of the judge's model by `judge`."""

    def behave(connection: Connection) -> None:
        sent = connection.received.json
        if sent["model"] == JUDGE:
            assert judge is not None, "no call of the judge was expected"
            judge(connection)
            return
        asked = sent["messages"][-1]["content"].rpartition("\n\n")[2]
        answering(completion_with(replies if isinstance(replies, str) else replies[asked]))(connection)

    upstream.pages[COMPLETIONS] = behave


def judging(**verdicts: str) -> Behavior:
    """Return a judge that gives these verdicts in the form that it was asked for."""

    def behave(connection: Connection) -> None:
        answer = {"id": number_in(connection.received), **verdicts, "reason": "Because."}
        answering(completion_with(json.dumps(answer)))(connection)

    return behave


def number_in(sent: Sent) -> str:
    """Return the number that the judge's answer must repeat."""
    found = re.search(r'"id": "(\w+)"', sent.json["messages"][0]["content"])
    assert found
    return found[1]


def calls_of_judge(upstream: Upstream) -> list[Sent]:
    return [sent for sent in upstream.sent if sent.path == COMPLETIONS and sent.json["model"] == JUDGE]


def data_of(sent: Sent) -> Any:
    """Return the data between the two marks in a call of the judge."""
    mark, data, end, *_ = sent.json["messages"][-1]["content"].split("\n")
    assert mark == end
    return json.loads(data)


def logged(bot: Chatbot, *texts: str, source: str = "widget", **fields: Any) -> Conversation:
    """Log a conversation: questions and replies in turns."""
    fields = {"identity": new_uuid(), "source": source, "chatbot": bot} | fields
    conversation = Conversation.objects.create(**fields)
    for number, text in enumerate(texts):
        role = Message.Role.BOT if number % 2 else Message.Role.USER
        Message.objects.create(conversation=conversation, role=role, content=text)
    return conversation


def evaluation(bot: Chatbot, *arguments: str) -> dict[str, Any]:
    """Run the command and return its report."""
    return json.loads(run("evaluate", f"--bot={bot.pk}", "--json", *arguments)[0])


def outcomes(report: dict[str, Any], position: int = 0) -> list[str]:
    """Return the outcomes of one result: answered, grounded, correct."""
    verdicts = report["results"][position]["verdicts"]
    return [verdicts[name]["outcome"] for name in ("answered", "grounded", "correct")]
