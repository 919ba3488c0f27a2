"""Golden questions: what passes, what a run stores, and the run before a chatbot is published."""

import json
import threading
import time

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from chatbots.lifecycle.serializers import export_chatbots
from chatbots.models import Chatbot, GoldenQuestion, GoldenResult, GoldenRun
from chatbots.quality.golden import MAX_ATTEMPTS, MAX_QUESTIONS, ask
from logs.models import Conversation, ModelPrice
from puffer.runtime.jobs import LeaseLost, claim
from tests.support.admin_rows import NASTY
from tests.support.chatbot_admin import LIST, act, change_page, filled, text_of, upload
from tests.support.providers import CHAT_COMPLETION
from tests.support.shop import OPENING, RETURNS
from tests.support.upstream import answering

pytestmark = pytest.mark.django_db


def golden_page(bot: Chatbot) -> str:
    return reverse("admin:chatbots_chatbot_golden_questions", args=[bot.pk])


def completion_with(text: str) -> dict:
    return CHAT_COMPLETION | {"choices": [CHAT_COMPLETION["choices"][0] | {"message": {"content": text}}]}


def golden(bot: Chatbot, question: str = "Open?", facts: str = "nine", **fields) -> GoldenQuestion:
    return GoldenQuestion.objects.create(chatbot=bot, question=question, expected_facts=facts, **fields)


def form_of(bot: Chatbot, *rows: dict, known: int = 0) -> dict[str, str]:
    """Return the form data that a browser posts for these questions, the first `known` of which are already saved."""
    sent = {"golden_questions-TOTAL_FORMS": str(len(rows)), "golden_questions-INITIAL_FORMS": str(known)}
    for number, row in enumerate(rows):
        row = {"is_enabled": "on"} | row
        sent |= {f"golden_questions-{number}-{name}": value for name, value in row.items()}
    return sent


@pytest.fixture(autouse=True)
def golden_questions_job_only(settings):
    settings.WORKER_JOBS = ["chatbots.quality.golden.run_due"]


def run_worker() -> None:
    call_command("worker", once=True)


def queue_run(client, bot: Chatbot) -> None:
    questions = list(bot.golden_questions.all())
    rows = [
        {
            "id": question.pk, "question": question.question, "expected_facts": question.expected_facts,
            "expected_source": question.expected_source, "is_enabled": "on" if question.is_enabled else "",
        }
        for question in questions
    ]  # fmt: skip
    page = client.post(golden_page(bot), form_of(bot, *rows, known=len(rows)) | {"run": "1"}, follow=True)
    assert page.redirect_chain == [(golden_page(bot), 302)]


def run(client, bot: Chatbot) -> list[GoldenResult]:
    queue_run(client, bot)
    run_worker()
    return list(GoldenResult.objects.filter(run__chatbot=bot))


# Passing and failing


@pytest.mark.parametrize(
    ("facts", "has_passed"),
    [
        ("from nine to six", True),
        ("FROM  Nine", True),  # case and repeated spaces are ignored
        ("until ten\nto six", True),  # one matching line is enough
        ("until ten\n\n  \nat eight", False),  # empty lines are ignored
        ("ｎｉｎｅ", True),
    ],
)
def test_expected_facts(admin_client, openai, bot, facts, has_passed):
    openai.pages["/v1/chat/completions"] = answering(completion_with("We are open\nfrom nine\nto six."))
    golden(bot, facts=facts)
    (result,) = run(admin_client, bot)
    assert result.has_passed == has_passed
    assert ("does not contain" in result.missing) != has_passed
    assert "We are open" in result.answer


@pytest.mark.parametrize(
    ("source", "has_passed"),
    [
        ("Returns", True),
        (" returns ", True),
        ("https://shop.example/returns/", True),
        ("Opening hours", False),  # in the collection, but not among the passages in the prompt
        ("Return", False),
    ],
)
def test_expected_sources(admin_client, store, bot, source, has_passed):
    store(RETURNS, OPENING)
    Chatbot.objects.filter(pk=bot.pk).update(enable_vector_store=True, collections=["shop"], vector_store_top_k=1)
    golden(bot, "Within how many days may shoes be returned?", facts="", expected_source=source)
    (result,) = run(admin_client, bot)
    assert result.has_passed == has_passed
    assert result.sources[0]["title"] == "Returns"
    page = admin_client.get(golden_page(bot))
    assert ("is not among the sources" in page.text) != has_passed


def test_fact_and_source_must_both_match(admin_client, openai, bot):
    golden(bot, facts="nine", expected_source="Opening hours")
    (result,) = run(admin_client, bot)
    assert result.missing == "The answer does not contain “nine”.\n“Opening hours” is not among the sources."


# Runs


def test_a_run_is_stored_and_shown(admin_client, admin_user, openai, bot):
    ModelPrice.objects.create(provider="openai", model="gpt-4o-mini", input_price=1000, output_price=2000)
    openai.pages["/v1/chat/completions"] = answering(completion_with(f"At nine. {NASTY}"))
    golden(bot)
    golden(bot, f"And {NASTY}?", "at ten")
    golden(bot, "Not asked", is_enabled=False)
    passed, failed = run(admin_client, bot)
    assert (passed.has_passed, failed.has_passed) == (True, False)
    assert (passed.usage["input_tokens"], passed.usage["output_tokens"]) == (11, 5)
    assert str(passed.cost) == "0.02100000"
    assert passed.model == "gpt-4o-mini"
    assert GoldenRun.objects.get().user == admin_user
    page = admin_client.get(golden_page(bot))
    for words in ("by admin", "passed", "failed", "11 + 5", "$0.0210", "does not contain “at ten”"):
        assert words in text_of(page)
    assert NASTY not in page.text
    run(admin_client, bot)
    assert (GoldenRun.objects.count(), GoldenResult.objects.count()) == (1, 2)  # only the latest run is kept


def test_limits_for_visitors_do_not_apply_to_a_run(admin_client, openai, bot):
    Chatbot.objects.filter(pk=bot.pk).update(
        messages_per_minute=0, messages_per_day=0, token_guest_limit=0, is_paused=True
    )
    golden(bot)
    golden(bot, "Closed?")
    assert not any(result.error for result in run(admin_client, bot))
    assert [conversation.source for conversation in Conversation.objects.all()] == ["preview", "preview"]


def test_a_provider_error_fails_one_question_and_not_the_run(admin_client, openai, bot):
    def answer(connection):
        wrong = connection.received.json["messages"][-1]["content"] == "Fail!"
        body = {"error": {"message": "No more."}} if wrong else completion_with("nine")
        answering(body, 429 if wrong else 200)(connection)

    openai.pages["/v1/chat/completions"] = answer
    golden(bot, "Fail!")
    golden(bot)
    failed, passed = run(admin_client, bot)
    assert "No more." in failed.error
    assert not failed.has_passed
    assert passed.has_passed
    assert "No more." in admin_client.get(golden_page(bot)).text


def test_two_questions_are_asked_at_a_time(admin_client, openai, bot):
    active, peak, lock = [0], [0], threading.Lock()

    def behave(connection):
        with lock:
            active[0] += 1
            peak[0] = max(peak[0], active[0])
        time.sleep(0.1)
        with lock:
            active[0] -= 1
        answering(completion_with(connection.received.json["messages"][-1]["content"]))(connection)

    openai.pages["/v1/chat/completions"] = behave
    for number in range(6):
        golden(bot, f"number {number}", f"number {number}")
    results = run(admin_client, bot)
    assert peak == [2]
    assert [result.answer for result in results] == [f"number {number}" for number in range(6)]  # in order
    assert all(result.has_passed for result in results)


def test_without_questions_or_in_the_trash_nothing_is_asked(admin_client, openai, bot):
    golden(bot, is_enabled=False)
    assert run(admin_client, bot) == []
    bot.status = "trash"
    bot.save()
    golden(bot)
    assert run(admin_client, bot) == []
    assert not openai.sent


# Workers


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
        ask(stale)
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


# The golden questions page


def test_questions_are_added_changed_and_deleted(admin_client, openai, bot):
    page = golden_page(bot)
    assert "golden_questions-0-question" in admin_client.get(page).text
    rows = [{"question": "One?", "expected_facts": "1"}, {"question": "Two?", "expected_source": "two"}, {}]
    assert admin_client.post(page, form_of(bot, *rows)).status_code == 302
    one, two = GoldenQuestion.objects.all()
    assert (one.expected_facts, two.expected_source, one.chatbot) == ("1", "two", bot)
    known = [
        {"id": one.pk, "question": "One!", "expected_facts": "1", "is_enabled": ""},
        {"id": two.pk, "question": "Two?", "expected_source": "two", "DELETE": "on"},
    ]
    assert admin_client.post(page, form_of(bot, *known, known=2)).status_code == 302
    one = GoldenQuestion.objects.get()
    assert (one.question, one.is_enabled) == ("One!", False)
    assert LogEntry.objects.filter(change_message="Changed golden questions.").count() == 2
    assert not openai.sent


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "One?"}, "Enter an expected fact"),
        ({"question": "One?", "expected_facts": " \n "}, "Enter an expected fact"),
        ({"question": "", "expected_facts": "1"}, "This field is required"),
        ({"question": "x" * 10_001, "expected_facts": "1"}, "at most 10000 characters"),
    ],
)
def test_invalid_questions_are_rejected(admin_client, bot, row, words):
    page = admin_client.post(golden_page(bot), form_of(bot, row) | {"run": "1"})
    assert page.status_code == 200
    assert words in text_of(page)
    assert not GoldenQuestion.objects.exists()


def test_the_number_of_questions_is_limited(admin_client, bot):
    rows = [{"question": f"{number}?", "expected_facts": "1"} for number in range(MAX_QUESTIONS + 1)]
    assert f"at most {MAX_QUESTIONS}" in text_of(admin_client.post(golden_page(bot), form_of(bot, *rows)))
    assert not GoldenQuestion.objects.exists()


def test_a_question_of_another_chatbot_cannot_be_changed(admin_client, bot):
    theirs = golden(Chatbot.objects.create(name="Other"))
    row = {"id": theirs.pk, "question": "Mine", "expected_facts": "1"}
    admin_client.post(golden_page(bot), form_of(bot, row, known=1))
    theirs.refresh_from_db()
    assert theirs.question == "Open?"


def test_a_viewer_cannot_edit_or_run(staff, openai, bot):
    golden(bot)
    viewer = staff("view")
    page = viewer.get(golden_page(bot))
    assert "Open?" in page.text
    assert "golden_questions-0-question" not in page.text
    assert viewer.post(golden_page(bot), form_of(bot) | {"run": "1"}).status_code == 403
    assert not openai.sent


# Publishing


@pytest.fixture
def draft(bot):
    bot.status = "draft"
    bot.save()
    golden(bot)
    return bot


def submit(client, bot: Chatbot, **changes):
    """Submit the chatbot's form with these changes, and return the page that follows."""
    return client.post(change_page(bot), filled(client.get(change_page(bot))) | changes, follow=True)


def url_of(page) -> str:
    return page.redirect_chain[-1][0]


@pytest.mark.parametrize(("answer", "button"), [("At nine.", "Publish"), ("At ten.", "Publish anyway")])
def test_publishing_a_draft_runs_its_questions_first(admin_client, openai, draft, answer, button):
    openai.pages["/v1/chat/completions"] = answering(completion_with(answer))
    changes = {"instructions": "Sell\r\nhats.", "footer_text": NASTY, "_continue": "1"}
    page = submit(admin_client, draft, status="published", **changes)
    assert "The golden questions are being asked." in text_of(page)
    assert "Waiting for a worker" in text_of(page)
    assert not openai.sent
    run_worker()
    page = admin_client.get(url_of(page))
    assert f" {button} </button>" in text_of(page)
    assert openai.sent[-1].json["messages"][0]["content"] == "Sell\nhats."  # the settings to be published
    assert NASTY not in page.text
    draft.refresh_from_db()
    assert (draft.status, draft.instructions) == ("draft", "Sell shoes.")
    assert decision_url(draft) in admin_client.get(golden_page(draft)).text

    done = admin_client.post(decision_url(draft), {"decision": "publish"}, follow=True)
    assert done.redirect_chain == [(change_page(draft), 302)]
    draft.refresh_from_db()
    assert (draft.status, draft.instructions, draft.footer_text) == ("published", "Sell\nhats.", NASTY)
    assert draft.history.first().history_user.username == "admin"
    changed = LogEntry.objects.first().get_change_message()
    assert changed == "Changed Status, Instructions and Footer text."
    assert len(openai.sent) == 1


def decision_url(*bots: Chatbot) -> str:
    runs = GoldenRun.objects.filter(chatbot__in=bots).order_by("pk")
    return reverse("admin:chatbots_chatbot_decide_on_publishing", query={"run": [run.pk for run in runs]})


def test_the_new_settings_can_be_saved_as_a_draft(admin_client, openai, draft):
    page = submit(admin_client, draft, status="published", temperature="0.2")
    assert "Save as draft" in page.text
    admin_client.post(url_of(page), {"decision": "draft"})
    draft.refresh_from_db()
    assert (draft.status, draft.temperature) == ("draft", 0.2)
    assert LogEntry.objects.first().get_change_message() == "Changed Temperature."


@pytest.mark.parametrize(("decision", "status"), [("publish", "published"), ("draft", "draft")])
def test_what_others_save_before_the_decision_is_kept(admin_client, openai, draft, decision, status):
    page = submit(admin_client, draft, status="published", temperature="0.2", instructions="Sell hats.")
    draft.refresh_from_db()
    draft.is_paused, draft.greeting, draft.temperature = True, "Ahoy", 0.9
    draft.save()
    done = admin_client.post(url_of(page), {"decision": decision}, follow=True)
    assert "keeps what somebody else has saved meanwhile: Temperature." in done.text
    draft.refresh_from_db()
    assert (draft.is_paused, draft.greeting, draft.temperature) == (True, "Ahoy", 0.9)
    assert (draft.status, draft.instructions) == (status, "Sell hats.")


def test_publishing_does_not_take_a_chatbot_out_of_the_trash(admin_client, openai, draft):
    page = submit(admin_client, draft, status="published")
    draft.status = "trash"
    draft.save()
    done = admin_client.post(url_of(page), {"decision": "publish"}, follow=True)
    assert "keeps what somebody else has saved meanwhile: Status." in done.text
    draft.refresh_from_db()
    assert draft.status == "trash"


def test_without_a_worker_a_draft_can_still_be_published(admin_client, openai, draft):
    page = submit(admin_client, draft, status="published")
    assert "Publish without waiting" in page.text
    assert "Save as draft" not in page.text  # the status is the only change
    admin_client.post(url_of(page), {"decision": "publish"})
    draft.refresh_from_db()
    assert (draft.status, openai.sent) == ("published", [])


def test_the_decision_is_made_once(admin_client, openai, draft):
    page = submit(admin_client, draft, status="published", temperature="0.2")
    admin_client.post(url_of(page), {"decision": "publish"})
    Chatbot.objects.filter(pk=draft.pk).update(status="draft", temperature=0.7)
    for stale in (admin_client.post(url_of(page), {"decision": "publish"}), admin_client.get(url_of(page))):
        assert stale["Location"] == LIST
    draft.refresh_from_db()
    assert (draft.status, draft.temperature) == ("draft", 0.7)


def test_a_later_run_discards_the_pending_settings(admin_client, openai, draft):
    page = submit(admin_client, draft, status="published")
    queue_run(admin_client, draft)
    assert "have replaced these" in text_of(admin_client.get(url_of(page), follow=True))
    admin_client.post(url_of(page), {"decision": "publish"})
    draft.refresh_from_db()
    assert draft.status == "draft"


@pytest.mark.parametrize(
    ("status", "sent", "asked"),
    [
        ("draft", {"status": "draft"}, False),
        ("published", {"status": "published"}, False),
        ("published", {"status": "draft"}, False),
        ("trash", {"status": "published"}, True),
        ("draft", {"status": "published", "temperature": "9"}, False),  # an invalid form
    ],
)
def test_which_status_changes_start_a_run(admin_client, openai, draft, status, sent, asked):
    Chatbot.objects.filter(pk=draft.pk).update(status=status)
    submit(admin_client, draft, **sent)
    run_worker()
    assert bool(openai.sent) == asked


def test_without_enabled_questions_nothing_is_asked(admin_client, openai, draft):
    GoldenQuestion.objects.update(is_enabled=False)
    assert url_of(submit(admin_client, draft, status="published")) == LIST
    draft.refresh_from_db()
    assert (draft.status, openai.sent) == ("published", [])


def test_several_drafts_are_published_together(admin_client, openai, draft):
    other = Chatbot.objects.create(name="Other", status="draft")
    third = Chatbot.objects.create(name="Third", provider="openai", model="m", status="draft")
    golden(third, facts="hi")
    address = url_of(act(admin_client, "publish", draft, other, third))
    run_worker()
    page = admin_client.get(address)
    assert [run.chatbot.name for run in page.context["runs"]] == ["Other", "Shop", "Third"]
    assert "Publish anyway" in page.text  # one question failed
    assert set(Chatbot.objects.values_list("status", flat=True)) == {"draft"}
    assert len(openai.sent) == 2
    assert admin_client.post(address, {"decision": "publish"})["Location"] == LIST
    assert set(Chatbot.objects.values_list("status", flat=True)) == {"published"}


def test_a_viewer_cannot_start_a_run_by_publishing(staff, openai, draft):
    client = staff("view")
    assert client.post(change_page(draft), {"name": "Shop", "status": "published"}).status_code == 403
    act(client, "publish", draft)
    assert not GoldenRun.objects.exists()


# Copies, export and import


def test_a_copied_chatbot_has_the_same_questions(admin_client, draft):
    act(admin_client, "duplicate", draft)
    copy = Chatbot.objects.get(name="Shop (copy)")
    assert [(question.question, question.expected_facts) for question in copy.golden_questions.all()] == [
        ("Open?", "nine")
    ]
    assert draft.golden_questions.count() == 1


def test_questions_are_exported_and_imported(admin_client, draft):
    golden(draft, "Where?", "", expected_source="Map", is_enabled=False)
    other = Chatbot.objects.create(name="Without")
    exported = json.loads(export_chatbots([draft, other]))
    assert exported[0]["golden_questions"] == [
        {"question": "Open?", "expected_facts": "nine", "expected_source": "", "is_enabled": True},
        {"question": "Where?", "expected_facts": "", "expected_source": "Map", "is_enabled": False},
    ]
    assert "golden_questions" not in exported[1]
    page = upload(admin_client, exported)
    assert "Ignored" not in text_of(page)
    added = Chatbot.objects.exclude(pk__in=[draft.pk, other.pk])
    assert json.loads(export_chatbots(added))[0]["golden_questions"] == exported[0]["golden_questions"]
    assert GoldenQuestion.objects.count() == 4


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        ({}, "golden_questions: It must be a list of objects."),
        ([5], "golden_questions: Question 1: It must be an object."),
        ([{"question": "One?"}], "Question 1: Enter an expected fact"),
        ([{"question": 5, "expected_facts": "x"}], "Question 1: question: It must be text."),
        ([{"expected_facts": "x"}], "Question 1: question: This field is required."),
        (
            [{"question": "x", "expected_facts": "x", "is_enabled": 7}],
            "Question 1: is_enabled: It must be true or false.",
        ),
    ],
)
def test_invalid_questions_in_an_import_file(admin_client, questions, words):
    page = upload(admin_client, [{"name": "Good"}, {"name": "Bad", "golden_questions": questions}])
    assert words in text_of(page)
    assert not Chatbot.objects.exists()


def test_a_dry_run_of_an_import_saves_no_question(admin_client):
    question = {"question": "One?", "expected_facts": "1"}
    upload(admin_client, [{"name": "Good", "golden_questions": [question]}], dry_run="on")
    assert not GoldenQuestion.objects.exists()
