"""The servers of the store's own tests."""

from tests.store.s3.conftest import moto, moto_endpoint, place

__all__ = ["moto", "moto_endpoint", "place"]
