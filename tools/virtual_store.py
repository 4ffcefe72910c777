"""A store in memory whose requests take virtual time: the file layer of `simulate_workers`.

It stands below the real code: `VirtualBackend` is a `store.backend.Backend`, `VirtualClaimFiles`
has the methods of `store.claims.files.ClaimFiles`, and heartbeats are kept where
`store.claims.heartbeat` would write files. Each operation costs the requests that it makes on a
file system, or on an object store (`Profile`).

Where the figures come from
---------------------------
Lustre: Dell's paper "HPC Lustre Storage solution with Intel Omni-Path" (Lustre 2.7, mdtest,
figure 13; one metadata server): one thread creates 1,100, removes 1,900 and stats 2,000 files a
second, which gives the latencies (0.9, 0.5 and 0.5 ms), and 240 threads 27,000, 144,000 and
500,000, which gives the seconds of service. Assumed: an open for reading costs what a stat does
and the first bytes of a file 0.5 ms more, a sync 5 ms, a directory is listed 4,096 names a
request, a client writes 1 GB/s.

S3: Amazon's guide "Best practices design patterns: optimizing Amazon S3 performance": at least
3,500 PUT, COPY, POST or DELETE and 5,500 GET or HEAD requests a second for each partitioned
prefix, and small objects within 100 to 200 ms; here 150 ms. A LIST gives 1,000 keys. Assumed: a
connection moves 100 MB/s. One request stands for each step, as `If-None-Match: *` allows.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.backend import Cell, Part, Rows, Values
from store.claims.plan import ClaimScan
from store.duplicates import NO_DUPLICATE
from store.findings import Finding
from store.io.ragged import from_items
from store.s3 import listing
from store.schema import Model, Sample, Schema
from tools.virtual_time import Server, VirtualTime

MODEL = "esm2_3b"
_DIM, _ROWS = 2560, 4096  # of a real block, for the bytes it moves
_VALUES = 2 * _DIM * _ROWS
_PAGES = 8  # of a listing that are one event of the simulation
_SEQUENCES = {"nucleotide": 500 * _ROWS, "protein": 166 * _ROWS}


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request."""

    server: str  # which of the servers answers it
    service: float  # seconds of the server
    latency: float  # seconds until the answer is there, unless it stands in a queue


@dataclass(frozen=True, slots=True)
class Profile:
    """What the operations of a store cost, as requests one after the other."""

    requests: dict[str, Request]
    operations: dict[str, tuple[str, ...]]  # names of requests
    names_listed: int  # by one request
    listed: int  # parts of a folder that a client lists concurrently, from where it must; 0: whole
    bandwidth: float  # bytes per second of a client


def _lustre(speed: float) -> Profile:
    return Profile(
        requests={
            "stat": Request("mds", 1 / 500_000 / speed, 0.5e-3),
            "create": Request("mds", 1 / 27_000 / speed, 0.9e-3),
            "remove": Request("mds", 1 / 144_000 / speed, 0.5e-3),
            "list": Request("mds", 1 / 5_000 / speed, 5e-3),
            "data": Request("oss", 1 / 200_000 / speed, 0.5e-3),
            "sync": Request("oss", 1 / 50_000 / speed, 5e-3),
        },
        operations={
            "exists": ("stat",),
            "read": ("stat", "data"),
            "claim": ("create", "data", "create", "remove"),  # temporary file, link, unlink
            "mark": ("create",),
            "beat": ("stat", "data"),
            "remove": ("remove",),
            # temporary file, link, unlink; the directory is synced at the metadata server
            "cell": ("create", "data", "sync", "create", "remove", "stat"),
            "list": ("list",),
        },
        names_listed=4096,
        listed=0,
        bandwidth=1e9,
    )


def _s3(speed: float) -> Profile:
    read, write = (1 / 5500 / speed, 0.15), (1 / 3500 / speed, 0.15)
    return Profile(
        requests={
            "get": Request("reads", *read),
            "list": Request("reads", *read),
            "put": Request("writes", *write),
            "delete": Request("writes", *write),
        },
        operations={
            "exists": ("get",),
            "read": ("get",),
            "claim": ("put",),
            "mark": ("put",),
            "beat": ("put",),
            "remove": ("delete",),
            "cell": ("put",),
            "list": ("list",),
        },
        names_listed=1000,
        listed=listing._THREADS,
        bandwidth=1e8,
    )


PROFILES: dict[str, Callable[[float], Profile]] = {"lustre": _lustre, "s3": _s3}


class World:
    """What all workers share: the servers, the claims, the heartbeats and the cells."""

    def __init__(self, time: VirtualTime, profile: Profile, *, blocks: int) -> None:
        self.time = time
        self.profile = profile
        names = {request.server for request in profile.requests.values()}
        self.servers = {name: Server(time) for name in sorted(names)}
        self.epoch = np.zeros(blocks, np.int8)  # highest one of each block
        self.is_released = np.zeros(blocks, np.bool_)  # whether that one is
        self.claims: dict[tuple[int, int], bytes] = {}  # content, by block and epoch
        self._claimed: tuple[int, ClaimScan, NDArray[np.int8]] | None = None  # and when
        self.order = np.arange(blocks)  # of names of chunks: by number, or as those of objects
        if profile.listed:
            self.order = np.argsort(np.char.add("c.", self.order.astype(str)))
        self.beats: dict[str, bytes] = {}
        self.cells: dict[Cell, bytes] = {}
        self.filled = array("q")  # blocks, in the order in which they were filled
        self.published: dict[int, int] = {}  # how often a worker published a block
        self.check: Callable[[], None] = lambda: None  # ends the calling process if it was killed
        sample = Sample("s", 0, blocks, 1, 0, blocks, 500, 0, "content", "", "s.fa", "")
        self.schema = Schema(
            block_rows=1, segment_length=500, models=(Model(MODEL, 1),), samples=(sample,)
        )

    def claimed(self) -> tuple[ClaimScan, NDArray[np.int8]]:
        """Read all claims, and count the names of each block; half a second ago is near enough.

        Thousands of workers wait for a listing at the same time, and hold what it will tell.
        """
        at = int(2 * self.time.now)
        if self._claimed is None or self._claimed[0] != at:
            block = np.flatnonzero(self.epoch).astype(np.int32)
            epoch, released = self.epoch.astype(np.int8), self.is_released
            names = names_of(epoch, released)
            scan = ClaimScan(block, epoch[block], released[block])  # type: ignore[arg-type]
            self._claimed = at, scan, names
        return self._claimed[1:]

    def pages(self, names: NDArray[np.int8], settled: NDArray[np.bool_]) -> list[int]:
        """Of each part of a folder that is listed, how many requests, from names by position.

        Of objects only what can be new is listed: not where positions are ``settled``.
        """
        most = self.profile.names_listed
        if not self.profile.listed:
            return [1 + int(names.sum()) // most]
        ranges = listing.unsettled(np.flatnonzero(settled), size=len(names))
        end = int(np.flatnonzero(names)[-1]) + 1 if names.any() else 0
        cut = takewhile(  # a listing ends with the last name
            lambda piece: piece[0] <= end,
            listing.pieces(ranges, size=len(names), length=listing._PIECE),
        )
        return [1 + int(names[first:stop].sum()) // most for first, stop in cut]

    def list(self, pages: list[int]) -> None:
        """Have the calling process list parts of a folder, some of them at a time."""
        together = self.profile.listed or 1
        for at in range(0, len(pages), together):
            group = pages[at : at + together]
            mean = -(-sum(group) // len(group))
            self.do("list", names=(mean - 1) * self.profile.names_listed, concurrent=len(group))

    @property
    def requests(self) -> int:
        """Requests so far."""
        return sum(sum(server.requests.values()) for server in self.servers.values())

    def do(self, operation: str, *, size: int = 0, names: int = 0, concurrent: int = 1) -> None:
        """Have the calling process wait for an operation on ``size`` bytes or ``names`` names.

        Or for so many of them at a time.
        """
        pages = 1 + names // self.profile.names_listed
        for name in self.profile.operations[operation]:
            request = self.profile.requests[name]
            # A listing's pages are asked for one after the other: others are served in between.
            for first in range(0, pages, _PAGES):
                self.servers[request.server].ask(
                    name,
                    service=request.service,
                    latency=request.latency,
                    times=min(_PAGES, pages - first),
                    concurrent=concurrent,
                )
        if size:
            self.time.wait(size / self.profile.bandwidth)
        self.check()


def names_of(epoch: NDArray[np.int8], released: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Count the names of each block's claims."""
    return 2 * epoch - (epoch > 0) + released


class VirtualBackend:
    """One commit of a store in memory; see `store.backend.Backend`."""

    path = Path("virtual")
    trouble = ""
    checks_itself = True

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen = np.packbits(
            np.zeros_like(world.is_released)
        )  # bits: chunks in the order of their names
        self.schema = world.schema

    def newest(self, *, locked: bool = False) -> VirtualBackend:  # noqa: ARG002 - there is one
        """Read the root document."""
        self._world.do("read")
        return self

    def column_rows(self, _name: str) -> int:
        """One row a block."""
        return 1

    def read_column(self, name: str, _chunk: int, rows: int) -> Values:
        """Read as many bytes as a real block has."""
        self._world.do("read", size=_SEQUENCES.get(name, 0))
        if name in _SEQUENCES:
            return from_items([b"ACG"] * rows)
        return np.full(rows, NO_DUPLICATE, np.int64)

    def encode(self, _model: str, values: Rows) -> tuple[bytes, str]:
        """Encode a block."""
        body = values.tobytes()
        return body, f"{google_crc32c.value(body):08x}"

    def create(self, cell: Cell, content: bytes) -> bool:
        """Create a cell with as many bytes as a real one has."""
        self._world.do("cell", size=_VALUES if cell.part is Part.VALUES else len(content))
        if cell in self._world.cells:
            return False
        self._world.cells[cell] = content
        if cell.part is Part.FILLED:
            self._world.filled.append(cell.block)
        return True

    def replace(self, cell: Cell, content: bytes) -> None:
        """Replace a cell."""
        self._world.do("cell")
        self._world.cells[cell] = content

    def remove(self, cell: Cell) -> None:
        """Remove a cell."""
        self._world.do("remove")
        self._world.cells.pop(cell, None)

    def read(self, cell: Cell) -> bytes | None:
        """Read a cell."""
        self._world.do("read" if cell in self._world.cells else "exists")
        return self._world.cells.get(cell)

    def read_values(self, cell: Cell, rows: int) -> tuple[Rows, str] | None:
        """Read a block."""
        self._world.do("read", size=_VALUES)
        content = self._world.cells.get(cell)
        if content is None:
            return None
        values = np.frombuffer(content, np.float16).reshape(rows, -1)
        return values, f"{google_crc32c.value(content):08x}"

    def read_rows(self, cell: Cell, rows: int, first: int, out: Rows) -> None:
        """Leave it to `read_values`."""

    def checksum(self, cell: Cell, rows: int) -> str | None:  # noqa: ARG002 - of the whole
        """Read the end of a block."""
        self._world.do("read")
        content = self._world.cells.get(cell)
        return None if content is None else f"{google_crc32c.value(content):08x}"

    def flagged(self, _model: str) -> NDArray[np.int64]:
        """List the blocks that are filled when the listing begins."""
        world = self._world
        there = len(world.filled)
        names = np.zeros(len(world.order), np.int8)
        names[np.frombuffer(world.filled[:there], np.int64)] = 1
        names = names[world.order]
        settled = np.unpackbits(self._seen, count=len(names)).view(np.bool_)
        if settled.all():  # as `listing.ChunkListing` does, to find what was removed since
            settled[:] = False
        if world.profile.listed:
            self._seen = np.packbits(names)
        pages = world.pages(names, settled)
        del names, settled  # ten thousand may wait here
        world.list(pages)
        return np.array(world.filled[:there], dtype=np.int64)

    def name(self, cell: Cell) -> str:
        """Name a cell."""
        return f"{cell.part}/{cell.block}"

    def verify(self) -> Iterator[Finding]:
        """Nothing is ever damaged here."""
        return iter(())
