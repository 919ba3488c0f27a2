"""What may be put into a collection in the admin: files, a text, or questions with answers."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, cast

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import URLValidator
from unfold.widgets import (
    BASE_INPUT_CLASSES,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldAdminURLInputWidget,
)

from providers.registry import PROVIDERS
from puffer.api import ApiError
from puffer.text import storable
from vectorstores.ingestion.destination import Destination, choose_embedding, configured, embedding_providers
from vectorstores.models import Collection, Upload
from vectorstores.registry import STORES
from vectorstores.sources.files import SUPPORTED_TYPES

MAX_FILES = 100  # Django's own limit too
MAX_PAIRS = 100
MEGABYTE = 1024 * 1024

Kind = Upload.Kind


class FilesInput(forms.FileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Any number of files, each of a kind that can be read."""

    def clean(self, data: Any, initial: Any = None) -> Any:
        files: Sequence[UploadedFile] = data or []
        problems = [problem for file in files if (problem := problem_with(file))]
        counts = Counter(name_of(file) for file in files)
        problems += [f"Two files are named {name}." for name, count in counts.items() if count > 1]
        if len(files) > MAX_FILES:
            problems.append(f"At most {MAX_FILES} files at once.")
        if problems:
            raise forms.ValidationError(problems)
        return files


def name_of(file: UploadedFile) -> str:
    """Without folders: Django has seen to that."""
    return storable(file.name or "")


def problem_with(file: UploadedFile) -> str:
    name = name_of(file)
    if PurePath(name).suffix.lower() not in SUPPORTED_TYPES:
        return f"{name}: this file type is not supported. Supported types: {', '.join(SUPPORTED_TYPES)}."
    if not file.size:
        return f"{name} is empty."
    if file.size > settings.MAX_UPLOAD_BYTES:
        return f"{name} is larger than {settings.MAX_UPLOAD_BYTES / MEGABYTE:g} MB."
    return ""


class CollectionField(forms.ModelChoiceField):
    def label_from_instance(self, collection: Any) -> str:
        return f"{collection.name} ({STORES[collection.store].label})"


class ContentForm(forms.Form):
    """`destination` is there once it is valid."""

    collection = CollectionField(
        Collection.objects.all(), required=False, empty_label="A new one", widget=UnfoldAdminSelectWidget
    )
    new_collection = forms.CharField(
        label="Name of the new collection", max_length=200, required=False, widget=UnfoldAdminTextInputWidget
    )
    embedding = forms.ChoiceField(
        label="Embedding model",
        required=False,
        help_text="All of a collection is embedded by one model; another one means another collection.",
        widget=UnfoldAdminSelectWidget,
    )
    namespace = forms.CharField(
        max_length=200,
        required=False,
        help_text="A part of the collection that is searched alone. Usually empty.",
        widget=UnfoldAdminTextInputWidget,
    )
    kind = forms.ChoiceField(
        label="What to add",
        choices=[(Kind.FILE, "Files"), (Kind.TEXT, "A text"), (Kind.QUESTIONS, "Questions and answers")],
        initial=Kind.FILE,
        widget=UnfoldAdminRadioSelectWidget(1),
    )
    uploads = FilesField(
        label="Files",
        required=False,
        widget=FilesInput({"class": " ".join(BASE_INPUT_CLASSES), "accept": ",".join(SUPPORTED_TYPES)}),
    )
    title = forms.CharField(
        max_length=255,
        required=False,
        help_text="A text with the same title replaces an earlier one.",
        widget=UnfoldAdminTextInputWidget,
    )
    text = forms.CharField(required=False, widget=UnfoldAdminTextareaWidget({"rows": 12}))
    url = forms.CharField(
        label="URL",
        max_length=2000,
        required=False,
        validators=[URLValidator(["http", "https"])],
        help_text="Where visitors can read it. Chatbots show it as the source.",
        widget=UnfoldAdminURLInputWidget,
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        ready = configured(embedding_providers())
        cast(Any, self.fields["embedding"]).choices = [
            (f"{slug}/{model}", f"{PROVIDERS[slug].label}, {model}") for slug, model in ready
        ]
        self.fields["uploads"].help_text = (
            f"{', '.join(SUPPORTED_TYPES)}; at most {settings.MAX_UPLOAD_BYTES / MEGABYTE:g} MB each. A file with the "
            "same name replaces an earlier one."
        )

    @property
    def kind_chosen(self) -> str:
        return str(self["kind"].value())

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        self.find_destination(cleaned)
        needed: dict[Any, list[str]] = {Kind.FILE: ["uploads"], Kind.TEXT: ["title", "text"]}
        for name in needed.get(cleaned.get("kind"), []):
            if not cleaned.get(name) and name not in self.errors:
                self.add_error(name, "This field is required.")
        return cleaned

    def find_destination(self, cleaned: dict[str, Any]) -> None:
        collection, name = cleaned.get("collection"), storable(cleaned.get("new_collection") or "")
        if collection is None and not name:
            if "collection" not in self.errors:
                self.add_error("new_collection", "Name it, or choose one that is there.")
            return
        store, target = (collection.store, collection.name) if collection else ("local", name)
        is_new = not Collection.objects.filter(store=store, name=target, embedding_model__gt="").exists()
        provider, _, model = cleaned.get("embedding", "").partition("/") if is_new else ("", "", "")
        try:
            embedding = choose_embedding(store, target, provider or None, model or None)
        except ApiError as error:
            self.add_error("embedding", error.message)
        else:
            self.destination = Destination(store, target, *embedding, storable(cleaned.get("namespace") or ""))


class PairForm(forms.Form):
    question = forms.CharField(max_length=500, widget=UnfoldAdminTextInputWidget)
    answer = forms.CharField(max_length=20_000, widget=UnfoldAdminTextareaWidget({"rows": 3}))


class BasePairForms(forms.BaseFormSet):
    default_error_messages = {
        **forms.BaseFormSet.default_error_messages,
        "too_few_forms": "One question with its answer is the least.",
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
