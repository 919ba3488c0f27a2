"""The names of providers on pages. The providers app, which logs may not import, fills them in when it is loaded."""

PROVIDER_NAMES: dict[str, str] = {}  # by slug


def provider_name(slug: str) -> str:
    """Return the name; the slug itself of a provider that no longer exists."""
    return PROVIDER_NAMES.get(slug, slug)
