"""``vnp export``: chosen rows of a store as a file of another kind."""
