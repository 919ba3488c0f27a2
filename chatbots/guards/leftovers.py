"""Delete rows that any visitor can create without limit: consents without a question, and quotas of past periods."""

from typing import Any

from chatbots.guards.consents import unused_consents
from chatbots.guards.limits import ALL_VISITORS, period_of
from chatbots.models import Chatbot, Consent, TokenAllowance
from logs.usage import midnight, today
from puffer.runtime import Periodic

BATCH = 2000

_cleaning = Periodic(every_seconds=3600)


def run_due() -> bool:
    """Delete a batch of each kind, as one of settings.WORKER_JOBS. Return True if there may be more."""
    if not _cleaning.is_due():
        return False
    is_full = delete(Consent.objects.filter(pk__in=unused_consents()[:BATCH]))
    is_full |= delete(TokenAllowance.objects.filter(visitor=ALL_VISITORS, period_start__lt=midnight(today())))
    for period in Chatbot.ResetPeriod.values:
        start, _ = period_of(period, today())
        past = TokenAllowance.objects.filter(chatbot__token_reset_period=period, period_start__lt=start)
        is_full |= delete(past.exclude(visitor=ALL_VISITORS))
    if not is_full:
        _cleaning.restart()
    return is_full


def delete(rows: Any) -> bool:
    """Delete some of the rows, so that others can write in between. Return whether there may be more."""
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
    rows.filter(pk__in=ids).delete()  # only if it still is one: a visitor may have begun a new period meanwhile
    return len(ids) == BATCH
