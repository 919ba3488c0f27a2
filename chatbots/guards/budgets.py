"""Which chatbots have used up what their owner allows them, or soon will."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, Count, F, Q, When

from chatbots.guards.limits import OF_THE_BOT, period_of
from chatbots.models import Chatbot, MessageCount, TokenAllowance
from logs.usage import midnight, today
from puffer.text import counted

NEAR = 0.8  # of what is allowed


@dataclass(frozen=True)
class Budget:
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
    """The fullest first."""
    return sorted([*messages_of_today(), *visitors_at_their_quota()], key=lambda budget: (-budget.share, budget.name))


def messages_of_today() -> Iterator[Budget]:
    window = int(midnight(today()).timestamp())
    counts = MessageCount.objects.filter(counted=OF_THE_BOT, window=window, chatbot__messages_per_day__isnull=False)
    for count in counts.filter(count__gte=F("chatbot__messages_per_day") * NEAR).select_related("chatbot"):
        bot, limit = count.chatbot, count.chatbot.messages_per_day
        assert limit is not None
        yield Budget(bot.pk, bot.name, f"{count.count:,} of {limit:,} messages today", count.count / limit)


def visitors_at_their_quota() -> Iterator[Budget]:
    """Each visitor has a quota of their own: the fullest is what the chatbot's share tells."""
    in_period = Q()
    for period in Chatbot.ResetPeriod.values:
        in_period |= Q(chatbot__token_reset_period=period, period_start__gte=period_of(period, today())[0])
    identified = When(visitor__startswith="user:", then="chatbot__token_user_limit")
    near: Any = (
        TokenAllowance.objects.filter(in_period)
        .annotate(limit=Case(identified, default="chatbot__token_guest_limit"))
        .filter(limit__gt=0, used__gte=F("limit") * NEAR)
        .values("chatbot_id", "chatbot__name")
        .annotate(visitors=Count("pk"), over=Count("pk", filter=Q(used__gte=F("limit"))))
    )
    for row in near:
        over, near_it = row["over"], row["visitors"] - row["over"]
        words = f"token quota: used up by {counted(over, 'visitor')}, nearly by {counted(near_it, 'visitor')}"
        yield Budget(row["chatbot_id"], row["chatbot__name"], words, 1.0 if row["over"] else NEAR)
