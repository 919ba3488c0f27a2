"""Content uploaded in the admin: forms, the queue and the sandbox that reads files."""
