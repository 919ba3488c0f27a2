"""Content uploaded in the admin: its forms, and the job queue that indexes it."""
