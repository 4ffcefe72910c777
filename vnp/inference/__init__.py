"""From tokens to embeddings: one implementation per architecture, on every device."""
