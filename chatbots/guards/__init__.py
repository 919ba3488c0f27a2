"""What may refuse a turn: origins, sessions, moderation and limits."""
