"""What every app builds on: the API, the admin, security and the running process."""

__version__ = "0.1.0"

# The front doors: the modules and packages that other apps may import.
__all__ = ["admin", "api", "http", "json_logs", "models", "net", "request_id", "runtime", "security", "text"]
