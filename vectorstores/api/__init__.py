"""POST /vector-stores/upsert."""
