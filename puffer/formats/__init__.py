"""Date formats for pages."""
