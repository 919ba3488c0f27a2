"""Golden questions asked by a worker that is killed: none is lost, and none that is answered is asked again."""

import time
from collections import Counter
from functools import partial

import pytest

from tests.providers_on_loopback import CHAT_COMPLETION, answering
from tests.puffer.test_worker import wait_until
from tests.vectorstores.test_uploads_interrupted import Uploads as Work
from tests.vectorstores.test_uploads_interrupted import work  # noqa: F401

pytestmark = pytest.mark.slow

QUESTIONS = 16
QUEUE = f"""
from django.contrib.auth.models import User
from chatbots.golden import queue
from chatbots.models import Chatbot, GoldenQuestion
bot = Chatbot.objects.create(name="Shop", provider="openai", model="gpt-4o-mini")
for number in range({QUESTIONS}):
    GoldenQuestion.objects.create(chatbot=bot, question=f"number {{number}}", expected_facts="hi")
queue(bot, User.objects.create(username="owner"))
"""
ANSWERED = "SELECT question FROM chatbots_goldenresult WHERE ended_at IS NOT NULL"


def slowly(connection):
    time.sleep(0.3)
    answering(CHAT_COMPLETION)(connection)


def has_answered(running: Work, at_least: int) -> bool:
    return len(running.rows(ANSWERED)) >= at_least


def test_a_worker_that_is_killed_leaves_what_is_answered(work: Work):  # noqa: F811
    work.upstream.pages["/v1/chat/completions"] = slowly
    work.manage("shell", "--no-imports", "-c", QUEUE)
    for at_least in (1, 5):
        worker = work.start("worker")
        wait_until(partial(has_answered, work, at_least))
        worker.kill()
        worker.wait(10)
        work.rows("UPDATE chatbots_goldenrun SET leased_until = due_at RETURNING id")  # it would end by itself
    before, asked_before = work.rows(ANSWERED), len(work.upstream.sent)
    assert len(before) < QUESTIONS  # else nothing was interrupted
    work.start("worker")
    wait_until(lambda: work.value("SELECT state FROM chatbots_goldenrun") == "done")
    asked = Counter(sent.json["messages"][-1]["content"] for sent in work.upstream.sent)
    again = {sent.json["messages"][-1]["content"] for sent in work.upstream.sent[asked_before:]}
    assert len(asked) == len(work.rows(ANSWERED)) == QUESTIONS
    assert not again & {question for (question,) in before}
    assert work.value("SELECT attempts FROM chatbots_goldenrun") == 3
