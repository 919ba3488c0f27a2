"""From text to stored vectors: extract, chunk, embed, store, record."""

from vectorstores.ingestion.chunking import CHUNK, chunk_size, cut
from vectorstores.ingestion.documents import document_from
from vectorstores.ingestion.embedding import BATCH_SIZE, BATCH_SIZES, as_floats
from vectorstores.ingestion.embedding_choice import choose_embedding, first_configured
from vectorstores.ingestion.pipeline import Destination, ingest
from vectorstores.ingestion.reembed import Reembedding
from vectorstores.ingestion.rename import rename
from vectorstores.ingestion.sync import Chunking, Import, document_of, prepare

__all__ = [
    "BATCH_SIZE",
    "BATCH_SIZES",
    "CHUNK",
    "Chunking",
    "Destination",
    "Import",
    "Reembedding",
    "as_floats",
    "choose_embedding",
    "chunk_size",
    "cut",
    "document_from",
    "document_of",
    "first_configured",
    "ingest",
    "prepare",
    "rename",
]
