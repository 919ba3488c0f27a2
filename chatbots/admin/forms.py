"""The forms of the chatbots' admin: a chatbot's settings and their layout, the import, and a playground question."""

from typing import Any, cast

from django import forms
from django.forms.widgets import Script
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminColorInputWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from chatbots.guards.sessions import MAX_ID
from chatbots.lifecycle.serializers import MAX_BYTES
from chatbots.models import Chatbot
from puffer.admin import LinesField
from vectorstores.models import Reranker


def tab(
    name: str | Promise, description: str | Promise, *fields: str | tuple[str, ...]
) -> tuple[str | Promise, dict[str, Any]]:
    """Return a fieldset that unfold shows as a tab. Fields in one tuple share a row."""
    return name, {"fields": list(fields), "description": description, "classes": ["tab"]}


LAYOUT: list[tuple[str | Promise | None, dict[str, Any]]] = [
    (None, {"fields": [("name", "status")]}),
    tab(_("Instructions"), "", "instructions", "max_messages"),
    tab(
        _("Model"),
        _("The model that answers. Connect providers on the Providers page."),
        ("provider", "model"),
        ("temperature", "max_completion_tokens", "reasoning_effort"),
    ),
    tab(
        _("Knowledge"),
        _("The collections that the chatbot searches."),
        "enable_vector_store",
        ("vector_store_provider", "namespace"),
        "collections",
        ("vector_embedding_provider", "vector_embedding_model"),
        ("vector_store_top_k", "vector_store_confidence_threshold"),
        ("rewrite_questions", "reranker"),
        ("show_sources", "only_from_sources"),
        ("refusal_message", "knowledge_unavailable_message"),
    ),
    tab(
        _("Appearance"),
        _("How the widget looks and what it says. Visitors see changes once they are saved."),
        ("theme", "theme_preset_key"),
        ("primary_color", "secondary_color", "accent_color"),
        ("font_family", "bubble_radius"),
        ("greeting", "subgreeting"),
        ("input_placeholder", "language"),
        "enable_conversation_starters",
        "conversation_starters",
        ("header_avatar_url", "header_online_text"),
        "footer_text",
        ("enable_copy_button", "enable_feedback", "enable_fullscreen"),
        ("enable_download", "enable_conversation_sidebar"),
        ("container_max_width", "container_height"),
    ),
    tab(
        _("Popup"),
        "",
        "popup_enabled",
        ("popup_position", "popup_delay"),
        ("popup_icon_value", "popup_icon_style", "popup_icon_size"),
        ("popup_width", "popup_height"),
        "popup_label_enabled",
        "popup_label_text",
        ("popup_label_mode", "popup_label_frequency"),
        ("popup_label_delay_seconds", "popup_label_auto_hide_seconds"),
        ("popup_label_dismissible", "popup_label_show_on_desktop", "popup_label_show_on_mobile"),
    ),
    tab(
        _("Install"),
        _("The widget works only on the sites below. API calls with a key work from anywhere."),
        "embed_allow_any_domain",
        "embed_allowed_domains",
        "allowed_sites",
        "snippet",
        "enable_chat_page",
        "chat_page",
        "identity",
    ),
    tab(
        _("Limits"),
        _("These apply to the widget only. Refused messages cost nothing."),
        "is_paused",
        "paused_message",
        ("token_guest_limit", "token_user_limit", "token_reset_period"),
        "token_limit_message",
        ("messages_per_minute", "messages_per_minute_per_address", "messages_per_day", "tokens_per_day"),
        "rate_limit_message",
    ),
    tab(
        _("Moderation and consent"),
        _("Which messages are refused, and what visitors agree to before they chat."),
        "banned_words",
        "banned_words_message",
        "banned_ips",
        "banned_ips_message",
        "openai_moderation_enabled",
        "moderation_state",
        "openai_moderation_message",
        "openai_moderation_required",
        "moderation_unavailable_message",
        "enable_consent_compliance",
        ("consent_title", "consent_button"),
        "consent_message",
    ),
]

# Conditions on other fields, each "checkbox" or "choice=value" -> the fields shown while all of them are met: admin.js.
SHOWN_WHILE = {
    "enable_vector_store": [
        "vector_store_provider",
        "namespace",
        "collections",
        "vector_embedding_provider",
        "vector_embedding_model",
        "vector_store_top_k",
        "vector_store_confidence_threshold",
        "rewrite_questions",
        "reranker",
        "show_sources",
        "only_from_sources",
    ],
    "enable_vector_store only_from_sources": ["refusal_message", "knowledge_unavailable_message"],
    "theme=custom": ["theme_preset_key"],
    "theme=custom theme_preset_key=": ["primary_color", "secondary_color", "accent_color"],
    "enable_conversation_starters": ["conversation_starters"],
    "popup_enabled": [
        "popup_position",
        "popup_delay",
        "popup_icon_value",
        "popup_icon_style",
        "popup_icon_size",
        "popup_width",
        "popup_height",
        "popup_label_enabled",
    ],
    "popup_enabled popup_label_enabled": [
        "popup_label_text",
        "popup_label_mode",
        "popup_label_frequency",
        "popup_label_auto_hide_seconds",
        "popup_label_dismissible",
        "popup_label_show_on_desktop",
        "popup_label_show_on_mobile",
    ],
    "popup_enabled popup_label_enabled popup_label_mode=on_delay": ["popup_label_delay_seconds"],
    "is_paused": ["paused_message"],
    "openai_moderation_enabled": ["openai_moderation_message", "openai_moderation_required"],
    "openai_moderation_enabled openai_moderation_required": ["moderation_unavailable_message"],
    "enable_consent_compliance": ["consent_title", "consent_button", "consent_message"],
}
EMPTY_CHOICES = {
    "provider": _("Automatic (first connected provider)"),
    "vector_embedding_provider": _("Same as the first collection"),
    "language": _("Same as the page"),
    "theme_preset_key": _("None: use the colors below"),
}
COLORS = ["primary_color", "secondary_color", "accent_color"]
# Fields whose suggestions depend on another field: choices.js.
SUGGESTIONS = {
    "model": {"data-models-of": "provider"},
    "vector_embedding_model": {"data-models-of": "vector_embedding_provider"},
    "collections": {"data-collections-of": "vector_store_provider"},
}


class ColorField(forms.CharField):
    """A color in upper case, because browsers send lower case, which would look like a change."""

    def to_python(self, value: Any) -> Any:
        return (super().to_python(value) or "").upper()

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.to_python(initial), data)


class TextWidget(UnfoldAdminTextareaWidget):
    """A text area that turns the CRLF that browsers send into LF, so that an unedited text does not look changed."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        value = super().value_from_datadict(data, files, name)
        return value and value.replace("\r\n", "\n")


def lines_field(name: str, **options: Any) -> LinesField:
    """Return a field for a list setting. Its label and help text are those of the model field unless passed."""
    setting: Any = Chatbot._meta.get_field(name)
    texts = {"label": capfirst(setting.verbose_name), "help_text": setting.help_text}
    return LinesField(required=False, **(texts | options))


def reranker_choices(chosen: str) -> list[tuple[str, str | Promise]]:
    """Return the choices of a select; `chosen` may be a reranker that was deleted, or is on another server."""
    names = list(Reranker.objects.values_list("name", flat=True))
    choices: list[tuple[str, str | Promise]] = [("", _("None: keep the order of the search"))]
    choices += [(name, name) for name in names]
    if chosen and chosen not in names:
        choices.append((chosen, gettext("%(reranker)s (does not exist)") % {"reranker": chosen}))
    return choices


class ChatbotForm(forms.ModelForm):
    reranker = forms.ChoiceField(
        label=capfirst(Chatbot._meta.get_field("reranker").verbose_name),
        help_text=Chatbot._meta.get_field("reranker").help_text,
        required=False,
        widget=UnfoldAdminSelectWidget,
    )
    collections = lines_field("collections", help_text=_("Tick the collections to use, or enter one name per line."))
    conversation_starters = lines_field("conversation_starters")
    embed_allowed_domains = lines_field(
        "embed_allowed_domains",
        widget=UnfoldAdminTextareaWidget({"rows": 5}),
        help_text=_(
            "One per line: example.com, *.example.com, https://example.com:8443. Paths are ignored. The sites that"
            " each line covers are listed below."
        ),
    )
    banned_ips = lines_field("banned_ips")

    class Meta:
        model = Chatbot
        fields = "__all__"  # noqa: DJ007  the admin's fieldsets choose
        field_classes = dict.fromkeys(COLORS, ColorField)
        widgets = {
            **dict.fromkeys(COLORS, UnfoldAdminColorInputWidget),
            "instructions": TextWidget({"rows": 12}),
            **dict.fromkeys(["banned_words", "consent_message"], TextWidget({"rows": 3})),
            **dict.fromkeys(["refusal_message", "knowledge_unavailable_message"], TextWidget({"rows": 2})),
        }
        help_texts = {
            "consent_message": _(
                "Leave empty for a default text. Write your own: only you know what happens with the data."
            ),
        }

    class Media:
        css = {"all": ["chatbots/admin.css"]}
        js = [Script("chatbots/admin.js", type="module"), Script("chatbots/choices.js", type="module")]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for condition, names in SHOWN_WHILE.items():
            for name in self.fields.keys() & names:
                self.fields[name].widget.attrs["data-shown-while"] = condition
        for name in self.fields.keys() & SUGGESTIONS.keys():
            self.fields[name].widget.attrs |= SUGGESTIONS[name]
        fields: dict[str, Any] = self.fields
        if "reranker" in fields:
            fields["reranker"].choices = reranker_choices(self.instance.reranker)
        for name in fields.keys() & EMPTY_CHOICES.keys():
            field = fields[name]
            field.choices = [(value, label if value else EMPTY_CHOICES[name]) for value, label in field.choices]

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        if cleaned.get("enable_vector_store") and not cleaned.get("collections"):
            self.add_error("collections", gettext("Choose at least one collection."))
        return cleaned


class ImportForm(forms.Form):
    file = forms.FileField(
        label=_("JSON file"),
        widget=UnfoldAdminFileFieldWidget,
        help_text=_("A file from “Export as JSON” or manage.py export_chatbots."),
    )
    dry_run = forms.BooleanField(label=_("Check only, do not save"), required=False, widget=UnfoldBooleanWidget)

    def clean_file(self) -> bytes:
        file = self.cleaned_data["file"]
        if file.size > MAX_BYTES:
            raise forms.ValidationError(
                gettext("The file is larger than %(size)d MB.") % {"size": MAX_BYTES // 1024**2}
            )
        return file.read()


class SignOutForm(BaseDialogForm):
    user_id = forms.CharField(
        label=_("User id"),
        max_length=MAX_ID,
        strip=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("As your server signs it."),
    )


class TurnForm(forms.Form):
    """A question in the playground. The page sends the conversation so far too, because the server only logs it."""

    question = forms.CharField(
        label=_("Question"),
        max_length=50_000,
        widget=UnfoldAdminTextareaWidget(
            {"rows": 3, "autofocus": True, "placeholder": _("Enter sends, Shift+Enter adds a line")}
        ),
    )
    history = forms.JSONField(required=False, widget=forms.HiddenInput)
    conversation_uuid = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def clean_history(self) -> list[dict[str, str]]:
        history = self.cleaned_data["history"] or []
        if not isinstance(history, list) or not all(is_message(message) for message in history):
            raise forms.ValidationError(gettext("The conversation could not be read. Start a new one."))
        return history


def is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.keys() == {"role", "content"}
        and message["role"] in ("user", "assistant")
        and isinstance(message["content"], str)
    )
