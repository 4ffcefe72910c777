"""A worker's settings as arguments of a process, and back."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import UsageError
from vnp.embed.config import PRECISIONS, WorkerConfig

counts = st.integers(1, 10**9)
seconds = st.floats(min_value=1e-6, max_value=1e9)
VALUES = {
    "models": st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,9}\Z"), max_size=3).map(tuple),
    "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:3"]),
    "precision": st.sampled_from(PRECISIONS),
    "precision_bound": st.floats(min_value=1e-6, max_value=1),
    "weights_dir": st.none() | st.sampled_from([Path("weights"), Path("-odd name"), Path("/a b")]),
    "plugins": st.lists(st.sampled_from([Path("a.py"), Path("-odd name.py")]), max_size=2).map(
        tuple
    ),
    "token_budget": st.none() | counts,
    "threads": st.none() | counts,
    "lease": st.none() | seconds,
    "heartbeat": st.none() | seconds,
    "poll": seconds,
    "dedup": st.booleans(),
    "linger": st.booleans(),
    "prefetched": counts,
    "unpublished": counts,
}


def parse(arguments: list[str]) -> WorkerConfig:
    parser = argparse.ArgumentParser()
    WorkerConfig.add_arguments(parser)
    return WorkerConfig.from_options(parser.parse_args(arguments))


@given(st.fixed_dictionaries(VALUES))
def test_every_field_survives_the_way_to_another_process(values: dict[str, object]) -> None:
    assert set(values) == {field.name for field in fields(WorkerConfig)}
    config = WorkerConfig(**values)  # type: ignore[arg-type]
    assert parse(config.to_arguments()) == config


def test_no_option_is_the_default() -> None:
    assert parse([]) == WorkerConfig()
    shared = argparse.ArgumentParser()
    WorkerConfig.add_arguments(shared, every=False)
    assert WorkerConfig.from_options(shared.parse_args([])) == WorkerConfig()


@pytest.mark.parametrize(
    ("field", "value"),
    [("device", "gpu"), ("precision", "fp4"), ("token_budget", 0), ("threads", -1), ("lease", 0.0)],
)
def test_a_setting_out_of_range_is_wrong_usage(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=str(value)):
        WorkerConfig(**{field: value})  # type: ignore[arg-type]
