"""Searches for cycles of objects: as before, once what makes many objects is done."""

from __future__ import annotations

import gc

from vnp.cycles import importing, seldom_searched


def test_cycles_are_searched_for_seldom_and_then_as_before() -> None:
    before = gc.get_threshold()
    with seldom_searched():
        assert gc.isenabled()
        assert gc.get_threshold()[0] >= 100_000
    assert gc.get_threshold() == before


def test_what_was_imported_is_not_looked_through_again() -> None:
    before = gc.get_threshold()
    try:
        with importing():
            assert gc.get_threshold()[0] >= 100_000
        assert gc.get_threshold() == before
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
