"""The Zarr layout in a bucket of S3: objects, conditions on them, no rename."""
