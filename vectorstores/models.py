"""Where the stores are, which collections and documents puffer has put there or is to put there, and the vectors of the
local store.
"""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from puffer.net import validate_base_url
from puffer.runtime import Job, invalidate
from puffer.security import EncryptedTextField


class StoreConfig(models.Model):
    """What the admin has saved about a store. Empty fields fall back to the environment and the vendor's defaults."""

    slug = models.CharField(max_length=20, unique=True, editable=False)
    api_key = EncryptedTextField("API key", blank=True)
    base_url = models.CharField(
        "base URL",
        max_length=300,
        blank=True,
        validators=[validate_base_url],
        help_text="Of Pinecone its control plane; empty: the vendor's own address.",
    )
    tenant = models.CharField(max_length=200, blank=True, help_text="Chroma only. Empty: default_tenant.")
    database = models.CharField(max_length=200, blank=True, help_text="Chroma only. Empty: default_database.")

    class Meta:
        verbose_name = "vector store"
        ordering = ["id"]

    def __str__(self) -> str:
        return self.slug

    def save(self, *args: Any, **options: Any) -> None:
        super().save(*args, **options)
        invalidate()

    @property
    def environment(self) -> Mapping[str, str]:
        """What environment variables say where nothing is saved."""
        return settings.VECTOR_STORE_ENVIRONMENT.get(self.slug, {})


class CollectionQuerySet(models.QuerySet["Collection"]):
    @transaction.atomic
    def delete(self) -> tuple[int, dict[str, int]]:
        """With the tables of their own that some have in PostgreSQL."""
        for collection in self.filter(index=Collection.Index.PGVECTOR):
            collection.drop_pgvector_table()
        return super().delete()

    # No template calls it, as Django says of its own: django.db.models.query.QuerySet.delete
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class Collection(models.Model):
    """A collection that puffer has written to, in whichever store it lies, or one of the local store."""

    class Index(models.TextChoices):
        MATRIX = "matrix", "in memory"
        PGVECTOR = "pgvector", "pgvector"

    store = models.CharField(max_length=20, help_text="The store's slug.")
    name = models.CharField(max_length=200)
    dimension = models.PositiveIntegerField(null=True)
    embedding_provider = models.CharField(max_length=20, blank=True)
    embedding_model = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # Of the local store alone:
    index = models.CharField(max_length=10, choices=Index.choices, default=Index.MATRIX, editable=False)
    version = models.BigIntegerField(default=0, editable=False, help_text="Rises with every change of its vectors.")
    deletions = models.BigIntegerField(default=0, editable=False, help_text="Rises when vectors are removed.")

    objects = CollectionQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["store", "name"], name="one_collection_of_a_name")]
        ordering = ["store", "name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.store})"

    @transaction.atomic
    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
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


class Document(models.Model):
    """A text that was cut into chunks and stored: what a later import compares with, and what the admin lists."""

    class Status(models.TextChoices):
        STORED = "stored", "stored"
        FAILED = "failed", "failed"

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="documents")
    namespace = models.CharField(max_length=200, blank=True)
    parent_vector_id = models.CharField(max_length=100)
    title = models.CharField(max_length=500, blank=True)
    source = models.CharField(max_length=2000, blank=True, help_text="Where it was read: a file or a URL.")
    origin = models.CharField(max_length=2000, blank=True, help_text="What the import was told to read.")
    content_hash = models.CharField(max_length=64, blank=True, help_text="Of its text, metadata and way of chunking.")
    chunks = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.STORED)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["collection", "namespace", "parent_vector_id"], name="one_document_of_an_id"
            )
        ]
        indexes = [models.Index(fields=["collection", "updated_at"])]
        ordering = ["-updated_at", "-id"]

    def __str__(self) -> str:
        return self.title or self.parent_vector_id


class LocalVector(models.Model):
    """A vector of the local store. Rows are never changed: replaced ones are deleted and written anew."""

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="vectors")
    namespace = models.CharField(max_length=200, blank=True)
    vector_id = models.CharField(max_length=150)
    parent_vector_id = models.CharField(max_length=100)
    values = models.BinaryField(help_text="float32, little-endian, of length 1.")
    title = models.TextField(blank=True)
    headings = models.TextField(blank=True)
    text = models.TextField()
    metadata = models.JSONField(default=dict)
    scope = models.CharField(max_length=40, editable=False, help_text="Collection and namespace in one keyword.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["collection", "namespace", "vector_id"], name="one_local_vector_of_an_id")
        ]
        indexes = [models.Index(fields=["collection", "namespace", "parent_vector_id"])]

    def __str__(self) -> str:
        return self.vector_id


class UploadQuerySet(models.QuerySet["Upload"]):
    def of_the_same(self, upload: "Upload") -> "UploadQuerySet":
        """Those whose documents this upload's take the place of, or the other way round."""
        return self.filter(**{name: getattr(upload, name) for name in Upload.PLACE})

    def with_content_known(self) -> "UploadQuerySet":
        """`has_content`: whether its bytes are still here. They go when all of it is stored."""
        return self.annotate(has_content=Exists(UploadContent.objects.filter(upload=OuterRef("pk"))))

    def free(self) -> "UploadQuerySet":
        """Those that nobody works on."""
        return self.filter(Q(leased_until=None) | Q(leased_until__lte=timezone.now()))

    def to_be_indexed(self) -> "UploadQuerySet":
        """Not while another of the same is worked on: of two versions of a file the later one must be the last."""
        same = Upload.objects.filter(**{name: OuterRef(name) for name in Upload.PLACE})
        worked_on = same.filter(state=Job.State.WAITING, leased_until__gt=timezone.now())
        return self.exclude(Exists(worked_on.exclude(pk=OuterRef("pk"))))


class Upload(Job):
    """What somebody has put into a collection in the admin, and how far a worker has come with it."""

    class Kind(models.TextChoices):
        FILE = "file", "file"
        TEXT = "text", "text"
        QUESTIONS = "questions", "questions and answers"

    PLACE = ["kind", "name", "store", "target", "namespace"]

    kind = models.CharField(max_length=10, choices=Kind.choices)
    name = models.CharField(max_length=255)  # of the file; a text's title
    store = models.CharField(max_length=20, help_text="The store's slug.")
    target = models.CharField("collection", max_length=200)
    namespace = models.CharField(max_length=200, blank=True)
    embedding_provider = models.CharField(max_length=20)
    embedding_model = models.CharField(max_length=200)
    size = models.PositiveIntegerField(help_text="Bytes.")
    added_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField("added", auto_now_add=True)
    is_cancelled = models.BooleanField(default=False, editable=False)
    # What a worker finds in it:
    documents = models.PositiveIntegerField(default=0, editable=False, help_text="Stored, now or before.")
    chunks = models.PositiveIntegerField(null=True, editable=False)  # of all documents; null until it is read
    chunks_done = models.PositiveIntegerField(default=0, editable=False)
    refused = models.PositiveIntegerField(default=0, editable=False)
    refusals = models.JSONField(default=list, editable=False, help_text="Place and reason of the first of them.")

    objects = UploadQuerySet.as_manager()

    class Meta(Job.Meta):
        ordering = ["-id"]
        default_permissions = ()  # who may do what with documents may do it with uploads

    def __str__(self) -> str:
        return self.name

    def cancel(self) -> None:
        """What is stored of it stays. A worker that is at it stops within a few seconds."""
        waiting = Upload.objects.filter(pk=self.pk, state=Job.State.WAITING)
        waiting.update(is_cancelled=True)
        waiting.free().update(state=Job.State.DEAD, last_error=CANCELLED, ended_at=timezone.now(), lease="")

    @transaction.atomic
    def retry(self) -> None:
        Upload.objects.filter(pk=self.pk).update(is_cancelled=False)
        self.restart()


CANCELLED = "Cancelled."


class UploadContent(models.Model):
    """The bytes of an upload. In the database, for the worker that reads them may be on another machine."""

    upload = models.OneToOneField(Upload, on_delete=models.CASCADE, primary_key=True, related_name="content")
    data = models.BinaryField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.upload)
