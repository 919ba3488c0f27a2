"""Stored documents: read them back, edit, embed again, rename and delete them."""

from vectorstores.documents.delete import delete_documents
from vectorstores.documents.rename import rename
from vectorstores.documents.stored import parent_id_of, read

__all__ = ["delete_documents", "parent_id_of", "read", "rename"]
