"""Commands that export, prune and re-index the log."""
