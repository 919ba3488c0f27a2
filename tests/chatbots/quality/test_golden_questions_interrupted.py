"""Golden questions asked by a worker that is killed: none is lost, and none that is answered is asked again."""

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.installation import Installation, wait_until
from tests.support.providers import CHAT_COMPLETION
from tests.support.upstream import Upstream, answering, running

pytestmark = pytest.mark.slow

QUESTIONS = 16
QUEUE = f"""
from django.contrib.auth.models import User
from chatbots.quality.golden import queue
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


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running() as upstream:
        upstream.pages["/v1/chat/completions"] = slowly
        yield upstream


@pytest.fixture(params=["sqlite", "postgres"])
def work(request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path) -> Iterator[Installation]:
    openai = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": f"{upstream.url}/v1"}
    with Installation.new(tmp_path, request.param, **openai) as work:
        yield work


def has_answered(running: Installation, at_least: int) -> bool:
    return len(running.rows(ANSWERED)) >= at_least


def test_a_worker_that_is_killed_leaves_what_is_answered(work: Installation, upstream: Upstream):
    work.python(QUEUE)
    for at_least in (1, 5):
        worker = work.start("worker")
        wait_until(partial(has_answered, work, at_least))
        worker.kill()
        worker.wait(10)
        work.rows("UPDATE chatbots_goldenrun SET leased_until = due_at")  # it would end by itself
    before, asked_before = work.rows(ANSWERED), len(upstream.sent)
    assert len(before) < QUESTIONS  # else nothing was interrupted
    work.start("worker")
    wait_until(lambda: work.value("SELECT state FROM chatbots_goldenrun") == "done")
    asked = Counter(sent.json["messages"][-1]["content"] for sent in upstream.sent)
    again = {sent.json["messages"][-1]["content"] for sent in upstream.sent[asked_before:]}
    assert len(asked) == len(work.rows(ANSWERED)) == QUESTIONS
    assert not again & {question for (question,) in before}
    assert work.value("SELECT attempts FROM chatbots_goldenrun") == 3
