"""Knowledge: content that is read, embedded, stored and retrieved."""

# The front doors: the modules and packages that other apps may import.
__all__ = ["base", "ingestion", "management", "models", "registry", "retrieve", "sources"]
