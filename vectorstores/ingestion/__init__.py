"""From content to stored vectors: extract, chunk, embed, store. Start reading at pipeline.py."""

from vectorstores.ingestion.chunking import Chunking, chunk_size
from vectorstores.ingestion.destination import Destination, choose_embedding, first_configured
from vectorstores.ingestion.documents import make_document
from vectorstores.ingestion.embedding import as_floats, batch_size
from vectorstores.ingestion.pipeline import ingest
from vectorstores.ingestion.reembed import Reembedding
from vectorstores.ingestion.sync import Import, prepare

__all__ = [
    "Chunking",
    "Destination",
    "Import",
    "Reembedding",
    "as_floats",
    "batch_size",
    "choose_embedding",
    "chunk_size",
    "first_configured",
    "ingest",
    "make_document",
    "prepare",
]
