"""A process that reads untrusted content, with limited time and memory and without network."""
