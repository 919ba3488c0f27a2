"""One driver per vector store."""
