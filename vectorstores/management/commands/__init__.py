"""Commands that move vectors in and out."""
