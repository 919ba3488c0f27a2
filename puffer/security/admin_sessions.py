"""Sessions of admin users. The database has only a digest of each key, so a copy of it cannot be used to sign in.

Django loads `SessionStore` from here, as settings.SESSION_ENGINE says.
"""

import hashlib
from contextlib import suppress
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import DatabaseError, models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

SEEN_EVERY = timedelta(minutes=5)  # how often the time of the last request is written


def digest(key: str) -> str:
    """Return 160 bits in hex, the length of Django's column. The key is random, so a slow hash would add nothing."""
    return hashlib.blake2b(key.encode(errors="replace"), digest_size=20).hexdigest()


class Session(AbstractBaseSession):
    """A session. Its `session_key` is the digest of the key in the cookie."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, editable=False)
    last_seen_at = models.DateTimeField(_("last seen"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")

    @classmethod
    def get_session_store_class(cls) -> type["SessionStore"]:
        return SessionStore

    def save(self, *args: Any, force_update: bool = False, **options: Any) -> None:
        """Keep `last_seen_at` of a saved session: the store saves a new instance each time."""
        if force_update:
            options["update_fields"] = ["session_data", "expire_date", "user"]
        super().save(*args, force_update=force_update, **options)


class SessionStore(db.SessionStore):
    """Django's database sessions with digests for keys."""

    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    def _get_session_from_db(self) -> Session | None:
        now = timezone.now()
        session = Session.objects.filter(session_key=digest(self.session_key or ""), expire_date__gt=now).first()
        if session is None:
            self._session_key = None
        elif now - session.last_seen_at > SEEN_EVERY:
            with suppress(DatabaseError):  # such as a full disk: no reason to refuse a page
                Session.objects.filter(pk=session.pk).update(last_seen_at=now)
        return session

    async def _aget_session_from_db(self) -> Session | None:
        return await sync_to_async(self._get_session_from_db)()

    def exists(self, session_key: str) -> bool:
        return super().exists(digest(session_key))

    async def aexists(self, session_key: str) -> bool:
        return await super().aexists(digest(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        return stored(super().create_model_instance(data), data)

    async def acreate_model_instance(self, data: dict[str, Any]) -> Session:
        return stored(await super().acreate_model_instance(data), data)

    def delete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            super().delete(digest(key))

    async def adelete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            await super().adelete(digest(key))


def stored(session: Any, data: dict[str, Any]) -> Session:
    session.session_key = digest(session.session_key)
    session.user_id = data.get(SESSION_KEY)
    return session
