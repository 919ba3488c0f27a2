"""Rows for imports."""

SHOES, SOCKS = {"id": "shoes", "content": "We sell shoes."}, {"id": "socks", "content": "We sell socks."}
