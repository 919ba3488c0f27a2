"""Golden questions in tests: their page, its form data, and a run of them."""

from django.core.management import call_command
from django.urls import reverse

from chatbots.models import Chatbot, GoldenQuestion, GoldenResult
from tests.support.providers.answers import CHAT_COMPLETION


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
