"""The browser of the report's tests."""

from tests.vnp.report.conftest import browser

__all__ = ["browser"]
