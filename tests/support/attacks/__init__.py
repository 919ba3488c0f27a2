"""Input that tries to break in or to keep the server busy."""
