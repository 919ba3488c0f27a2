"""The admin pages that belong to no single app: API keys, users, activity, and what every app's admin builds on."""

from puffer.admin import activity, api_keys, users  # noqa: F401 - registers their pages
from puffer.admin.audit import record_export
from puffer.admin.base import DeletionSummary, ReadOnlyAdmin, RecordAdmin
from puffer.admin.confirmed import GuardedSecrets
from puffer.admin.credentials import CredentialsAdmin, CredentialsForm, connection_test
from puffer.admin.dialogs import DialogActions, dialog
from puffer.admin.lines_field import LinesField
from puffer.admin.navigation import MenuItem, Section
from puffer.security.confirmation import recently_confirmed

__all__ = [
    "CredentialsAdmin",
    "CredentialsForm",
    "DeletionSummary",
    "DialogActions",
    "GuardedSecrets",
    "LinesField",
    "MenuItem",
    "ReadOnlyAdmin",
    "RecordAdmin",
    "Section",
    "connection_test",
    "dialog",
    "recently_confirmed",
    "record_export",
]
