"""The servers of the store's own tests."""

from tests.store.s3.conftest import cache, moto, moto_endpoint, place, two_at_a_time

__all__ = ["cache", "moto", "moto_endpoint", "place", "two_at_a_time"]
