"""The forms of the pages about answers."""

from typing import Any

from django import forms
from django.core.validators import RegexValidator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminURLInputWidget

from chatbots.models import Chatbot
from puffer.text import is_blank, without_control_characters


class DismissForm(forms.Form):
    questions = forms.CharField(
        widget=forms.HiddenInput, validators=[RegexValidator(r"\A[0-9a-f]{64}(,[0-9a-f]{64}){0,999}\Z")]
    )

    def digests(self) -> list[str]:
        return [digest for digest in self.cleaned_data["questions"].split(",") if digest]


class AnswerForm(DismissForm):
    question = forms.CharField(
        label=_("Question"),
        max_length=500,
        help_text=_(
            "The document's title, worded so that it can be understood by itself. The same question again replaces its "
            "answer."
        ),
        widget=UnfoldAdminTextareaWidget({"rows": 2}),
    )
    answer = forms.CharField(
        label=_("Answer"),
        max_length=50_000,
        help_text=_("The text that the model reads for questions like this one."),
        widget=UnfoldAdminTextareaWidget({"rows": 8, "autofocus": True}),
    )
    url = forms.URLField(
        label=_("Address"),
        required=False,
        max_length=2000,
        assume_scheme="https",
        help_text=_("A page with more details. Visitors see it as the source."),
        widget=UnfoldAdminURLInputWidget,
    )
    collection = forms.ChoiceField(label=_("Collection"), widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, bot: Chatbot, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["questions"].required = False  # the answer may be to a question that no visitor has asked yet
        self.fields["collection"].choices = [(name, name) for name in bot.collections]  # type: ignore[attr-defined]

    def clean_question(self) -> str:
        return " ".join(self.cleaned_data["question"].split())

    def clean_answer(self) -> str:
        answer = without_control_characters(self.cleaned_data["answer"])
        if is_blank(answer):
            raise forms.ValidationError(gettext("Enter the answer."))
        return answer
