"""When sources are refreshed: schedules, several workers, failures, cancelling, and the command."""

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from puffer.runtime import claim
from tests.support.knowledge.imports import texts
from tests.support.knowledge.sources import counts
from tests.support.knowledge.website import Answer, html
from tests.support.upstream import answering, embedding
from vectorstores.models import Document, Source
from vectorstores.refresh import run
from vectorstores.refresh import worker as refreshing

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(site):
    site.serve(**{f"page{number}": f"Text of number {number}." for number in range(10)})
    site.map()
    return site


def pretend_that_time_passes(source: Source, **time) -> None:
    source.refresh_from_db()
    moved = {name: getattr(source, name) - timedelta(**time) for name in ("due_at", "started_at", "ended_at")}
    Source.objects.filter(pk=source.pk).update(**moved)


@pytest.mark.parametrize(
    ("schedule", "before", "after"),
    [
        ("hourly", {"minutes": 58}, {"minutes": 4}),
        ("daily", {"hours": 23}, {"hours": 2}),
        ("weekly", {"days": 6}, {"days": 2}),
    ],
)
def test_a_source_is_refreshed_when_its_schedule_says_so(shop, add, worker, schedule, before, after):
    source = add(schedule=schedule)
    worker()
    assert len(texts()) == 10
    shop.statuses()
    pretend_that_time_passes(source, **before)
    worker()
    assert not shop.requests
    pretend_that_time_passes(source, **after)
    worker()
    assert len(shop.statuses()) == 13  # robots.txt, the start, its sitemap and the pages
    source.refresh_from_db()
    assert (source.run, counts(source)) == (2, {"unchanged": 10})


def test_a_source_without_a_schedule_is_refreshed_only_when_asked(shop, add, worker, refresh):
    source = refresh(add())
    assert (source.state, source.next_run_at) == ("done", None)
    worker()
    assert Source.objects.get().run == 1


def test_only_one_of_two_workers_refreshes_a_source(shop, add, worker):
    source = add()
    ours = claim(Source.objects.ready(), 30)
    assert ours == source
    worker()
    assert not shop.requests
    assert claim(Source.objects.ready(), 30) is None
    refreshing.work_on(ours)
    assert len(texts()) == 10


def test_two_sources_of_one_host_are_read_one_after_the_other(shop, add, worker, settings):
    first, second = add(), add("/page1", "page")
    ours = claim(Source.objects.ready().filter(pk=first.pk), 30)
    worker()
    assert not shop.requests
    refreshing.work_on(ours)
    worker()
    second.refresh_from_db()
    assert second.state == "done"


def test_a_worker_that_has_lost_its_lease_records_nothing(shop, add, caplog):
    source = add()
    slow = claim(Source.objects.ready(), 30)
    Source.objects.filter(pk=source.pk).update(lease="another")
    refreshing.work_on(slow)
    assert "taken over" in caplog.text
    source.refresh_from_db()
    assert (source.run, source.pages.count(), source.lease) == (0, 0, "another")


def test_a_source_that_is_deleted_meanwhile_ends_quietly(shop, add, caplog):
    source = add()
    ours = claim(Source.objects.ready(), 30)
    source.delete()
    refreshing.work_on(ours)
    assert "taken over by another worker, restarted or deleted" in caplog.text
    assert not Document.objects.exists()


def test_a_run_continues_in_slices(shop, add, worker, monkeypatch):
    monkeypatch.setattr(run, "SLICE_SECONDS", 0.0001)
    monkeypatch.setattr(run, "BATCH_PAGES", 3)
    source = add()
    slices = 0
    while refreshing.run_due():
        slices += 1
    assert slices > 3
    source.refresh_from_db()
    assert (source.state, source.run, counts(source)) == ("done", 1, {"new": 10})
    assert shop.statuses()["/sitemap.xml"] == 200


def test_a_failing_provider_is_tried_again_and_nothing_is_read_twice(shop, add, worker, model):
    model.pages["/v1/embeddings"] = answering({"error": {"message": "down"}}, 500)
    source = add()
    worker()
    source.refresh_from_db()
    assert (source.state, source.phase, source.attempts) == ("waiting", "reading", 1)
    assert source.last_error
    assert source.due_at > timezone.now()
    model.pages["/v1/embeddings"] = embedding()
    pretend_that_time_passes(source, seconds=20) if source.ended_at else Source.objects.update(due_at=timezone.now())
    worker()
    source.refresh_from_db()
    assert (source.state, source.last_error, counts(source)) == ("done", "", {"new": 10})


def test_a_wrong_key_ends_the_run_at_once(shop, add, worker, model, settings):
    settings.PROVIDER_ENVIRONMENT = {"openai": {"api_key": "", "base_url": ""}}
    source = add(schedule="daily")
    worker()
    source.refresh_from_db()
    assert (source.state, source.phase) == ("waiting", "")
    assert "key" in source.last_error
    assert source.next_run_at > timezone.now() + timedelta(hours=20)


@pytest.mark.parametrize("status", [500, 429])
def test_a_site_that_cannot_be_reached_ends_the_run_after_six_attempts(shop, add, worker, refresh, status):
    source = refresh(add(schedule="daily"))
    for path in ("/", "/robots.txt"):
        shop.answers[path] = Answer(status=status, headers={"Retry-After": "9999"})
    source.refresh()
    for _ in range(6):
        Source.objects.update(due_at=timezone.now())
        worker()
    source.refresh_from_db()
    assert (source.phase, source.attempts) == ("", 0)
    assert f"HTTP {status}" in source.last_error
    assert source.next_run_at > timezone.now()
    assert len(texts()) == 10


def test_a_source_that_kills_its_workers_is_given_up(shop, add, worker):
    source = add()
    Source.objects.update(attempts=refreshing.MAX_ATTEMPTS)
    worker()
    source.refresh_from_db()
    assert source.state == "dead"
    assert "25 workers stopped" in source.last_error


def test_a_cancelled_run_stops(shop, add, worker, monkeypatch):
    source = add()
    ours = claim(Source.objects.ready(), 30)
    source.cancel()
    source.refresh_from_db()
    assert source.is_cancelled  # a worker holds it
    refreshing.work_on(ours)
    source.refresh_from_db()
    assert (source.state, source.last_error, source.is_cancelled) == ("dead", "Cancelled.", False)
    assert not shop.requests or source.pages.count() <= 10


# The command


def command(*arguments, code: int = 0):
    out, err, ended = io.StringIO(), io.StringIO(), 0
    try:
        call_command("refresh_sources", *arguments, stdout=out, stderr=err)
    except SystemExit as end:
        ended = end.code
    assert ended == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def test_the_command_refreshes_all_sources(shop, add):
    add(), add("/page1", "page", target="other"), add("/page2", "page", is_approved=False, target="unapproved")
    out, _ = command("--json")
    found = json.loads(out)
    assert [(one["collection"], one["new"], one["failed"], one["error"]) for one in found] == [
        ("kb", 10, 0, ""),
        ("other", 1, 0, ""),
    ]
    out, _ = command()
    assert f"{shop.url}/: 10 unchanged." in out


def test_the_command_refreshes_those_that_are_due(shop, add, worker):
    source = add(schedule="daily")
    worker()
    assert command("--due") == ("No source is due.\n", "")
    pretend_that_time_passes(source, days=1)
    assert "10 unchanged" in command("--due")[0]


def test_the_command_refreshes_one_source(shop, add):
    one, _other = add("/page1", "page"), add("/page2", "page")
    command("--source", str(one.pk))
    assert texts() == {"Text of number 1."}
    with pytest.raises(CommandError, match="no source 99999") as error:
        command("--source", "99999")
    assert error.value.returncode == 2


def test_the_exit_codes_of_the_command(shop, add):
    assert command()[0] == "There are no sources. Add them in the admin.\n"
    good, bad = add("/page1", "page"), add("/page2", "page")
    shop.answers["/page2"] = Answer(html("x", "y"), 500)
    assert "1 failed" in command(code=1)[0]
    Source.objects.filter(pk=bad.pk).update(kind="folder")
    assert "Folders are turned off" in command(code=1)[1]
    good.delete()
    command(code=2)


def test_the_command_waits_for_a_worker_and_continues_if_it_was_killed(shop, add):
    source = add()
    killed = claim(Source.objects.ready(), 1.5)
    assert killed == source
    out, _ = command("--source", str(source.pk), "--due")
    assert "No source is due." in out
    Source.objects.filter(pk=source.pk).update(phase="listing", run=1, started_at=timezone.now())
    out, _ = command("--source", str(source.pk))
    assert "10 new" in out
    source.refresh_from_db()
    assert source.run == 1
