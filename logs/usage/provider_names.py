"""The display names of providers. The providers app fills them in at startup, because logs may not import it."""

PROVIDER_NAMES: dict[str, str] = {}  # by slug


def provider_name(slug: str) -> str:
    """Return the provider's name, or the slug if the provider no longer exists."""
    return PROVIDER_NAMES.get(slug, slug)
