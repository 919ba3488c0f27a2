"""Template tags for the log's pages."""
