"""A worker's accounts: each moment counts once, and what is not computing is told apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vnp.embed.report import Accounts, Failure, shared_seconds


def test_time_shared_by_two_lists_of_intervals() -> None:
    waits = [(0.0, 1.0), (2.0, 5.0), (7.0, 8.0)]
    loads = [(0.5, 2.5), (4.0, 7.0)]
    assert shared_seconds(waits, loads) == pytest.approx(0.5 + 0.5 + 1.0)
    assert shared_seconds(loads, waits) == shared_seconds(waits, loads)
    assert shared_seconds(waits, []) == 0


def test_times_of_overlapping_blocks_and_of_a_model_loaded_between_them() -> None:
    now = [5.0]
    accounts = Accounts(block_rows=16, clock=lambda: now[0])
    accounts.idle(0.0)  # before the first block nothing is lost
    accounts.submitted(10.0)
    accounts.submitted(11.0)
    assert accounts.embedded("a", records=16, submitted=10.0, ended=14.0) == 4.0
    assert accounts.embedded("a", records=16, submitted=11.0, ended=16.0) == 2.0
    now[0] = 20.0
    accounts.idle(16.0)
    assert accounts.embedded("b", records=16, submitted=20.0, ended=28.0) == 8.0
    accounts.failed(Failure("b", 3, "NaN"))
    encoders: Any = SimpleNamespace(
        loads=[(5.0, 9.0), (17.0, 19.0)], measuring_seconds=3.5, busy_seconds=12.5,
        fallbacks=("slow",),
    )  # fmt: skip
    now[0] = 30.0
    report = accounts.report(worker="w", encoders=encoders, stopped=False)
    assert (report.seconds, report.embed_seconds) == (25.0, 14.0)
    assert (report.loading_seconds, report.measuring_seconds) == (6.0, 3.5)
    assert report.spent_loading() == (
        "6.0 s to load models, 3.5 of them to measure and check eight bits"
    )
    assert report.span_seconds == 16.0, "the first load was before it"
    assert report.failures == (Failure("b", 3, "NaN"),)
    assert (report.busy_seconds, report.fallbacks) == (12.5, ("slow",))
    assert accounts.seconds_per_record("a") == 2.0 / 16
