"""Settings of the stores, records of collections and documents, uploads, and the vectors of the local store."""

from collections.abc import Mapping
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from puffer.net import validate_base_url
from puffer.runtime import Job, LiveModel, database_now, unleased
from puffer.security import EncryptedTextField
from vectorstores.refresh.models import Source as Source  # Django looks for models here
from vectorstores.refresh.models import SourcePage as SourcePage
from vectorstores.reranking.models import Reranker as Reranker

LOCAL = "local"  # slug of the store that keeps its vectors in LocalVector


class StoreConfig(LiveModel):
    """The saved settings of a store. The environment and the vendor's defaults replace empty fields."""

    slug = models.CharField(max_length=20, unique=True, editable=False)
    api_key = EncryptedTextField(_("API key"), blank=True)
    base_url = models.CharField(
        _("base URL"),
        max_length=300,
        blank=True,
        validators=[validate_base_url],
        help_text=_("For Pinecone, the URL of its control plane. Leave empty for the default address."),
    )
    tenant = models.CharField(
        _("tenant"), max_length=200, blank=True, help_text=_("Chroma only. Leave empty for default_tenant.")
    )
    database = models.CharField(
        _("database"), max_length=200, blank=True, help_text=_("Chroma only. Leave empty for default_database.")
    )

    class Meta:
        verbose_name = _("vector store")
        verbose_name_plural = _("vector stores")
        ordering = ["id"]

    def __str__(self) -> str:
        return self.slug

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the settings from environment variables."""
        return settings.VECTOR_STORE_ENVIRONMENT.get(self.slug, {})


class CollectionQuerySet(models.QuerySet["Collection"]):
    @transaction.atomic
    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete the collections, their sources and their pgvector tables."""
        for collection in self:
            Source.objects.into(collection.store, collection.name).delete()
        for collection in self.filter(index=Collection.Index.PGVECTOR):
            collection.drop_pgvector_table()
        return super().delete()

    # Templates must not call it. Django sets the same on its own: django.db.models.query.QuerySet.delete
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class Collection(models.Model):
    """A collection of the local store, or one of another store that puffer has written to."""

    class Index(models.TextChoices):
        MATRIX = "matrix", "in memory"
        PGVECTOR = "pgvector", "pgvector"

    store = models.CharField(max_length=20)  # slug
    name = models.CharField(_("name"), max_length=200)
    dimension = models.PositiveIntegerField(_("dimension"), null=True)
    embedding_provider = models.CharField(max_length=20, blank=True)
    embedding_model = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    searches_words = models.BooleanField(
        _("search words too"),
        default=True,
        db_default=True,
        help_text=_(
            "Also find part numbers, names and error codes as they are written. For this, the texts of chunks in "
            "Pinecone, Qdrant and Chroma are kept in this server's database, too. A change applies to what is stored "
            "from then on. To apply it to what is stored already, run the command rebuild_word_index: it adds the "
            "texts, or deletes them if this is off."
        ),
    )
    # Only for the local store:
    index = models.CharField(max_length=10, choices=Index.choices, default=Index.MATRIX, editable=False)
    version = models.BigIntegerField(default=0, editable=False)  # increases with every change of its vectors
    deletions = models.BigIntegerField(default=0, editable=False)  # the number of its latest VectorDeletion
    # Ascending keys of LocalVector that separate the HNSW indexes: [20, 30] means that one index covers the rows up to
    # 20, another those up to 30, and none the rest. None: one index covers all rows, as in earlier versions.
    index_bounds = models.JSONField(null=True, editable=False)

    objects = CollectionQuerySet.as_manager()

    class Meta:
        verbose_name = _("collection")
        verbose_name_plural = _("collections")
        constraints = [models.UniqueConstraint(fields=["store", "name"], name="unique_collection_name")]
        ordering = ["store", "name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.store})"

    @transaction.atomic
    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        Source.objects.into(self.store, self.name).delete()
        if self.index == Collection.Index.PGVECTOR:
            self.drop_pgvector_table()
        return super().delete(*args, **options)

    @property
    def pgvector_table(self) -> str:
        """Return the name of the table that holds this collection's vectors where PostgreSQL has pgvector."""
        return f"vectorstores_pgvector_{self.pk:d}"

    def drop_pgvector_table(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # PostgreSQL drops no table that has pending checks
            cursor.execute(f"DROP TABLE IF EXISTS {self.pgvector_table}")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")


class DocumentQuerySet(models.QuerySet["Document"]):
    @transaction.atomic
    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete the records, and the words of documents whose vectors another store holds."""
        self.delete_words()
        return self.delete_records()

    def delete_records(self) -> tuple[int, dict[str, int]]:
        return super().delete()

    # As above
    delete.alters_data = delete_records.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = delete_records.queryset_only = True  # type: ignore[attr-defined]

    def delete_words(self) -> None:
        """Delete the words of the documents, and lock their collections: nobody adds words before the records go."""
        documents = self.exclude(collection__store=LOCAL).order_by("collection_id", "namespace")
        collections = Collection.objects.filter(pk__in=documents.order_by().values("collection"))
        list(collections.order_by("pk").select_for_update(no_key=True))
        keys = documents.values_list("collection_id", "namespace", "parent_vector_id").iterator()
        for (collection_id, namespace), group in groupby(keys, itemgetter(0, 1)):
            rows = LocalVector.objects.filter(collection_id=collection_id, namespace=namespace)
            while ids := [parent_id for *_, parent_id in islice(group, 500)]:
                rows.filter(parent_vector_id__in=ids).delete()


class Document(models.Model):
    """The record of a stored document: imports compare with it, and the admin lists it."""

    class Status(models.TextChoices):
        STORED = "stored", _("stored")
        FAILED = "failed", _("failed")

    collection = models.ForeignKey(
        Collection, on_delete=models.CASCADE, related_name="documents", verbose_name=_("collection")
    )
    namespace = models.CharField(_("namespace"), max_length=200, blank=True)
    parent_vector_id = models.CharField(max_length=100)
    title = models.CharField(_("title"), max_length=500, blank=True)
    source = models.CharField(_("source"), max_length=2000, blank=True)  # the file or URL it was read from
    origin = models.CharField(
        _("origin"), max_length=2000, blank=True, help_text=_("The file, folder or URL that was imported.")
    )
    page = models.ForeignKey(  # of the source that keeps it up to date
        SourcePage, on_delete=models.SET_NULL, null=True, editable=False, related_name="+", verbose_name=_("page")
    )
    content_hash = models.CharField(max_length=64, blank=True)  # of the text, the metadata and the chunking
    chunks = models.PositiveIntegerField(_("chunks"), default=0)
    status = models.CharField(_("status"), max_length=10, choices=Status.choices, default=Status.STORED)
    error = models.TextField(_("error"), blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = DocumentQuerySet.as_manager()

    class Meta:
        verbose_name = _("document")
        verbose_name_plural = _("documents")
        constraints = [
            models.UniqueConstraint(fields=["collection", "namespace", "parent_vector_id"], name="unique_document_id")
        ]
        indexes = [models.Index(fields=["collection", "updated_at"])]
        ordering = ["-updated_at", "-id"]

    def __str__(self) -> str:
        return self.title or self.parent_vector_id

    @transaction.atomic
    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        Document.objects.filter(pk=self.pk).delete_words()
        return super().delete(*args, **options)

    @property
    def version(self) -> str:
        """Return a text that differs after each time the document is stored."""
        return f"{self.content_hash}@{self.updated_at.isoformat()}"


MAX_TARGET = 200  # characters of a collection's name


class ImportRunQuerySet(models.QuerySet["ImportRun"]):
    def into(self, store: str, target: str) -> "ImportRunQuerySet":
        """Return the imports that are storing documents in the collection."""
        return self.filter(store=store, target=target[:MAX_TARGET], leased_until__gt=database_now())


class ImportRun(models.Model):
    """An import that is under way. Its lease tells other imports that it is alive: see ingestion/claims.py."""

    store = models.CharField(max_length=20)  # slug
    target = models.CharField(max_length=MAX_TARGET)
    leased_until = models.DateTimeField()

    objects = ImportRunQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.target} ({self.store})"


class DocumentClaim(models.Model):
    """A document that an import is about to store, so that no other import embeds it at the same time."""

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="claims")
    key = models.CharField(max_length=64, unique=True)  # hash of store, collection, namespace and document id

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.key


MAX_VECTOR_ID, MAX_PARENT_ID = 150, 100  # characters


class LocalVector(models.Model):
    """A vector of the local store with its text, or the text alone of a chunk that another store holds.

    Rows are never changed, only deleted and written again.
    """

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="vectors")
    namespace = models.CharField(max_length=200, blank=True)
    vector_id = models.CharField(max_length=MAX_VECTOR_ID)
    parent_vector_id = models.CharField(max_length=MAX_PARENT_ID)
    values = models.BinaryField()  # float32, little-endian, scaled to length 1; empty for other stores
    title = models.TextField(blank=True)
    headings = models.TextField(blank=True)
    text = models.TextField()
    metadata = models.JSONField(default=dict)  # empty for other stores
    scope = models.CharField(max_length=40, editable=False)  # collection and namespace as one word, for full text

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["collection", "namespace", "vector_id"], name="unique_local_vector_id")
        ]
        indexes = [models.Index(fields=["collection", "namespace", "parent_vector_id"])]

    def __str__(self) -> str:
        return self.vector_id


class VectorDeletion(models.Model):
    """The vectors that one transaction deleted. Processes that hold the collection in memory look them up."""

    # Without a constraint, a server of the release before this model can still delete collections.
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="+", db_constraint=False)
    number = models.BigIntegerField()  # 1, 2, 3, ... in each collection
    keys = models.BinaryField()  # primary keys of LocalVector: int64, little-endian

    class Meta:
        constraints = [models.UniqueConstraint(fields=["collection", "number"], name="unique_vector_deletion")]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.number} of {self.collection}"


class UploadQuerySet(models.QuerySet["Upload"]):
    def versions_of(self, upload: "Upload") -> "UploadQuerySet":
        """Return the uploads, including this one, that replace each other's documents."""
        return self.filter(**{name: getattr(upload, name) for name in Upload.IDENTITY})

    def with_has_content(self) -> "UploadQuerySet":
        """Annotate `has_content`: whether the bytes are still kept. They are deleted once everything is stored."""
        return self.annotate(has_content=Exists(UploadContent.objects.filter(upload=OuterRef("pk"))))

    def unleased(self) -> "UploadQuerySet":
        return self.filter(unleased())

    def ready_to_index(self) -> "UploadQuerySet":
        """Leave out uploads while another version is being indexed, because the latest version must be stored last."""
        versions = Upload.objects.filter(**{name: OuterRef(name) for name in Upload.IDENTITY})
        running = versions.filter(state=Job.State.WAITING, leased_until__gt=database_now())
        return self.exclude(Exists(running.exclude(pk=OuterRef("pk"))))


class Upload(Job):
    """Content added to a collection in the admin, and how far a worker has indexed it."""

    class Kind(models.TextChoices):
        FILE = "file", _("file")
        TEXT = "text", _("text")
        QUESTIONS = "questions", _("questions and answers")

    IDENTITY = ["kind", "name", "store", "target", "namespace"]  # uploads that agree in these replace each other

    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    name = models.CharField(_("name"), max_length=255)  # of the file; the title of a text
    store = models.CharField(max_length=20)  # slug
    target = models.CharField(_("collection"), max_length=200)
    namespace = models.CharField(_("namespace"), max_length=200, blank=True)
    embedding_provider = models.CharField(max_length=20)
    embedding_model = models.CharField(max_length=200)
    size = models.PositiveIntegerField()  # bytes
    # How to read the file: "encoding", and the columns "content", "title", "id" and "url". What is missing is guessed.
    options = models.JSONField(default=dict, db_default={}, editable=False)
    # Of the answers to questions. The documents of files and texts are known by the upload's name.
    document_ids = models.JSONField(default=list, db_default=[], editable=False)
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("added by")
    )
    created_at = models.DateTimeField(_("added"), auto_now_add=True)
    is_cancelled = models.BooleanField(default=False, editable=False)
    # Written by the worker:
    documents = models.PositiveIntegerField(default=0, editable=False)  # stored by this upload or before
    chunks = models.PositiveIntegerField(_("chunks"), null=True, editable=False)  # of all documents; null until read
    chunks_done = models.PositiveIntegerField(default=0, editable=False)
    refused = models.PositiveIntegerField(default=0, editable=False)
    refusals = models.JSONField(default=list, editable=False)  # place and reason of the first ones
    notes = models.JSONField(default=list, db_default=[], editable=False)  # place and text of the first ones

    objects = UploadQuerySet.as_manager()

    class Meta(Job.Meta):
        verbose_name = _("upload")
        verbose_name_plural = _("uploads")
        ordering = ["-id"]
        default_permissions = ()  # uploads use the permissions of documents

    def __str__(self) -> str:
        return self.name

    def cancel(self) -> None:
        """Cancel the upload. A running worker stops within seconds; what it has stored stays."""
        waiting = Upload.objects.filter(pk=self.pk, state=Job.State.WAITING)
        waiting.update(is_cancelled=True)
        waiting.unleased().update(state=Job.State.DEAD, last_error=CANCELLED, ended_at=timezone.now(), lease="")

    @transaction.atomic
    def retry(self) -> None:
        Upload.objects.filter(pk=self.pk).update(is_cancelled=False)
        self.restart()


CANCELLED = "Cancelled."


class UploadContent(models.Model):
    """The bytes of an upload, kept in the database because the worker may run on another machine."""

    upload = models.OneToOneField(Upload, on_delete=models.CASCADE, primary_key=True, related_name="content")
    data = models.BinaryField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.upload)
