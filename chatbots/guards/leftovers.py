"""Delete rows that any visitor can create without limit: consents without a question, and quotas of past periods."""

from chatbots.guards.consents import unused_consents
from chatbots.guards.limits import ALL_VISITORS, period_of
from chatbots.models import Chatbot, Consent, TokenAllowance
from logs.usage import midnight, today
from puffer.runtime import Periodic, delete_batch

MAX_CONSENTS = 2000  # in a query

_cleaning = Periodic(every_seconds=3600)


def run_due() -> bool:
    """Delete a batch of each kind, as one of settings.WORKER_JOBS. Return True if there may be more."""
    if not _cleaning.is_due():
        return False
    is_full = delete_batch(Consent.objects.filter(pk__in=unused_consents()[:MAX_CONSENTS]))
    is_full |= delete_batch(TokenAllowance.objects.filter(visitor=ALL_VISITORS, period_start__lt=midnight(today())))
    for period in Chatbot.ResetPeriod.values:
        start, _ = period_of(period, today())
        past = TokenAllowance.objects.filter(chatbot__token_reset_period=period, period_start__lt=start)
        is_full |= delete_batch(past.exclude(visitor=ALL_VISITORS))
    if not is_full:
        _cleaning.restart()
    return is_full
