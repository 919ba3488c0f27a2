"""One driver per vector store, and the threads in which the drivers run."""
