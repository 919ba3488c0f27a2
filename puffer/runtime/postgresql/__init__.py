"""Django's database engine for PostgreSQL, with a limit to how long a server waits for a statement."""
