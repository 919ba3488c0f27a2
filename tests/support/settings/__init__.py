"""Settings for servers in trouble."""
