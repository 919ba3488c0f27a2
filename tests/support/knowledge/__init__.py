"""Documents, and imports of them."""
