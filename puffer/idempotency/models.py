"""The calls that were sent with an idempotency key, and their answers."""

from django.db import models

from puffer.security.encryption import EncryptedTextField


class IdempotentCall(models.Model):
    """A call under way (`status` is null), or its answer. After `valid_until`, the key is free again.

    Only digests of the key and of the request are stored.
    """

    digest = models.CharField(max_length=64, unique=True)  # of the API key's id and the idempotency key
    request = models.CharField(max_length=64)  # digest of method, path, query, content type and body
    owner = models.UUIDField()  # of the attempt that makes the call
    status = models.PositiveSmallIntegerField(null=True)
    answer = EncryptedTextField(blank=True)  # JSON
    valid_until = models.DateTimeField(db_index=True)

    class Meta:
        app_label = "puffer"

    def __str__(self) -> str:
        return self.digest[:12]
