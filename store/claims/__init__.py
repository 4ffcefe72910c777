"""Who may fill which block: claims with epochs and heartbeats. Knows blocks by number, no rows."""
