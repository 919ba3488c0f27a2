"""What conversations' rows tell of their messages, and the sums of days, for what was written before."""

from django.db import migrations
from django.db.models import BigIntegerField, Case, Exists, OuterRef, Subquery, Sum, Value, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce, Left, Replace

from logs.days import rebuild

VISITOR_LEFT = "The visitor left before the answer was complete."


def fill(apps, schema_editor):
    Conversation, Message = apps.get_model("logs", "Conversation"), apps.get_model("logs", "Message")
    messages = Message.objects.filter(conversation=OuterRef("pk"))
    newest_first, answers = messages.order_by("-id"), messages.filter(role="bot")
    tokens = answers.order_by().values("conversation").annotate(
        sum=Sum(Cast(KeyTextTransform("total_tokens", "usage"), BigIntegerField()))
    )
    Conversation.objects.update(
        last_message=Coalesce(
            Subquery(newest_first.annotate(line=Left(Replace("content", Value("\n"), Value(" ")), 200)).values("line")[:1]),
            Value(""),
        ),
        tokens=Coalesce(Subquery(tokens.values("sum")), 0),
        provider=Coalesce(Subquery(newest_first.exclude(provider="").values("provider")[:1]), Value("")),
        has_error=Exists(answers.exclude(error__in=["", VISITOR_LEFT])),
        has_unanswered=Exists(answers.filter(passages=[], error="")),
        rating=Case(
            When(Exists(answers.filter(feedback="down")), then=Value("down")),
            When(Exists(answers.filter(feedback="up")), then=Value("up")),
            default=Value(""),
        ),
    )
    if Message.objects.exists() or apps.get_model("logs", "UsageEvent").objects.exists():
        rebuild()  # today's code, but it writes the tables of sums alone


class Migration(migrations.Migration):
    dependencies = [("logs", "0006_sums_of_days")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
