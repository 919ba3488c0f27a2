"""Webhooks, and what became of each delivery."""

import contextlib
import json
import uuid
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from logs.webhooks.delivery import send_test
from logs.webhooks.models import EventName, Webhook, WebhookDelivery, new_secret
from puffer.admin import DeletionSummary, MenuItem, RecordAdmin, Section
from puffer.runtime import Job
from puffer.text import duration, moment

LABELS = {
    "arrived": "success",
    "waiting": "info",
    "is being sent": "info",
    "failing": "warning",
    "given up": "danger",
}
DELIVERIES = "admin:logs_webhookdelivery_changelist"


def label_of(event: str) -> str:
    """What has happened, in words."""
    return EventName(event).label if event in EventName.values else event


class WebhookForm(forms.ModelForm):
    events = forms.MultipleChoiceField(
        choices=[(event.value, f"{event.label} ({event.value})") for event in EventName],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What it is told of.",
    )

    class Meta:
        model = Webhook
        fields = ["name", "url", "events", "is_bound", "chatbots", "is_active"]

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        if cleaned.get("chatbots"):
            cleaned["is_bound"] = True
        elif cleaned.get("is_bound"):
            self.add_error("chatbots", "Choose the chatbots that it hears of.")
        return cleaned


@admin.register(Webhook)
class WebhookAdmin(DeletionSummary, ModelAdmin):
    menu = [MenuItem(Section.ACTIVITY, 4, "webhook")]
    form = WebhookForm
    list_display = ["name", "url", "hears", "state", "created_at"]
    list_filter = ["is_active"]
    search_fields = ["name", "url"]
    autocomplete_fields = ["chatbots"]
    readonly_fields = ["state_in_words", "signing"]
    actions_detail = ["send_a_test", "show_deliveries", "renew_secret"]
    deleted_with = {_("deliveries"): Count("deliveries")}

    def get_fieldsets(self, request: HttpRequest, obj: Webhook | None = None) -> list[Any]:
        fields = ["name", "url", "events", "is_bound", "chatbots", "is_active"]
        if obj is None:
            return [(None, {"fields": fields})]
        fieldsets: list[Any] = [(None, {"fields": [*fields, "state_in_words"]})]
        if self.has_change_permission(request, obj):
            fieldsets.append(("Secret", {"fields": ["signing"]}))
        return fieldsets

    @display(description="hears of", label=True)
    def hears(self, webhook: Webhook) -> list[str]:
        if set(webhook.events) == set(EventName.values):
            return ["everything"]
        return [label_of(event) for event in webhook.events]

    @display(description="state", label={"active": "success", "failing": "danger", "switched off": "warning"})
    def state(self, webhook: Webhook) -> str:
        if not webhook.is_active:
            return "switched off"
        return "failing" if webhook.failures else "active"

    @admin.display(description="state")
    def state_in_words(self, webhook: Webhook) -> str:
        if not (webhook.is_active and webhook.failures and webhook.paused_until):
            return self.state(webhook)
        next_attempt = moment(webhook.paused_until, seconds=True)
        return f"failing, {webhook.failures} in a row; next attempt {next_attempt}"

    @admin.display(description="signed with")
    def signing(self, webhook: Webhook) -> SafeString:
        return render_to_string("admin/logs/webhook/signing.html", {"secret": webhook.secret})

    def response_add(self, request: HttpRequest, obj: Webhook, post_url_continue: str | None = None) -> HttpResponse:
        """To its page, where the secret is and a test can be sent."""
        if "_addanother" not in request.POST and IS_POPUP_VAR not in request.POST:
            posted = request.POST.copy()
            posted["_continue"] = "1"
            request.POST = posted  # type: ignore[assignment]
        return super().response_add(request, obj, post_url_continue)

    @action(
        description="Send a test",
        icon="send",
        url_path="test",
        permissions=["change"],
        dialog={
            "title": "Send a test",
            "description": "An event “chatbot.test” is sent now, to the URL that is saved.",
            "form_class": None,
            "form_submit_text": "Send",
        },
    )
    def send_a_test(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        delivery = send_test(self.saved(request, object_id))
        if delivery.state == Job.State.DONE:
            messages.success(
                request, f"It arrived: status {delivery.response_status}, {duration(delivery.milliseconds)}."
            )
        else:
            messages.error(request, f"It did not arrive. {delivery.last_error}")
        page = reverse("admin:logs_webhookdelivery_change", args=[delivery.pk])
        return HttpResponse(headers={"HX-Redirect": page})  # the dialog's form is sent by htmx, which follows this

    @action(description="Deliveries", icon="outbox", url_path="deliveries", permissions=["view"])
    def show_deliveries(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(f"{reverse(DELIVERIES)}?webhook__id__exact={self.saved(request, object_id).pk}")

    @action(
        description="New secret",
        icon="key",
        url_path="new-secret",
        permissions=["change"],
        dialog={
            "title": "Make a new secret?",
            "description": "What is sent from now on is signed with the new one, also what waits already. "
            "The old one is gone for good.",
            "form_class": None,
            "form_submit_text": "Make a new one",
        },
    )
    def renew_secret(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        webhook = self.saved(request, object_id)
        webhook.secret = new_secret()
        webhook.save(update_fields=["secret"])
        self.log_change(request, webhook, "New secret.")
        messages.success(request, "The webhook has a new secret. Give it to your server.")
        return HttpResponse(headers={"HX-Redirect": reverse("admin:logs_webhook_change", args=[webhook.pk])})

    def saved(self, request: HttpRequest, object_id: str) -> Webhook:
        webhook = self.get_object(request, object_id)
        if webhook is None:
            raise Http404
        return webhook


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "waiting or failing"), ("done", "arrived"), ("dead", "given up")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> QuerySet[WebhookDelivery]:
        return queryset.filter(state=self.value()) if self.value() else queryset


class EventFilter(admin.SimpleListFilter):
    title = "event"
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(event.value, event.label) for event in EventName]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> QuerySet[WebhookDelivery]:
        return queryset.filter(event=self.value()) if self.value() else queryset


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(RecordAdmin):
    """What was sent is read, and can be sent again. It goes by itself after 30 days."""

    menu = [MenuItem(Section.ACTIVITY, 5, "outbox")]
    where_from = "What webhooks are told, and whether it arrived. It stays for 30 days."
    list_display = ["time", "webhook", "what", "outcome", "response_status", "attempts", "duration"]
    list_select_related = ["webhook"]
    list_filter = [
        StateFilter,
        EventFilter,
        ("webhook", admin.RelatedOnlyFieldListFilter),
        ("chatbot", admin.RelatedOnlyFieldListFilter),
        "created_at",
    ]
    search_fields = ["event_id"]
    search_help_text = "The id of an event, a delivery or a conversation"
    fieldsets = [
        (None, {"fields": [("webhook", "what"), ("outcome", "attempts"), ("time", "next_attempt"), "last_error"]}),
        ("Sent", {"fields": ["event", ("event_id", "delivery_id"), "sent"]}),
        ("Answer", {"fields": [("response_status", "duration"), "answer"]}),
    ]
    actions = ["send_again"]
    actions_detail = ["send_this_again"]

    @admin.display(description="time", ordering="created_at")
    def time(self, delivery: WebhookDelivery) -> str:
        return moment(delivery.created_at, seconds=True)

    @admin.display(description="event", ordering="event")
    def what(self, delivery: WebhookDelivery) -> str:
        return label_of(delivery.event)

    def name_of(self, delivery: WebhookDelivery) -> str:
        return capfirst(f"{label_of(delivery.event)}, {self.time(delivery)}")

    @display(description="state", ordering="state", label=LABELS)
    def outcome(self, delivery: WebhookDelivery) -> str:
        if delivery.state == Job.State.DONE:
            return "arrived"
        if delivery.state == Job.State.DEAD:
            return "given up"
        if delivery.is_running:
            return "is being sent"
        return "failing" if delivery.attempts else "waiting"

    @admin.display(description="next attempt")
    def next_attempt(self, delivery: WebhookDelivery) -> str:
        if delivery.state != Job.State.WAITING:
            return ""
        due_at = max(delivery.due_at, delivery.webhook.paused_until or delivery.due_at)
        return moment(due_at, seconds=True) if delivery.webhook.is_active else "when it is active"

    @admin.display(description="took")
    def duration(self, delivery: WebhookDelivery) -> str:
        return "" if delivery.milliseconds is None else duration(delivery.milliseconds)

    @admin.display(description="payload")
    def sent(self, delivery: WebhookDelivery) -> SafeString:
        text = json.dumps(json.loads(delivery.payload), indent=2, ensure_ascii=False)
        return render_to_string("admin/logs/webhookdelivery/payload.html", {"text": text})

    @admin.display(description="its beginning")
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

    @action(description="Send again", permissions=["send"])
    def send_again(self, request: HttpRequest, deliveries: QuerySet[WebhookDelivery]) -> None:
        again = [delivery.send_again() for delivery in deliveries.order_by("id")]
        messages.success(request, f"On their way again, each as a new delivery: {len(again)}.")

    @action(
        description="Send again",
        icon="replay",
        url_path="again",
        permissions=["send"],
        dialog={
            "title": "Send it again?",
            "description": "The same event under the same idempotency key, as a new delivery.",
            "form_class": None,
            "form_submit_text": "Send again",
        },
    )
    def send_this_again(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        delivery = self.get_object(request, object_id)
        if delivery is None:
            raise Http404
        again = delivery.send_again()
        messages.success(request, "It is on its way again: this is the new delivery.")
        return HttpResponse(headers={"HX-Redirect": reverse("admin:logs_webhookdelivery_change", args=[again.pk])})
