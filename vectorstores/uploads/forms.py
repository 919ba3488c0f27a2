"""Forms to add content to a collection: files, a text, or questions with answers."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import URLValidator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.widgets import (
    BASE_INPUT_CLASSES,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldAdminURLInputWidget,
)

from puffer.text import storable
from vectorstores.extraction import COMMON_ENCODINGS
from vectorstores.models import Upload
from vectorstores.sources.columns import COLUMN_ROLES
from vectorstores.sources.files import SUPPORTED_TYPES
from vectorstores.uploads.destination_form import DestinationForm

MAX_FILES = 100  # also Django's limit
MAX_PAIRS = 100
MEGABYTE = 1024 * 1024

Kind = Upload.Kind


class FilesInput(forms.FileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Several files, each of a supported type."""

    def clean(self, data: Any, initial: Any = None) -> Any:
        files: Sequence[UploadedFile] = data or []
        problems = [problem for file in files if (problem := problem_with(file))]
        counts = Counter(name_of(file) for file in files)
        problems += [_("Two files are named %(name)s.") % {"name": name} for name, count in counts.items() if count > 1]
        if len(files) > MAX_FILES:
            limit = ngettext("Add at most %(count)d file at once.", "Add at most %(count)d files at once.", MAX_FILES)
            problems.append(limit % {"count": MAX_FILES})
        if problems:
            raise forms.ValidationError(problems)
        return files


def name_of(file: UploadedFile) -> str:
    """Return the file's name. Django has removed any folders from it."""
    return storable(file.name or "")


def problem_with(file: UploadedFile) -> str:
    """Return an error message; "" for a file that can be read."""
    name = name_of(file)
    if PurePath(name).suffix.lower() not in SUPPORTED_TYPES:
        text = _("%(name)s: this file type is not supported. Supported types: %(types)s.")
        return text % {"name": name, "types": ", ".join(SUPPORTED_TYPES)}
    if not file.size:
        return _("%(name)s is empty.") % {"name": name}
    if file.size > settings.MAX_UPLOAD_BYTES:
        return _("%(name)s is larger than %(limit)s MB.") % {"name": name, "limit": max_megabytes()}
    return ""


def max_megabytes() -> str:
    return f"{settings.MAX_UPLOAD_BYTES / MEGABYTE:g}"


def column_field(label: Any, help_text: Any = "") -> forms.CharField:
    return forms.CharField(
        label=label, max_length=200, required=False, help_text=help_text, widget=UnfoldAdminTextInputWidget
    )


class ContentForm(DestinationForm):
    """Content and its collection."""

    kind = forms.ChoiceField(
        label=gettext_lazy("Kind of content"),
        choices=[
            (Kind.FILE, gettext_lazy("Files")),
            (Kind.TEXT, gettext_lazy("Text")),
            (Kind.QUESTIONS, gettext_lazy("Questions and answers")),
        ],
        initial=Kind.FILE,
        widget=UnfoldAdminRadioSelectWidget(1),
    )
    uploads = FilesField(
        label=gettext_lazy("Files"),
        required=False,
        widget=FilesInput({"class": " ".join(BASE_INPUT_CLASSES), "accept": ",".join(SUPPORTED_TYPES)}),
    )
    encoding = forms.ChoiceField(
        label=gettext_lazy("Encoding"),
        choices=[("", gettext_lazy("Recognize it")), *((name, name) for name in COMMON_ENCODINGS)],
        required=False,
        help_text=gettext_lazy("Of text files. Choose one if letters with accents were stored wrongly."),
        widget=UnfoldAdminSelectWidget,
    )
    content_column = column_field(
        gettext_lazy("Column with the text"),
        gettext_lazy("Of CSV files. Columns that you do not name are recognized. All others are added to the text."),
    )
    title_column = column_field(gettext_lazy("Column with the title or question"))
    id_column = column_field(gettext_lazy("Column with the id"))
    url_column = column_field(gettext_lazy("Column with the URL"))
    title = forms.CharField(
        label=gettext_lazy("Title"),
        max_length=255,
        required=False,
        help_text=gettext_lazy("A text with the same title replaces the earlier one."),
        widget=UnfoldAdminTextInputWidget,
    )
    text = forms.CharField(label=gettext_lazy("Text"), required=False, widget=UnfoldAdminTextareaWidget({"rows": 12}))
    url = forms.CharField(
        label=gettext_lazy("URL"),
        max_length=2000,
        required=False,
        validators=[URLValidator(["http", "https"])],
        help_text=gettext_lazy("Where visitors can read the text. Chatbots show it as the source."),
        widget=UnfoldAdminURLInputWidget,
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        text = _("%(types)s; at most %(limit)s MB each. A file with the same name replaces the earlier one.")
        self.fields["uploads"].help_text = text % {"types": ", ".join(SUPPORTED_TYPES), "limit": max_megabytes()}

    @property
    def has_options(self) -> bool:
        """Return whether a field about reading files is filled in or faulty, so that the page must show them."""
        names = ["encoding", *(f"{role}_column" for role in COLUMN_ROLES)]
        return any(self[name].value() or self[name].errors for name in names)

    @property
    def options(self) -> dict[str, str]:
        """Return how to read the files, as the model Upload keeps it."""
        if self.cleaned_data["kind"] != Kind.FILE:
            return {}
        chosen = {role: storable(self.cleaned_data[f"{role}_column"]) for role in COLUMN_ROLES}
        chosen["encoding"] = self.cleaned_data["encoding"]
        return {name: value for name, value in chosen.items() if value}

    @property
    def kind_chosen(self) -> str:
        return str(self["kind"].value())

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        needed: dict[Any, list[str]] = {Kind.FILE: ["uploads"], Kind.TEXT: ["title", "text"]}
        for name in needed.get(cleaned.get("kind"), []):
            if not cleaned.get(name) and name not in self.errors:
                self.add_error(name, _("This field is required."))
        return cleaned


class PairForm(forms.Form):
    question = forms.CharField(label=gettext_lazy("Question"), max_length=500, widget=UnfoldAdminTextInputWidget)
    answer = forms.CharField(
        label=gettext_lazy("Answer"), max_length=20_000, widget=UnfoldAdminTextareaWidget({"rows": 3})
    )


class BasePairForms(forms.BaseFormSet):
    default_error_messages = {
        **forms.BaseFormSet.default_error_messages,
        "too_few_forms": gettext_lazy("Enter at least one question with its answer."),
    }


PairForms = forms.formset_factory(
    PairForm,
    BasePairForms,
    extra=3,
    max_num=MAX_PAIRS,
    validate_max=True,
    min_num=1,
    validate_min=True,
    absolute_max=MAX_PAIRS + 1,
)
