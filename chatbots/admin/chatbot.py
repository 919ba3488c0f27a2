"""Chatbots: the list, what can be done with several, import and export."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action, display

from chatbots.admin.forms import ImportForm
from chatbots.admin.golden import GoldenQuestionsAdmin
from chatbots.admin.history import HistoryAdmin
from chatbots.admin.playground import PlaygroundAdmin
from chatbots.admin.unanswered import UnansweredAdmin
from chatbots.lifecycle.serializers import ImportRefused, export_chatbots, import_chatbots
from chatbots.models import Chatbot
from chatbots.models.limits import new_identity_secret
from chatbots.quality.golden import copy_golden_questions
from logs.models import Conversation
from puffer.runtime import invalidate

MAX_PROBLEMS = 50  # shown of a file that is refused


@admin.register(Chatbot)
class ChatbotAdmin(GoldenQuestionsAdmin, HistoryAdmin, PlaygroundAdmin, UnansweredAdmin):
    list_display = ["name", "shown_status", "provider", "shown_model", "conversation_count"]
    list_filter = ["status", "provider"]
    search_fields = ["name", "model"]
    actions = ["duplicate", "publish", "make_draft", "move_to_trash", "export_as_json"]
    actions_list = ["import_from_json"]
    actions_detail = ["try_it", "unanswered", "golden_questions", "renew_identity_secret"]
    actions_row = ["try_it"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Chatbot]:
        of_the_bot = Conversation.objects.filter(chatbot=OuterRef("pk")).order_by().values("chatbot")
        count = Subquery(of_the_bot.annotate(count=Count("pk")).values("count"))
        return super().get_queryset(request).annotate(count=Coalesce(count, 0))

    @display(
        description="status", ordering="status", label={"published": "success", "draft": "info", "trash": "danger"}
    )
    def shown_status(self, bot: Chatbot) -> tuple[str, str]:
        return bot.status, bot.get_status_display()

    @admin.display(description="model", ordering="model")
    def shown_model(self, bot: Chatbot) -> str:
        return bot.model or "default"

    @admin.display(description="conversations", ordering="count")
    def conversation_count(self, bot: Any) -> str:
        url = reverse("admin:logs_conversation_changelist", query={"chatbot__id__exact": bot.pk})
        return format_html('<a class="text-link" href="{}">{}</a>', url, bot.count)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Chatbot]) -> None:
        super().delete_queryset(request, queryset)
        invalidate()

    # Actions on several

    @action(description="Duplicate", permissions=["add"])
    def duplicate(self, request: HttpRequest, bots: QuerySet[Chatbot]) -> None:
        for bot in bots:
            origin = bot.pk
            bot.pk, bot._state.adding = None, True
            bot.name, bot.status = f"{bot.name[:190]} (copy)", Chatbot.Status.DRAFT
            bot.identity_secret = new_identity_secret()
            bot._change_reason = f"Copied from {origin}."
            bot.save()
            copy_golden_questions(origin, bot)
            self.log_addition(request, bot, f"Copied from {origin}.")
        messages.success(request, f"Chatbots copied: {len(bots)}. The copies are drafts.")

    @action(description="Publish", permissions=["change"])
    def publish(self, request: HttpRequest, bots: QuerySet[Chatbot]) -> HttpResponse | None:
        decision = self.ask_before_publishing(request, bots.exclude(status=Chatbot.Status.PUBLISHED))
        if decision is None:
            self.set_status(request, bots, Chatbot.Status.PUBLISHED)
        return decision

    @action(description="Make draft", permissions=["change"])
    def make_draft(self, request: HttpRequest, bots: QuerySet[Chatbot]) -> None:
        self.set_status(request, bots, Chatbot.Status.DRAFT)

    @action(description="Move to trash", permissions=["change"])
    def move_to_trash(self, request: HttpRequest, bots: QuerySet[Chatbot]) -> None:
        self.set_status(request, bots, Chatbot.Status.TRASH)

    def set_status(self, request: HttpRequest, bots: QuerySet[Chatbot], status: Chatbot.Status) -> None:
        changed = list(bots.exclude(status=status))
        for bot in changed:
            bot.status = status
            bot.save(update_fields=["status", "updated_at"])
            self.log_change(request, bot, f"Now {status.label.lower()}.")
        messages.success(request, f"Chatbots now {status.label.lower()}: {len(changed)}.")

    @action(description="Export as JSON", permissions=["view"])
    def export_as_json(self, request: HttpRequest, bots: QuerySet[Chatbot]) -> HttpResponse:
        return HttpResponse(
            export_chatbots(bots),
            content_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="chatbots.json"'},
        )

    # Pages

    @action(description="Import", icon="upload", url_path="import", permissions=["add"])
    def import_from_json(self, request: HttpRequest) -> HttpResponse:
        form = ImportForm(request.POST, request.FILES) if request.method == "POST" else ImportForm()
        problems: Sequence[str] = []
        if form.is_valid():
            dry_run = form.cleaned_data["dry_run"]
            try:
                done = import_chatbots(form.cleaned_data["file"], dry_run=dry_run)
            except ImportRefused as refused:
                problems = refused.problems
            else:
                for notice in done.notices:
                    messages.warning(request, notice)
                if dry_run:
                    messages.success(
                        request, f"Nothing is wrong with the file. Chatbots it would add: {len(done.bots)}."
                    )
                    return HttpResponseRedirect(request.path)
                for bot in done.bots:
                    self.log_addition(request, bot, "Imported.")
                messages.success(request, f"Chatbots imported: {len(done.bots)}.")
                return HttpResponseRedirect(reverse("admin:chatbots_chatbot_changelist"))
        context = {
            "form": form,
            "problems": problems[:MAX_PROBLEMS],
            "more_problems": max(len(problems) - MAX_PROBLEMS, 0),
        }
        return self.page(request, "import", "Import chatbots", context)
