"""Rerankers: outside models that order passages, their settings, and the call of their servers."""
