"""The admin's searches, filters and query strings reach the database only as SQL parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.exceptions import SuspiciousOperation
from django.db import connection
from django.db.models import CharField, TextField
from django.test import RequestFactory

from logs.models import Conversation, WebhookDelivery
from tests.support.admin.rows_of_models import ROWS, url_of
from tests.support.attacks.sql_injections import CLASSIC, MARK, payloads

pytestmark = pytest.mark.django_db

SEARCHABLE = [model for model in ROWS if admin.site._registry[model].search_fields]
# Unusual values of numbers, dates and choices.
NOT_TEXT = ["9" * 30, "-1", "1e9", "nan", "2026-99-99", "[]", "{}", "a,b", ","]
COMMON_PARAMETERS = ["o", "p", "all", "_to_field", "_changelist_filters", "e"]


@contextmanager
def statements() -> Iterator[set[str]]:
    """Record the SQL statements that are executed while the block runs."""
    executed: set[str] = set()

    def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        executed.add(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        yield executed


@pytest.fixture
def list_rows(admin_user):
    """Return a function that filters a changelist by query parameters: it returns the rows, or None if refused."""

    def rows(model: type, **parameters: str) -> list[Any] | None:
        request = RequestFactory().get("/", parameters)
        request.user = admin_user
        request._messages = CookieStorage(request)  # for the message that a search text is invalid
        try:
            changelist = admin.site._registry[model].get_changelist_instance(request)
        except (IncorrectLookupParameters, SuspiciousOperation):  # the page redirects to the list, or is a 400
            return None
        return list(changelist.result_list)

    return rows


def test_all_changelists_are_searchable_but_these_two():
    not_searched = {model._meta.label for model in ROWS} - {model._meta.label for model in SEARCHABLE}
    assert not_searched == {"providers.ProviderConfig", "vectorstores.StoreConfig"}


@pytest.mark.slow
@pytest.mark.parametrize("model", SEARCHABLE, ids=lambda model: model._meta.label)
def test_search_texts_stay_out_of_the_sql(list_rows, model):
    ROWS[model](0)
    before = model._default_manager.count()
    with statements() as executed:
        for payload in payloads() if has_custom_search(model) else payloads()[:CLASSIC]:
            assert not list_rows(model, q=payload + MARK), payload
        for payload in [*payloads()[:CLASSIC], *NOT_TEXT]:
            list_rows(model, q=payload)
    assert len(executed) > 1
    assert not any(MARK in sql for sql in executed)
    assert model._default_manager.count() == before
    assert list_rows(model, q="")


def has_custom_search(model: type) -> bool:
    return type(admin.site._registry[model]).get_search_results is not admin.ModelAdmin.get_search_results


@pytest.mark.slow
@pytest.mark.parametrize("model", ROWS, ids=lambda model: model._meta.label)
def test_filter_values_stay_out_of_the_sql(list_rows, admin_user, model):
    ROWS[model](0)
    before = model._default_manager.count()
    with statements() as executed:
        for parameter in [*filters_of(model, admin_user), *COMMON_PARAMETERS]:
            for payload in [*payloads()[:CLASSIC:5], *NOT_TEXT]:
                list_rows(model, **{parameter: payload + MARK})
                list_rows(model, **{parameter: payload})
    assert not any(MARK in sql for sql in executed)
    assert model._default_manager.count() == before


def filters_of(model: type, user: Any) -> list[str]:
    request = RequestFactory().get("/")
    request.user = user
    changelist = admin.site._registry[model].get_changelist_instance(request)
    return [parameter for spec in changelist.filter_specs for parameter in spec.expected_parameters()]


@pytest.mark.parametrize(
    "model", [model for model in SEARCHABLE if model is not Conversation], ids=lambda m: m._meta.label
)
def test_searches_take_wildcards_literally(list_rows, model):
    names = admin.site._registry[model].search_fields
    texts = [
        name for name in names if "__" not in name and isinstance(model._meta.get_field(name), CharField | TextField)
    ]
    if model is WebhookDelivery:
        pytest.skip("deliveries are searched by UUID, which has no wildcards")
    one, other = ROWS[model](0), ROWS[model](1)
    model._default_manager.filter(pk=one.pk).update(**{texts[0]: "z%_\\q"})
    model._default_manager.filter(pk=other.pk).update(**{texts[0]: "zabcq"})
    assert {row.pk for row in list_rows(model, q="z")} >= {one.pk, other.pk}
    for text in ("z%_\\q", "%_", "\\q", "Z%"):
        assert [row.pk for row in list_rows(model, q=text)] == [one.pk], text


def test_a_delivery_is_found_by_its_ids(list_rows):
    delivery = ROWS[WebhookDelivery](0)
    ROWS[WebhookDelivery](1)
    for text in (str(delivery.event_id), str(delivery.delivery_id)):
        assert list_rows(WebhookDelivery, q=text) == [delivery]
    assert list_rows(WebhookDelivery, q=f"{delivery.event_id}%") == []


@pytest.mark.parametrize("model", SEARCHABLE, ids=lambda model: model._meta.label)
@pytest.mark.parametrize("text", ["' OR '1'='1", "%", "\\", '"', "<script>alert(1)</script>"])
def test_changelists_escape_the_search_text(admin_client, model, text):
    page = admin_client.get(url_of(model, "changelist"), {"q": text})
    assert page.status_code == 200
    assert "<script>alert(1)</script>" not in page.text


@pytest.mark.parametrize("model", ROWS, ids=lambda model: model._meta.label)
def test_urls_with_nul_bytes_are_refused(admin_client, admin_user, model):
    url = url_of(model, "changelist")
    for parameter in ["q", *filters_of(model, admin_user), *COMMON_PARAMETERS]:
        assert admin_client.get(url, {parameter: "a\x00b"}).status_code == 400
    assert "Bad request" in admin_client.get(f"{url}?q=%%0000").text
    assert admin_client.get(f"{url}a%00b/change/", follow=True).status_code in (200, 404)


EXTREMES = ["id__in=9999999999999999999", "id__in=" + "9" * 30, "p=" + "9" * 5000, "q=" + "9" * 5000, "q=%ED%A0%80"]
DATES = ["0001-01-01 00:00:00+14:00", "9999-12-31 23:59:59-12:00", "0001-01-01", "9999-12-31", "99999-01-01"]


@pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("model", ROWS, ids=lambda model: model._meta.label)
def test_values_that_no_column_holds_are_refused(admin_client, admin_user, settings, model, zone):
    settings.TIME_ZONE = zone
    admin_client.raise_request_exception = False
    dates = [parameter for parameter in filters_of(model, admin_user) if parameter.endswith(("__gte", "__lt"))]
    queries = [*EXTREMES, *(urlencode({parameter: date}) for parameter in dates for date in DATES)]
    for query in queries if zone == "UTC" else queries[len(EXTREMES) :]:
        assert admin_client.get(f"{url_of(model, 'changelist')}?{query}").status_code in (200, 302, 400), query
