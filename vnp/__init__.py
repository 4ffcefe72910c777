"""VirNucPro embeddings on one chunked store."""

__version__ = "0.1.0"
