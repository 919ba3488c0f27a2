"""The decision to publish a chatbot after its golden questions."""

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from chatbots.models import Chatbot, GoldenQuestion, GoldenRun
from tests.support.admin.chatbot_pages import LIST, act, change_page, filled, text_of
from tests.support.admin.golden_questions import completion_with, golden, golden_page, queue_run, run_worker
from tests.support.admin.rows_of_models import NASTY
from tests.support.upstream import answering

pytestmark = pytest.mark.django_db


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


def test_a_run_of_an_earlier_version_has_no_newer_settings(admin_client, openai, draft):
    page = submit(admin_client, draft, status="published", instructions="Sell hats.")
    run = GoldenRun.objects.get()
    del run.settings["tokens_per_day"], run.saved_settings["tokens_per_day"]
    run.save()
    assert admin_client.get(url_of(page)).status_code == 200
    admin_client.post(url_of(page), {"decision": "publish"})
    draft.refresh_from_db()
    assert (draft.status, draft.instructions) == ("published", "Sell hats.")


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
