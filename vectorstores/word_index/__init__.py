"""The word index: the texts of all chunks in our database, with full text, also of chunks whose vectors others hold."""
