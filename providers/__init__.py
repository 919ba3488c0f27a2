"""Text, image and embedding models behind one interface."""

# The front doors: the modules and packages that other apps may import.
__all__ = [
    "api",
    "base",
    "calls",
    "check_connection",
    "local",
    "models",
    "prompt_text",
    "registry",
    "token_estimate",
    "upstream_errors",
    "use_cases",
]
