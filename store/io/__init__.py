"""Files: durable writes, checksummed JSON, ragged columns."""
