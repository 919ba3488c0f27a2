"""An evaluation that is interrupted or killed, and a visitor who is erased while a question is under way."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.admin.golden_questions import completion_with
from tests.support.evaluations import COMPLETIONS
from tests.support.installation import Installation, wait_until
from tests.support.upstream import Upstream, answering, running

pytestmark = pytest.mark.slow

QUESTIONS = 12
ROWS = f"""
from chatbots.models import Chatbot, GoldenQuestion
from logs.models import Conversation, Message
bot = Chatbot.objects.create(name="Shop", provider="openai", model="gpt-4o-mini")
for number in range({QUESTIONS}):
    conversation = Conversation.objects.create(chatbot=bot, source="widget", identity=f"{{number}}")
    Message.objects.create(conversation=conversation, role="user", content=f"number {{number}}?")
"""
EVALUATE = ("evaluate", "--bot=1", f"--sample={QUESTIONS}")
ANSWERED = "SELECT question FROM chatbots_goldenresult WHERE ended_at IS NOT NULL"


def answer_slowly(connection):
    time.sleep(0.3)
    answering(completion_with("Yes."))(connection)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running() as upstream:
        upstream.pages[COMPLETIONS] = answer_slowly
        yield upstream


@pytest.fixture(params=["sqlite", "postgres"])
def installation(request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path) -> Iterator[Installation]:
    openai = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": f"{upstream.url}/v1"}
    with Installation.new(tmp_path, request.param, **openai) as installation:
        installation.python(ROWS)
        yield installation


def has_answered(running: Installation, at_least: int) -> bool:
    return len(running.rows(ANSWERED)) >= at_least


def state(installation: Installation) -> str:
    return str(installation.value("SELECT state FROM chatbots_goldenrun"))


def test_a_worker_continues_a_killed_command(installation: Installation, upstream: Upstream):
    command = installation.start(*EVALUATE)
    wait_until(partial(has_answered, installation, 2))
    command.kill()
    command.wait(10)
    installation.rows("UPDATE chatbots_goldenrun SET leased_until = due_at")  # no need to wait for its expiry
    before, asked_before = installation.rows(ANSWERED), len(upstream.sent)
    assert len(before) < QUESTIONS
    installation.start("worker")
    wait_until(lambda: state(installation) == "done")
    again = {sent.json["messages"][-1]["content"] for sent in upstream.sent[asked_before:]}
    assert not again & {question for (question,) in before}
    asked = Counter(sent.json["messages"][-1]["content"] for sent in upstream.sent)
    assert len(asked) == len(installation.rows(ANSWERED)) == QUESTIONS
    assert installation.value("SELECT count(*) FROM logs_message") == QUESTIONS


def test_an_interrupted_command_asks_nothing_more(installation: Installation, upstream: Upstream):
    command = installation.start(*EVALUATE)
    wait_until(partial(has_answered, installation, 2))
    command.send_signal(signal.SIGINT)
    assert command.wait(10) == 130
    assert state(installation) == "dead"
    asked = len(upstream.sent)
    assert installation.manage("worker", "--once") is not None
    assert len(upstream.sent) == asked < QUESTIONS


def test_a_visitor_who_is_erased_meanwhile_stays_erased(installation: Installation, upstream: Upstream):
    is_asked, may_answer = threading.Event(), threading.Event()

    def wait_and_answer(connection):
        is_asked.set()
        may_answer.wait(30)
        answering(completion_with("Yes."))(connection)

    upstream.pages[COMPLETIONS] = wait_and_answer
    command = installation.start(*EVALUATE)
    assert is_asked.wait(30)
    installation.python("from logs.models import Conversation; Conversation.objects.all().delete()")
    may_answer.set()
    assert command.wait(30) == 0
    assert installation.rows("SELECT question FROM chatbots_goldenresult") == []
    assert len(upstream.sent) <= 2  # those under way
