"""The store that needs no server: vectors and a word index in our own database."""
