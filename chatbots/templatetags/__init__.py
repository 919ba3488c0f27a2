"""Template tags for admin pages of other apps."""
