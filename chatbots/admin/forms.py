"""Forms of the chatbots' admin: a chatbot's settings and how their page is laid out, a file, a question."""

from typing import Any, cast

from django import forms
from django.forms.widgets import Script
from unfold.widgets import (
    UnfoldAdminColorInputWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanWidget,
)

from chatbots.lifecycle.serializers import MAX_BYTES
from chatbots.models import Chatbot
from chatbots.models.theme import MAX_STARTERS


def tab(name: str, description: str, *fields: str | tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """A tab of the page; names in one tuple stand side by side."""
    return name, {"fields": list(fields), "description": description, "classes": ["tab"]}


LAYOUT: list[tuple[str | None, dict[str, Any]]] = [
    (None, {"fields": [("name", "status")]}),
    tab("Character", "", "instructions", "max_messages"),
    tab(
        "Model",
        "Which model answers, and how freely. Providers are set up on their own page.",
        ("provider", "model"),
        ("temperature", "max_completion_tokens", "reasoning_effort"),
    ),
    tab(
        "Knowledge",
        "What the chatbot looks questions up in. Collections have a page of their own.",
        "enable_vector_store",
        ("vector_store_provider", "namespace"),
        "collections",
        ("vector_embedding_provider", "vector_embedding_model"),
        ("vector_store_top_k", "vector_store_confidence_threshold"),
        ("show_sources", "only_from_sources"),
        ("refusal_message", "knowledge_unavailable_message"),
    ),
    tab(
        "Appearance",
        "How the widget looks and what it says. Nothing of it is seen by visitors before it is saved.",
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
        "Popup",
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
        "Where it may be used",
        "The widget works on the sites below and on no other. Calls with an API key are not bound to sites.",
        "embed_allow_any_domain",
        "embed_allowed_domains",
        "allowed_sites",
        "snippet",
        "enable_chat_page",
        "chat_page",
        "identity",
    ),
    tab(
        "Limits",
        "What visitors may use. They count for the widget alone, and before the model is called: an answer that is"
        " refused costs nothing.",
        "is_paused",
        "paused_message",
        ("token_guest_limit", "token_user_limit", "token_reset_period"),
        "token_limit_message",
        ("messages_per_minute", "messages_per_minute_per_address", "messages_per_day"),
        "rate_limit_message",
    ),
    tab(
        "Moderation and consent",
        "Which messages of the widget's visitors are refused, and what visitors agree to before they chat.",
        "banned_words",
        "banned_words_message",
        "banned_ips",
        "banned_ips_message",
        "openai_moderation_enabled",
        "openai_moderation_message",
        "enable_consent_compliance",
        ("consent_title", "consent_button"),
        "consent_message",
    ),
]

# Fields that are shown only while all of this holds: a box is ticked, or of a list this is chosen.
SHOWN_WHILE = {
    "enable_vector_store": [
        "vector_store_provider",
        "namespace",
        "collections",
        "vector_embedding_provider",
        "vector_embedding_model",
        "vector_store_top_k",
        "vector_store_confidence_threshold",
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
    "openai_moderation_enabled": ["openai_moderation_message"],
    "enable_consent_compliance": ["consent_title", "consent_button", "consent_message"],
}
# What an empty choice means.
EMPTY_CHOICES = {
    "provider": "the first that is configured",
    "vector_embedding_provider": "that of the first collection",
    "language": "that of the page",
    "theme_preset_key": "none: the colors below",
}
COLORS = ["primary_color", "secondary_color", "accent_color"]
# What a field offers depends on what is chosen in another: choices.js.
OFFERS = {
    "model": {"data-models-of": "provider"},
    "vector_embedding_model": {"data-models-of": "vector_embedding_provider"},
    "collections": {"data-collections-of": "vector_store_provider"},
}


class NamesField(forms.CharField):
    """A list of names, one on each line."""

    widget = UnfoldAdminTextareaWidget({"rows": 3})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return list(dict.fromkeys(line.strip() for line in (value or "").splitlines() if line.strip()))


class ColorField(forms.CharField):
    """Browsers write colors in lower case, which alone is no change."""

    def to_python(self, value: Any) -> Any:
        return (super().to_python(value) or "").upper()

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.to_python(initial), data)


class TextWidget(UnfoldAdminTextareaWidget):
    """Browsers end lines with two characters. Saved with one, a text that nobody touched does not look changed."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        value = super().value_from_datadict(data, files, name)
        return value and value.replace("\r\n", "\n")


class ChatbotForm(forms.ModelForm):
    collections = NamesField(required=False, help_text="Their names, one on each line, or a tick.")
    conversation_starters = NamesField(
        label="Starters",
        required=False,
        help_text=f"Questions to begin with, one on each line, at most {MAX_STARTERS}. A click asks one.",
    )
    embed_allowed_domains = NamesField(
        label="Allowed domains",
        required=False,
        widget=UnfoldAdminTextareaWidget({"rows": 5}),
        help_text="One on each line: example.com, *.example.com, https://example.com:8443. A browser says on which"
        " site a page is by scheme, host and port, never by its path. Which sites your lines stand for is said below.",
    )
    banned_ips = NamesField(
        label="Banned addresses",
        required=False,
        help_text="IP addresses and networks such as 10.0.0.0/8, one on each line.",
    )

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
        labels = {
            "banned_words_message": "Answer to banned words",
            "banned_ips_message": "Answer to banned addresses",
            "openai_moderation_message": "Answer to what OpenAI flags",
            "messages_per_minute_per_address": "Per minute and address",
        }
        help_texts = {
            "popup_enabled": "A button in the corner of the page opens the chat. Without it the chat stands where the"
            " snippet is.",
            "subgreeting": "A smaller line below the greeting. Empty: one in the widget's language.",
            "input_placeholder": "What stands in the empty field. Empty: words in the widget's language.",
            "theme": "Of own colors the widget makes a light and a dark side, and sees to it that all can be read.",
            "primary_color": "Header, buttons, and what the visitor says.",
            "secondary_color": "What the chatbot says.",
            "accent_color": "Links.",
            "font_family": "“inherit”: that of the page around it.",
            "bubble_radius": "Pixels. 0: square corners.",
            "container_max_width": "Pixels, where the chat stands in the page.",
            "container_height": "Pixels, where the chat stands in the page.",
            "popup_width": "Pixels. On phones the chat fills the screen.",
            "popup_height": "Pixels, as far as the window is tall enough.",
            "header_online_text": "Empty: none.",
            "popup_label_enabled": "A bubble beside the button.",
            "embed_allow_any_domain": "Every site of the world may show the widget, at your cost. Without this tick"
            " only the domains below may, and with an empty list none.",
            "enable_consent_compliance": "Nobody can chat before having agreed to the text below. After a change of"
            " title or message all are asked again.",
            "consent_button": "Empty: words in the widget's language.",
            "consent_title": "Empty: words in the widget's language.",
            "consent_message": "Empty: words in the widget's language, which you should not leave it at: only you know"
            " what happens with the data.",
            "token_limit_message": "What a visitor reads whose tokens are used up.",
            "token_reset_period": "After it all begin anew.",
            "rate_limit_message": "What a visitor reads who sends too many messages.",
        }

    class Media:
        css = {"all": ["chatbots/admin.css"]}
        js = [Script("chatbots/admin.js", type="module"), Script("chatbots/choices.js", type="module")]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for condition, names in SHOWN_WHILE.items():
            for name in self.fields.keys() & names:
                self.fields[name].widget.attrs["data-shown-while"] = condition
        for name in self.fields.keys() & OFFERS.keys():
            self.fields[name].widget.attrs |= OFFERS[name]
        for name in self.fields.keys() & EMPTY_CHOICES.keys():
            field: Any = self.fields[name]
            field.choices = [(value, label if value else EMPTY_CHOICES[name]) for value, label in field.choices]

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        if cleaned.get("enable_vector_store") and not cleaned.get("collections"):
            self.add_error("collections", "Name at least one collection to look questions up in.")
        return cleaned


class ImportForm(forms.Form):
    file = forms.FileField(
        label="JSON file",
        widget=UnfoldAdminFileFieldWidget,
        help_text="As written by “Export as JSON” or by manage.py export_chatbots.",
    )
    dry_run = forms.BooleanField(label="Only check it, save nothing", required=False, widget=UnfoldBooleanWidget)

    def clean_file(self) -> bytes:
        file = self.cleaned_data["file"]
        if file.size > MAX_BYTES:
            raise forms.ValidationError(f"The file is larger than {MAX_BYTES // 1024**2} MB.")
        return file.read()


class TurnForm(forms.Form):
    """A question, and the conversation that it continues: nothing of it is kept on the server but the log."""

    question = forms.CharField(
        max_length=50_000,
        widget=UnfoldAdminTextareaWidget(
            {"rows": 3, "autofocus": True, "placeholder": "Enter sends, Shift+Enter breaks the line"}
        ),
    )
    history = forms.JSONField(required=False, widget=forms.HiddenInput)
    conversation_uuid = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def clean_history(self) -> list[dict[str, str]]:
        history = self.cleaned_data["history"] or []
        if not isinstance(history, list) or not all(is_message(message) for message in history):
            raise forms.ValidationError("The conversation so far can't be read. Begin a new one.")
        return history


def is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.keys() == {"role", "content"}
        and message["role"] in ("user", "assistant")
        and isinstance(message["content"], str)
    )
