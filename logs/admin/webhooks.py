"""The admin pages of webhooks and their deliveries."""

import contextlib
import json
import uuid
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from logs.webhooks.delivery import send_test
from logs.webhooks.models import EventName, Webhook, WebhookDelivery, new_secret
from puffer.admin import (
    DeletionSummary,
    DialogActions,
    GuardedSecrets,
    MenuItem,
    RecordAdmin,
    Section,
    dialog,
    recently_confirmed,
)
from puffer.runtime import Job
from puffer.text import duration, moment

STATES = {  # of a delivery or a webhook: key -> label, and unfold's color of it
    "delivered": (_("delivered"), "success"),
    "waiting": (_("waiting"), "info"),
    "sending": (_("sending"), "info"),
    "retrying": (_("retrying"), "warning"),
    "failed": (_("failed"), "danger"),
    "active": (_("active"), "success"),
    "failing": (_("failing"), "danger"),
    "off": (_("off"), "warning"),
}
COLORS = {key: color for key, (_label, color) in STATES.items()}
DELIVERIES = "admin:logs_webhookdelivery_changelist"


def label_of(event: str) -> str:
    """Return the label of an event, or its name if it is a test or no longer exists."""
    return str(EventName(event).label) if event in EventName.values else event


def labeled(state: str) -> tuple[str, str]:
    """Return a state as unfold's display() expects it: the key of its color, and its label."""
    return state, str(STATES[state][0])


class WebhookForm(forms.ModelForm):
    events = forms.MultipleChoiceField(
        choices=lambda: [(event.value, f"{event.label} ({event.value})") for event in EventName],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        label=_("Events"),
        help_text=_("Events to send."),
    )

    class Meta:
        model = Webhook
        fields = ["name", "url", "events", "is_bound", "chatbots", "is_active"]

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        if cleaned.get("chatbots"):
            cleaned["is_bound"] = True
        elif cleaned.get("is_bound"):
            self.add_error("chatbots", gettext("Choose at least one chatbot."))
        return cleaned


@admin.register(Webhook)
class WebhookAdmin(GuardedSecrets, DeletionSummary, DialogActions, ModelAdmin):
    """Webhooks: their settings, their secret, a test and their deliveries."""

    menu = [MenuItem(Section.ACTIVITY, 4, "webhook")]
    form = WebhookForm
    list_display = ["name", "url", "subscriptions", "state", "created_at"]
    list_filter = ["is_active"]
    search_fields = ["name", "url"]
    autocomplete_fields = ["chatbots"]
    readonly_fields = ["state_details", "signing"]
    actions_detail = ["send_a_test", "show_deliveries", "renew_secret"]
    deleted_with = {_("deliveries"): Count("deliveries")}

    def get_fieldsets(self, request: HttpRequest, obj: Webhook | None = None) -> list[Any]:
        fields = ["name", "url", "events", "is_bound", "chatbots", "is_active"]
        if obj is None:
            return [(None, {"fields": fields})]
        fieldsets: list[Any] = [(None, {"fields": [*fields, "state_details"]})]
        if self.has_change_permission(request, obj):
            fieldsets.append((_("Secret"), {"fields": ["signing"]}))
        return fieldsets

    @display(description=_("events"), label=True)
    def subscriptions(self, webhook: Webhook) -> list[str]:
        if set(webhook.events) == set(EventName.values):
            return [gettext("all")]
        return [label_of(event) for event in webhook.events]

    @display(description=_("state"), label=COLORS)
    def state(self, webhook: Webhook) -> tuple[str, str]:
        return labeled("off" if not webhook.is_active else "failing" if webhook.failures else "active")

    @admin.display(description=_("state"))
    def state_details(self, webhook: Webhook) -> str:
        if not (webhook.is_active and webhook.failures and webhook.paused_until):
            return self.state(webhook)[1]
        return gettext("failing, %(count)s in a row; next attempt %(time)s") % {
            "count": webhook.failures,
            "time": moment(webhook.paused_until, seconds=True),
        }

    @admin.display(description=_("signed with"))
    def signing(self, webhook: Any) -> SafeString:
        context = {"secret": webhook.secret, "confirm_url": webhook.confirm_url}
        return render_to_string("admin/logs/webhook/signing.html", context)

    def response_add(self, request: HttpRequest, obj: Webhook, post_url_continue: str | None = None) -> HttpResponse:
        """Redirect to the webhook's page, which shows the secret and can send a test."""
        if "_addanother" not in request.POST and IS_POPUP_VAR not in request.POST:
            posted = request.POST.copy()
            posted["_continue"] = "1"
            request.POST = posted  # type: ignore[assignment]
        return super().response_add(request, obj, post_url_continue)

    @action(
        description=_("Send a test"),
        icon="send",
        url_path="test",
        permissions=["change"],
        dialog=dialog(
            _("Send a test"),
            _("Sends an event “chatbot.test” to the saved URL now."),
            _("Send"),
        ),
    )
    def send_a_test(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        delivery = send_test(self.saved(request, object_id))
        if delivery.state == Job.State.DONE:
            result = {"status": delivery.response_status, "duration": duration(delivery.milliseconds)}
            messages.success(request, gettext("The test was delivered: status %(status)s, %(duration)s.") % result)
        else:
            messages.error(request, gettext("The test failed. %(error)s") % {"error": delivery.last_error})
        return self.page_of(delivery)

    @action(description=_("Deliveries"), icon="outbox", url_path="deliveries", permissions=["view"])
    def show_deliveries(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(f"{reverse(DELIVERIES)}?webhook__id__exact={self.saved(request, object_id).pk}")

    @action(
        description=_("New secret"),
        icon="key",
        url_path="new-secret",
        permissions=["change"],
        dialog=dialog(
            _("Create a new secret?"),
            _(
                "All deliveries from now on are signed with the new secret, including those that are waiting. "
                "The old secret can't be restored."
            ),
            _("Create secret"),
        ),
    )
    @recently_confirmed
    def renew_secret(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        webhook = self.saved(request, object_id)
        webhook.secret = new_secret()
        webhook.save(update_fields=["secret"])
        self.log_change(request, webhook, "New secret.")
        messages.success(request, gettext("The webhook has a new secret. Copy it to your server."))
        return self.page_of(webhook)


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("waiting", gettext("waiting or retrying")),
            ("done", gettext("delivered")),
            ("dead", gettext("failed")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> QuerySet[WebhookDelivery]:
        return queryset.filter(state=self.value()) if self.value() else queryset


class EventFilter(admin.SimpleListFilter):
    title = _("event")
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(event.value, str(event.label)) for event in EventName]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> QuerySet[WebhookDelivery]:
        return queryset.filter(event=self.value()) if self.value() else queryset


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(DialogActions, RecordAdmin):
    """Deliveries of the last 30 days. They can be read and sent again."""

    menu = [MenuItem(Section.ACTIVITY, 5, "outbox")]
    where_from = _("Events that were sent to webhooks, with the result. They are deleted after 30 days.")
    list_display = ["time", "webhook", "event_label", "outcome", "response_status", "attempts", "duration"]
    list_select_related = ["webhook"]
    list_filter = [
        StateFilter,
        EventFilter,
        ("webhook", admin.RelatedOnlyFieldListFilter),
        ("chatbot", admin.RelatedOnlyFieldListFilter),
        "created_at",
    ]
    search_fields = ["event_id"]
    search_help_text = _("The ID of an event, a delivery or a conversation")
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("webhook", "event_label"),
                    ("outcome_text", "attempts"),
                    ("time", "next_attempt"),
                    "last_error",
                ]
            },
        ),
        (_("Sent"), {"fields": ["event", ("event_id", "delivery_id"), "sent"]}),
        (_("Answer"), {"fields": [("response_status", "duration"), "answer"]}),
    ]
    actions = ["send_again"]
    actions_detail = ["send_this_again"]

    @admin.display(description=_("time"), ordering="created_at")
    def time(self, delivery: WebhookDelivery) -> str:
        return moment(delivery.created_at, seconds=True)

    @admin.display(description=_("event"), ordering="event")
    def event_label(self, delivery: WebhookDelivery) -> str:
        return label_of(delivery.event)

    def name_of(self, delivery: WebhookDelivery) -> str:
        return capfirst(f"{label_of(delivery.event)}, {self.time(delivery)}")

    @display(description=_("state"), ordering="state", label=COLORS)
    def outcome(self, delivery: WebhookDelivery) -> tuple[str, str]:
        if delivery.state == Job.State.DONE:
            return labeled("delivered")
        if delivery.state == Job.State.DEAD:
            return labeled("failed")
        if delivery.is_running:
            return labeled("sending")
        return labeled("retrying" if delivery.attempts else "waiting")

    @admin.display(description=_("state"))
    def outcome_text(self, delivery: WebhookDelivery) -> str:
        return self.outcome(delivery)[1]

    @admin.display(description=_("next attempt"))
    def next_attempt(self, delivery: WebhookDelivery) -> str:
        if delivery.state != Job.State.WAITING:
            return ""
        due_at = max(delivery.due_at, delivery.webhook.paused_until or delivery.due_at)
        return moment(due_at, seconds=True) if delivery.webhook.is_active else gettext("when the webhook is active")

    @admin.display(description=_("duration"))
    def duration(self, delivery: WebhookDelivery) -> str:
        return "" if delivery.milliseconds is None else duration(delivery.milliseconds)

    @admin.display(description=_("payload"))
    def sent(self, delivery: WebhookDelivery) -> SafeString:
        text = json.dumps(json.loads(delivery.payload), indent=2, ensure_ascii=False)
        return render_to_string("admin/logs/webhookdelivery/payload.html", {"text": text})

    @admin.display(description=_("beginning"))
    def answer(self, delivery: WebhookDelivery) -> SafeString | str:
        text = delivery.response_excerpt
        return render_to_string("admin/logs/webhookdelivery/payload.html", {"text": text}) if text else ""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WebhookDelivery], search_term: str
    ) -> tuple[QuerySet[WebhookDelivery], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = Q(conversation__conversation_uuid=term)
        with contextlib.suppress(ValueError):
            wanted |= Q(event_id=uuid.UUID(term)) | Q(delivery_id=uuid.UUID(term))
        return queryset.filter(wanted), False

    def has_send_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("logs.change_webhook")

    @action(description=_("Send again"), permissions=["send"])
    def send_again(self, request: HttpRequest, deliveries: QuerySet[WebhookDelivery]) -> None:
        again = [delivery.send_again() for delivery in deliveries.order_by("id")]
        count = len(again)
        text = ngettext("%(count)s new delivery was queued.", "%(count)s new deliveries were queued.", count)
        messages.success(request, text % {"count": count})

    @action(
        description=_("Send again"),
        icon="replay",
        url_path="again",
        permissions=["send"],
        dialog=dialog(
            _("Send again?"),
            _("Queues a new delivery of the same event with the same idempotency key."),
            _("Send again"),
        ),
    )
    def send_this_again(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        again = self.saved(request, object_id).send_again()
        messages.success(request, gettext("The event is queued again. This is the new delivery."))
        return self.page_of(again)
