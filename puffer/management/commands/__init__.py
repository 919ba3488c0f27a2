"""Commands of the server, its keys and its secrets."""
