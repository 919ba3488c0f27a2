"""The base of every app: the API, the admin, security and the runtime."""

__version__ = "0.1.0"

# The modules and packages that other apps may import.
__all__ = ["admin", "api", "http", "json_logs", "models", "net", "request_id", "runtime", "security", "text"]
