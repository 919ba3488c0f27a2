"""Chatbots in the admin: the list, the form, and the actions on several chatbots."""

from copy import copy
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, reverse
from django.utils import translation
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from chatbots.admin.answers import AnswerPage, UnansweredOverviewPage, UnansweredPage
from chatbots.admin.choices import choices
from chatbots.admin.forms import LAYOUT, ChatbotForm, SignOutForm
from chatbots.admin.golden import GoldenQuestionsPage, GoldenRunsPage, PublishPage, ask_before_publishing
from chatbots.admin.history import HistoryPage, RestorePage
from chatbots.admin.importing import ImportPage
from chatbots.admin.playground import PlaygroundPage
from chatbots.admin.warnings import moderation_state
from chatbots.admin.widget import (
    AllowedSitesPage,
    NewPreviewPage,
    PreviewPage,
    allowed_sites_html,
    chat_page_html,
    snippet_html,
)
from chatbots.guards.sessions import sign_out
from chatbots.lifecycle.serializers import export_chatbots
from chatbots.models import Chatbot
from chatbots.models.limits import new_identity_secret
from chatbots.quality.golden import copy_golden_questions
from logs.models import Conversation
from puffer.admin import (
    DeletionSummary,
    DialogActions,
    GuardedSecrets,
    MenuItem,
    Section,
    dialog,
    recently_confirmed,
    record_export,
)
from puffer.api import site_url
from puffer.runtime import invalidate

PAGES = [
    NewPreviewPage,
    PreviewPage,
    AllowedSitesPage,
    RestorePage,
    GoldenRunsPage,
    PublishPage,
    UnansweredOverviewPage,
    AnswerPage,
]


@admin.register(Chatbot)
class ChatbotAdmin(GuardedSecrets, DeletionSummary, DialogActions, ModelAdmin):
    """The list of chatbots and their settings. The other pages are the views in this package."""

    menu = [
        MenuItem(Section.MAIN, 1, "smart_toy"),
        MenuItem(
            Section.ACTIVITY,
            2,
            "help",
            _("Unanswered"),
            "admin:chatbots_chatbot_unanswered_overview",
            lambda model_admin, request: model_admin.has_unanswered_permission(request),
        ),
    ]
    deleted_with = {_("golden questions"): Count("golden_questions")}
    list_display = ["name", "shown_status", "provider", "shown_model", "conversation_count"]
    list_filter = ["status", "provider"]
    search_fields = ["name", "model"]
    actions = ["duplicate", "publish", "make_draft", "move_to_trash", "export_as_json"]
    actions_list = ["import_from_json"]
    actions_detail = ["try_it", "unanswered", "golden_questions", "sign_out_visitor", "renew_identity_secret"]
    actions_row = ["try_it"]
    form = ChatbotForm
    fieldsets = LAYOUT
    readonly_fields = ["allowed_sites", "snippet", "chat_page", "identity", "moderation_state"]
    compressed_fields = False
    change_form_after_template = "admin/chatbots/chatbot/choices.html"
    change_form_outer_after_template = "admin/chatbots/chatbot/preview_pane.html"

    def get_urls(self) -> list[URLPattern]:
        return [page.url(self) for page in PAGES] + super().get_urls()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Chatbot]:
        """Annotate `count`, the number of conversations, and `site`, the base URL of snippet and standalone page."""
        conversations = Conversation.objects.filter(chatbot=OuterRef("pk")).order_by().values("chatbot")
        count = Subquery(conversations.annotate(count=Count("pk")).values("count"))
        bots = super().get_queryset(request)
        return bots.annotate(count=Coalesce(count, 0), site=Value(site_url(request)))

    def get_fieldsets(self, request: HttpRequest, obj: Chatbot | None = None) -> list[Any]:
        hidden: set[str | tuple[str, ...]] = set()
        if obj is None:
            hidden = {"snippet", "chat_page", "identity"}
        elif not self.has_identity_permission(request):
            hidden = {"identity"}
        return [
            (name, {**options, "fields": [field for field in options["fields"] if field not in hidden]})
            for name, options in LAYOUT
        ]

    def deletion_line(self, bot: Chatbot) -> str:
        return gettext("%(bot)s: its widget and its API calls stop, its conversations stay in the log") % {"bot": bot}

    def has_unanswered_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may read what visitors said."""
        return self.has_view_permission(request) and request.user.has_perm("logs.view_conversation")

    def has_identity_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may see and renew the secret with which sites sign their users."""
        return self.has_change_permission(request) and request.user.has_perm("chatbots.manage_identity_secret")

    # The pages of one chatbot

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **options: Any) -> HttpResponse:
        return super().render_change_form(request, context | {"choices": choices(request)}, *args, **options)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Run the golden questions first if the form publishes a draft, with the settings in the form."""
        if request.method == "POST" and object_id:
            bot = self.get_object(request, object_id)
            if bot and self.has_change_permission(request, bot) and bot.status != Chatbot.Status.PUBLISHED:
                form = self.get_form(request, bot, change=True)(request.POST, instance=copy(bot))
                if form.is_valid() and form.instance.status == Chatbot.Status.PUBLISHED:
                    decision = ask_before_publishing(request, [form.instance])
                    if decision:
                        return decision
        return super().changeform_view(request, object_id, form_url, extra_context)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HistoryPage.open(self, request, object_id)

    @action(description=_("Try it"), icon="chat", url_path="try", permissions=["change"])
    def try_it(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return PlaygroundPage.open(self, request, object_id)

    @action(description=_("Unanswered"), icon="help", url_path="unanswered", permissions=["unanswered"])
    def unanswered(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return UnansweredPage.open(self, request, object_id)

    @action(description=_("Golden questions"), icon="fact_check", url_path="golden-questions", permissions=["view"])
    def golden_questions(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return GoldenQuestionsPage.open(self, request, object_id)

    @action(
        description=_("New identity secret"),
        icon="key",
        url_path="new-identity-secret",
        permissions=["identity"],
        dialog=dialog(
            _("Create a new identity secret?"),
            _(
                "All widget sessions end, and visitors are identified again only when your server signs with the new "
                "secret. The old secret cannot be restored."
            ),
            _("Create new secret"),
        ),
    )
    @recently_confirmed
    def renew_identity_secret(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        bot = self.saved(request, object_id)
        bot.identity_secret = new_identity_secret()
        bot._change_reason = "New identity secret."
        bot.save(update_fields=["identity_secret", "updated_at"])
        self.log_change(request, bot, "New identity secret.")
        messages.success(request, _("The chatbot has a new identity secret. Copy it to your server."))
        return self.page_of(bot)

    @action(
        description=_("Sign out a visitor"),
        icon="logout",
        url_path="sign-out-visitor",
        permissions=["change"],
        dialog=dialog(
            _("Sign out a visitor"),
            _(
                "All widget sessions of this user with this chatbot end. They are identified again when your server"
                " signs their id again."
            ),
            _("Sign out"),
            SignOutForm,
        ),
    )
    def sign_out_visitor(self, request: HttpRequest, form: SignOutForm, object_id: str) -> HttpResponse:
        bot = self.saved(request, object_id)
        sign_out([bot], form.cleaned_data["user_id"])
        self.log_change(request, bot, "Signed out a visitor.")
        messages.success(request, _("The visitor is signed out."))
        return self.page_of(bot)

    # Columns of the list, and read-only fields of the form

    @display(
        description=_("status"), ordering="status", label={"published": "success", "draft": "info", "trash": "danger"}
    )
    def shown_status(self, bot: Chatbot) -> tuple[str, str]:
        return bot.status, bot.get_status_display()

    @admin.display(description=_("model"), ordering="model")
    def shown_model(self, bot: Chatbot) -> str:
        return bot.model or gettext("default")

    @admin.display(description=_("conversations"), ordering="count")
    def conversation_count(self, bot: Any) -> str:
        url = reverse("admin:logs_conversation_changelist", query={"chatbot__id__exact": bot.pk})
        return format_html('<a class="text-link" href="{}">{}</a>', url, bot.count)

    @admin.display(description=_("sites this covers"))
    def allowed_sites(self, bot: Chatbot) -> SafeString:
        return allowed_sites_html(bot)

    @admin.display(description=_("snippet"))
    def snippet(self, bot: Any) -> SafeString:
        return snippet_html(bot, bot.site)

    @admin.display(description=_("address of the page"))
    def chat_page(self, bot: Any) -> str:
        return chat_page_html(bot, bot.site)

    @admin.display(description=_("moderation"))
    def moderation_state(self, bot: Chatbot) -> str:
        return moderation_state(bot)

    @admin.display(description=_("identity secret"))
    def identity(self, bot: Any) -> SafeString:
        context = {"secret": bot.identity_secret, "confirm_url": bot.confirm_url}
        return render_to_string("admin/chatbots/chatbot/identity.html", context)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Chatbot]) -> None:
        super().delete_queryset(request, queryset)
        invalidate()

    # Actions on several

    @action(description=_("Duplicate"), permissions=["add"])
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
        text = ngettext(
            "%(count)d chatbot was copied. The copy is a draft.",
            "%(count)d chatbots were copied. The copies are drafts.",
            len(bots),
        )
        messages.success(request, text % {"count": len(bots)})

    @action(description=_("Publish"), permissions=["change"])
    def publish(self, request: HttpRequest, bots: QuerySet[Chatbot]) -> HttpResponse | None:
        decision = ask_before_publishing(request, bots.exclude(status=Chatbot.Status.PUBLISHED))
        if decision is None:
            self.set_status(request, bots, Chatbot.Status.PUBLISHED)
        return decision

    @action(description=_("Make draft"), permissions=["change"])
    def make_draft(self, request: HttpRequest, bots: QuerySet[Chatbot]) -> None:
        self.set_status(request, bots, Chatbot.Status.DRAFT)

    @action(description=_("Move to trash"), permissions=["change"])
    def move_to_trash(self, request: HttpRequest, bots: QuerySet[Chatbot]) -> None:
        self.set_status(request, bots, Chatbot.Status.TRASH)

    def set_status(self, request: HttpRequest, bots: QuerySet[Chatbot], status: Chatbot.Status) -> None:
        changed = list(bots.exclude(status=status))
        for bot in changed:
            bot.status = status
            bot.save(update_fields=["status", "updated_at"])
            with translation.override(None):  # the log is in English
                self.log_change(request, bot, f"Now {status.label.lower()}.")
        text = ngettext("%(status)s: %(count)d chatbot.", "%(status)s: %(count)d chatbots.", len(changed))
        messages.success(request, text % {"status": status.label, "count": len(changed)})

    @action(description=_("Export as JSON"), permissions=["view"])
    def export_as_json(self, request: HttpRequest, bots: QuerySet[Chatbot]) -> HttpResponse:
        record_export(request, bots, "JSON")
        return HttpResponse(
            export_chatbots(bots),
            content_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="chatbots.json"'},
        )

    @action(description=_("Import"), icon="upload", url_path="import", permissions=["add"])
    def import_from_json(self, request: HttpRequest) -> HttpResponse:
        return ImportPage.open(self, request)
