"""The part of a form that chooses a collection, an existing one or a new one of the local store."""

from typing import Any, cast

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from providers.registry import PROVIDERS
from puffer.api import ApiError
from puffer.text import storable
from vectorstores.ingestion.destination import Destination, choose_embedding, configured, embedding_providers
from vectorstores.models import Collection
from vectorstores.registry import STORES


class CollectionField(forms.ModelChoiceField):
    def label_from_instance(self, collection: Any) -> str:
        return f"{collection.name} ({STORES[collection.store].label})"


class DestinationForm(forms.Form):
    """A collection, and the embedding model if it is new. A valid form has a `destination`."""

    collection = CollectionField(
        Collection.objects.all(),
        label=gettext_lazy("Collection"),
        required=False,
        empty_label=gettext_lazy("New collection"),
        widget=UnfoldAdminSelectWidget,
    )
    new_collection = forms.CharField(
        label=gettext_lazy("Name of the new collection"),
        max_length=200,
        required=False,
        widget=UnfoldAdminTextInputWidget,
    )
    embedding = forms.ChoiceField(
        label=gettext_lazy("Embedding model"),
        required=False,
        help_text=gettext_lazy("A collection uses one embedding model and cannot change it later."),
        widget=UnfoldAdminSelectWidget,
    )
    namespace = forms.CharField(
        label=gettext_lazy("Namespace"),
        max_length=200,
        required=False,
        help_text=gettext_lazy("A part of the collection that is searched separately. Usually empty."),
        widget=UnfoldAdminTextInputWidget,
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        ready = configured(embedding_providers())
        cast(Any, self.fields["embedding"]).choices = [
            (f"{slug}/{model}", f"{PROVIDERS[slug].label}, {model}") for slug, model in ready
        ]

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        self.find_destination(cleaned)
        return cleaned

    def find_destination(self, cleaned: dict[str, Any]) -> None:
        collection, name = cleaned.get("collection"), storable(cleaned.get("new_collection") or "")
        if collection is None and not name:
            if "collection" not in self.errors:
                self.add_error("new_collection", _("Enter a name or choose an existing collection."))
            return
        store, target = (collection.store, collection.name) if collection else ("local", name)
        is_new = not Collection.objects.filter(store=store, name=target, embedding_model__gt="").exists()
        provider, _slash, model = cleaned.get("embedding", "").partition("/") if is_new else ("", "", "")
        try:
            embedding = choose_embedding(store, target, provider or None, model or None)
        except ApiError as error:
            self.add_error("embedding", error.message)
        else:
            self.destination = Destination(store, target, *embedding, storable(cleaned.get("namespace") or ""))
