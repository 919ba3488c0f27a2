"""Logged texts with markup."""

NASTY = "<script>alert(1)</script>"
