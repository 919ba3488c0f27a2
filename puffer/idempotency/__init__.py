"""Idempotency keys: a call that is sent twice with the same key is made once, and answered twice."""
