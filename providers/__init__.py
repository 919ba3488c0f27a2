"""Text, image and embedding models behind one interface."""

# The modules and packages that other apps may import.
__all__ = [
    "api",
    "base",
    "bundled_model",
    "calls",
    "error_messages",
    "http_client",
    "local",
    "models",
    "prompt_text",
    "registry",
    "run_async",
    "tokens",
    "upstream_errors",
    "use_cases",
]
