"""What every app builds on: the API, the admin, security and the running process."""

# The front doors: the modules and packages that other apps may import.
__all__ = ["admin", "api", "json_logs", "models", "net", "request_id", "runtime", "security", "text"]
