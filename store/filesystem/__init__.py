"""Is a file system fit for a store: what is tried, what its mount says, and a verdict."""
