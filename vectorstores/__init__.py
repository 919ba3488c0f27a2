"""Knowledge: import content, embed it, store it and retrieve passages."""

# The modules and packages that other apps may import.
__all__ = ["base", "documents", "ingestion", "management", "models", "registry", "retrieval", "sources", "terms"]
