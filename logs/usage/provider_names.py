"""What providers are called on pages. Their app, which this one does not know, says so when it is loaded."""

PROVIDER_NAMES: dict[str, str] = {}  # by slug


def provider_name(slug: str) -> str:
    """The slug itself for one that there is no more."""
    return PROVIDER_NAMES.get(slug, slug)
