"""Template filters for the pages of logs."""
