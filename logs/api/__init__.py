"""GET /logs."""
