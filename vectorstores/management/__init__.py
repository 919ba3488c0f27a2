"""Management commands, and the base of those that import."""

from vectorstores.management.import_command import NOTHING_DONE, Bar, ImportCommand, refused_command

__all__ = ["NOTHING_DONE", "Bar", "ImportCommand", "refused_command"]
