"""The admin pages for providers."""

from providers.admin import providers  # noqa: F401 - registers its pages
