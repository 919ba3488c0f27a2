"""Runs of golden questions by a worker: leases, failures, and what is retried."""

import pytest
from django.urls import reverse
from django.utils import timezone

from chatbots.models import Chatbot, GoldenQuestion, GoldenResult, GoldenRun
from chatbots.quality.golden import MAX_ATTEMPTS, carry_out
from puffer.runtime.jobs import LeaseLost, claim
from tests.support.admin.chatbot_pages import text_of
from tests.support.admin.golden_questions import golden, golden_page, queue_run, run_worker

pytestmark = pytest.mark.django_db


def fragment(client, run: GoldenRun) -> str:
    """Return the text of the fragment that the page polls while the run is in progress."""
    return text_of(client.get(reverse("admin:chatbots_chatbot_golden_runs", query={"run": run.pk})))


def test_the_page_shows_the_progress_of_the_run(admin_client, openai, bot):
    golden(bot)
    golden(bot, "Second?")
    queue_run(admin_client, bot)
    queued = GoldenRun.objects.get()

    def shows(words: str, over: str, waiting: int) -> None:
        shown = fragment(admin_client, queued)
        assert words in shown
        assert (f'data-over="{over}"' in shown, shown.count(">waiting<")) == (True, waiting)
        assert words in text_of(admin_client.get(golden_page(bot)))

    shows("Waiting for a worker. “manage.py serve” starts one by default. 0 of 2", "no", 2)
    claim(GoldenRun.objects.all(), 60)
    queued.results.filter(question="Open?").update(ended_at=timezone.now(), answer="At nine.")
    shows("1 of 2 questions are answered.", "no", 1)
    GoldenRun.objects.update(leased_until=timezone.now())
    run_worker()
    shows("Last run: ", "yes", 0)


def test_a_resumed_run_asks_only_the_remaining_questions(admin_client, openai, bot):
    for number in range(4):
        golden(bot, f"number {number}", "hi")
    queue_run(admin_client, bot)
    killed = claim(GoldenRun.objects.all(), 0)  # its lease expires at once, as if the worker had been killed
    killed.results.filter(question__in=["number 0", "number 2"]).update(ended_at=timezone.now(), answer="hi there")
    run_worker()
    assert sorted(sent.json["messages"][-1]["content"] for sent in openai.sent) == ["number 1", "number 3"]
    done = GoldenRun.objects.get()
    assert (done.state, done.attempts) == ("done", 2)
    assert [result.answer for result in done.results.all()] == ["hi there", "Hi!", "hi there", "Hi!"]


def test_a_worker_that_lost_its_lease_writes_nothing(admin_client, openai, bot):
    golden(bot)
    queue_run(admin_client, bot)
    stale = claim(GoldenRun.objects.all(), 0)
    claim(GoldenRun.objects.all(), 60)
    with pytest.raises(LeaseLost):
        carry_out(stale)
    assert [(result.run.state, result.ended_at) for result in GoldenResult.objects.all()] == [("waiting", None)]


def test_a_new_run_replaces_a_waiting_one(admin_client, openai, bot):
    golden(bot)
    queue_run(admin_client, bot)
    queue_run(admin_client, bot)
    run_worker()
    assert (GoldenRun.objects.get().state, len(openai.sent)) == ("done", 1)


def test_a_run_that_keeps_killing_its_workers_fails(admin_client, openai, bot):
    golden(bot)
    queue_run(admin_client, bot)
    GoldenRun.objects.update(attempts=MAX_ATTEMPTS)
    run_worker()
    failed_run = GoldenRun.objects.get()
    assert (failed_run.state, openai.sent) == ("dead", [])
    assert f"The run failed after 0 of 1 questions. {failed_run.last_error}" in fragment(admin_client, failed_run)


def test_a_run_uses_the_questions_and_settings_it_was_queued_with(admin_client, openai, bot):
    """Later changes of the questions and the settings have no effect on the run."""
    golden(bot)
    queue_run(admin_client, bot)
    GoldenQuestion.objects.update(question="Closed?")
    Chatbot.objects.update(instructions="Sell hats.")
    run_worker()
    assert [message["content"] for message in openai.sent[0].json["messages"]] == ["Sell shoes.", "Open?"]
