"""The checks that can refuse a turn: origins, sessions, moderation and limits."""
