"""The form that edits a document."""

from typing import Any

from django import forms
from django.core.validators import URLValidator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldAdminURLInputWidget

from puffer.text import is_blank, one_line, without_control_characters
from vectorstores.documents.edit import MAX_EDITED, Edited
from vectorstores.documents.stored import StoredDocument
from vectorstores.models import Document
from vectorstores.sources.uploaded import TYPED


class DocumentForm(forms.Form):
    """Title, link and text of a document. `version` is the one that the user sees."""

    version = forms.CharField(max_length=200, widget=forms.HiddenInput)
    title = forms.CharField(label=gettext_lazy("Title"), max_length=500, widget=UnfoldAdminTextInputWidget)
    url = forms.CharField(
        label=gettext_lazy("Link"),
        max_length=2000,
        required=False,
        validators=[URLValidator(["http", "https"])],
        help_text=gettext_lazy("Where visitors can read the text. Chatbots show it as the source."),
        widget=UnfoldAdminURLInputWidget,
    )
    text = forms.CharField(
        label=gettext_lazy("Text"), max_length=MAX_EDITED, widget=UnfoldAdminTextareaWidget({"rows": 22})
    )

    def __init__(self, *args: Any, document: Document, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["title"].required = document.origin in TYPED  # the title identifies the document

    @classmethod
    def of(cls, document: Document, stored: StoredDocument) -> "DocumentForm":
        """Return the form filled with what is stored."""
        initial = {
            "version": document.version,
            "title": stored.title or document.title,
            "url": stored.url,
            "text": stored.text,
        }
        return cls(initial=initial, document=document)

    def clean_title(self) -> str:
        return one_line(self.cleaned_data["title"])

    def clean_text(self) -> str:
        text = without_control_characters(self.cleaned_data["text"])
        if is_blank(text):
            raise forms.ValidationError(_("Enter a text. To remove the document, delete it."))
        return text

    @property
    def edited(self) -> Edited:
        values = self.cleaned_data
        return Edited(values["title"], values["url"], values["text"])
