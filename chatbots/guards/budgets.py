"""Chatbots that have reached, or nearly reached, the limits that their owner set."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, Count, F, Q, When
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chatbots.guards.limits import ALL_VISITORS, NETWORK_PREFIX, period_of
from chatbots.models import Chatbot, MessageCount, TokenAllowance
from logs.usage import midnight, today
from puffer.text import whole

NEAR = 0.8  # share of the limit from which a budget is listed


@dataclass(frozen=True)
class Budget:
    """A limit of a chatbot, and how much of it is used."""

    chatbot_id: int
    name: str
    words: str
    share: float  # 1: used up

    @property
    def percent(self) -> int:
        return min(int(100 * self.share), 100)

    @property
    def is_over(self) -> bool:
        return self.share >= 1


def near_budgets() -> list[Budget]:
    """Return the budgets that are nearly or completely used, the fullest first."""
    budgets = [*messages_of_today(), *tokens_of_today(), *visitors_at_their_quota()]
    return sorted(budgets, key=lambda budget: (-budget.share, budget.name))


def messages_of_today() -> Iterator[Budget]:
    window = int(midnight(today()).timestamp())
    counts = MessageCount.objects.filter(subject=ALL_VISITORS, window=window, chatbot__messages_per_day__isnull=False)
    for count in counts.filter(count__gte=F("chatbot__messages_per_day") * NEAR).select_related("chatbot"):
        bot, limit = count.chatbot, count.chatbot.messages_per_day
        assert limit is not None
        numbers = {"count": whole(count.count), "limit": whole(limit)}
        yield Budget(bot.pk, bot.name, _("%(count)s of %(limit)s messages today") % numbers, count.count / limit)


def tokens_of_today() -> Iterator[Budget]:
    near = TokenAllowance.objects.filter(
        visitor=ALL_VISITORS, period_start=midnight(today()), used__gte=F("chatbot__tokens_per_day") * NEAR
    )
    for allowance in near.select_related("chatbot"):
        bot, limit = allowance.chatbot, allowance.chatbot.tokens_per_day
        assert limit is not None
        numbers = {"count": whole(allowance.used), "limit": whole(limit)}
        yield Budget(bot.pk, bot.name, _("%(count)s of %(limit)s tokens today") % numbers, allowance.used / limit)


def visitors_at_their_quota() -> Iterator[Budget]:
    """Yield one budget per chatbot. Each visitor has their own quota; the share is that of the fullest one."""
    in_period = Q()
    for period in Chatbot.ResetPeriod.values:
        in_period |= Q(chatbot__token_reset_period=period, period_start__gte=period_of(period, today())[0])
    identified = When(visitor__startswith="user:", then="chatbot__token_user_limit")
    near: Any = (
        TokenAllowance.objects.filter(in_period)
        .exclude(visitor=ALL_VISITORS)
        .exclude(visitor__startswith=NETWORK_PREFIX)
        .annotate(limit=Case(identified, default="chatbot__token_guest_limit"))
        .filter(limit__gt=0, used__gte=F("limit") * NEAR)
        .values("chatbot_id", "chatbot__name")
        .annotate(visitors=Count("pk"), over=Count("pk", filter=Q(used__gte=F("limit"))))
    )
    for row in near:
        over, almost = row["over"], row["visitors"] - row["over"]
        used_up = ngettext("used up by %(count)s visitor", "used up by %(count)s visitors", over)
        nearly = ngettext("nearly by %(count)s visitor", "nearly by %(count)s visitors", almost)
        words = _("token quota: %(used_up)s, %(nearly)s") % {
            "used_up": used_up % {"count": whole(over)},
            "nearly": nearly % {"count": whole(almost)},
        }
        yield Budget(row["chatbot_id"], row["chatbot__name"], words, 1.0 if row["over"] else NEAR)
