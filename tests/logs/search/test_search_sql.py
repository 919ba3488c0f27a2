"""The SQL of a search: safe from injection, and planned as intended."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from logs.models import Conversation, Message
from logs.search.indexer import index_batch
from logs.search.tables import SEARCHED
from tests.support.attacks.sql_injections import CLASSIC, MARK, payloads
from tests.support.searched_conversations import make_conversation


@pytest.mark.slow
@pytest.mark.parametrize("parameter", ["message_search", "user_search", "bot_id", "page", "per_page"])
def test_payloads_reach_the_database_as_parameters_only(api, bot, parameter):
    make_conversation("Nothing of the kind.", chatbot=bot, session_id="one")
    for searched in SEARCHED:
        index_batch(searched)
    statements = set()

    def record(execute, sql, params, many, context):
        statements.add(sql)
        return execute(sql, params, many, context)

    def ask(value):
        response = api.get("/logs", params={parameter: value})
        assert response.status_code == 200, (value, response.text)
        return response.json(), response.headers["x-wp-total"]

    with connection.execute_wrapper(record):
        for text in ("harmless", "xy", "x", "x" * 200, "é", "...", "5"):  # every kind of search
            ask(text)
        expected_statements = set(statements)
        is_text = parameter in ("message_search", "user_search")
        tried = payloads() if is_text else payloads()[:CLASSIC]  # parameters that are numbers need fewer
        found = [payload for payload in tried if ask(MARK + payload)[0]]
        for payload in tried:
            ask(payload)
    if is_text:
        assert found == []
    assert len(payloads()) == 500
    # Django writes one placeholder per id of a page, and none where there is no page.
    assert {without_placeholders(sql) for sql in statements} <= {
        without_placeholders(sql) for sql in expected_statements
    }
    assert not any(MARK in sql for sql in statements)
    assert Conversation.objects.count() == Message.objects.count() == 1


def without_placeholders(sql: str) -> str:
    """Remove placeholders, and the names of savepoints, which Django makes unique."""
    return re.sub(r'"s\d+_x\d+"', "", sql.replace("%s, ", "").replace("%s,", ""))


def test_a_search_takes_few_queries(api, bot):
    for _ in range(30):
        make_conversation("Shoes", chatbot=bot, session_id="one")
    with CaptureQueriesContext(connection) as queries:
        rows = api.get(f"/logs?message_search=shoes&user_search=one&bot_id={bot.pk}").json()
    assert len(rows) == 20
    assert len(queries) <= 30  # most of them are PostgreSQL's settings and savepoints
