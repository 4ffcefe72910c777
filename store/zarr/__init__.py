"""A store in a Zarr v3 directory."""
