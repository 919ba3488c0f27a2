from typing import Any

from cryptography.fernet import InvalidToken
from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction

from puffer.runtime.live_cache import invalidate
from puffer.security.encryption import EncryptedTextField, rotated
from puffer.text import counted


class Command(BaseCommand):
    help = "Encrypt every saved secret with the newest of PUFFER_ENCRYPTION_KEYS. Then you can remove older keys."

    def handle(self, **options: Any) -> None:
        done = unreadable = 0
        with transaction.atomic(), connection.cursor() as cursor:
            for model in apps.get_models():
                for field in model._meta.local_fields:
                    if not isinstance(field, EncryptedTextField):
                        continue
                    # Raw SQL, because the ORM returns decrypted values only.
                    quote = connection.ops.quote_name
                    table, column, key = (
                        quote(model._meta.db_table),
                        quote(field.attname),
                        quote(model._meta.pk.attname),
                    )
                    cursor.execute(f"SELECT {key}, {column} FROM {table} WHERE {column} <> ''")  # noqa: S608
                    for pk, token in cursor.fetchall():
                        try:
                            renewed = rotated(token)
                        except InvalidToken:
                            unreadable += 1
                            continue
                        cursor.execute(f"UPDATE {table} SET {column} = %s WHERE {key} = %s", [renewed, pk])  # noqa: S608
                        done += 1
            invalidate()
        self.stdout.write(self.style.SUCCESS(f"Encrypted {counted(done, 'secret')} with the newest key."))
        if unreadable:
            raise CommandError(f"Left {counted(unreadable, 'secret')} unchanged: no key can decrypt them.")
