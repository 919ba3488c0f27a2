"""Content uploaded in the admin: its forms, the job queue that indexes it, and the sandbox that reads files."""
