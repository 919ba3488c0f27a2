"""The built-in store: vectors and a full-text index in our own database."""
