"""A worker killed during a golden run: no question is lost, and no answered question is asked again."""

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.installation import Installation, wait_until
from tests.support.providers.answers import CHAT_COMPLETION
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


def answer_slowly(connection):
    time.sleep(0.3)
    answering(CHAT_COMPLETION)(connection)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running() as upstream:
        upstream.pages["/v1/chat/completions"] = answer_slowly
        yield upstream


@pytest.fixture(params=["sqlite", "postgres"])
def installation(request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path) -> Iterator[Installation]:
    openai = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": f"{upstream.url}/v1"}
    with Installation.new(tmp_path, request.param, **openai) as installation:
        yield installation


def has_answered(running: Installation, at_least: int) -> bool:
    return len(running.rows(ANSWERED)) >= at_least


def test_answered_questions_survive_a_killed_worker(installation: Installation, upstream: Upstream):
    installation.python(QUEUE)
    for at_least in (1, 5):
        worker = installation.start("worker")
        wait_until(partial(has_answered, installation, at_least))
        worker.kill()
        worker.wait(10)
        installation.rows("UPDATE chatbots_goldenrun SET leased_until = due_at")  # no need to wait for its expiry
    before, asked_before = installation.rows(ANSWERED), len(upstream.sent)
    assert len(before) < QUESTIONS  # otherwise the test interrupted nothing
    installation.start("worker")
    wait_until(lambda: installation.value("SELECT state FROM chatbots_goldenrun") == "done")
    asked = Counter(sent.json["messages"][-1]["content"] for sent in upstream.sent)
    again = {sent.json["messages"][-1]["content"] for sent in upstream.sent[asked_before:]}
    assert len(asked) == len(installation.rows(ANSWERED)) == QUESTIONS
    assert not again & {question for (question,) in before}
    assert installation.value("SELECT attempts FROM chatbots_goldenrun") == 3
