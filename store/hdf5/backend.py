"""A store in one HDF5 file: every cell at a fixed offset, written without the HDF5 library.

No worker writes a byte that belongs to another block. Whole and torn values look alike, so a cell
of a block is always written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from store.backend import Cell, Part, Rows, Values
from store.certificate import parse_certificate
from store.errors import DamageError, NoRoomError, UsageError
from store.findings import Finding, Kind, Remedy
from store.geometry import block_bounds, n_blocks
from store.hdf5.columns import pread, read_block_column
from store.hdf5.commit import crc_of
from store.hdf5.file import (
    FileMap,
    State,
    current_map,
    read_map,
    reading,
    settle,
    with_tree,
    writing,
)
from store.hdf5.journal import recover
from store.hdf5.layout import CERTIFICATE_BYTES, CERTIFICATES_PER_CHUNK, check_models
from store.hdf5.overlay import write_all
from store.hdf5.rebuild import rebuild
from store.hdf5.transaction import Hdf5Transaction, create_file
from store.io.checked_read import read_checked
from store.io.checksummed_json import CRC_ROOM, pack_record, unpack_record
from store.io.files import make_dir, publish_new
from store.io.regular import read_regular
from store.layout import (
    certificate_column,
    embedding_column,
    filled_column,
    provenance_column,
    row_columns,
    score_columns,
)
from store.schema import Schema
from store.sidecar import OnDisk, making, sidecar_of

_F16 = np.dtype("<f2")


class Hdf5Backend(OnDisk):
    """One commit of a store in an HDF5 file; see `store.backend.Backend`."""

    checks_itself = False  # readers of HDF5 expect the bare values

    def __init__(self, path: Path, file_map: FileMap) -> None:
        self.path = path
        self.sidecar = sidecar_of(path)
        self.schema = file_map.schema
        self.trouble = file_map.trouble
        self._map = file_map

    @classmethod
    def new(cls, path: Path, schema: Schema) -> Self:
        """Make an empty store; it appears whole or not at all."""
        check_models(schema)
        with making(path) as sidecar:
            create_file(path, schema=schema, sidecar=sidecar)
            return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store at its last commit, finishing what a killed appender left half done."""
        return cls(path, read_map(path))

    # -- commits ------------------------------------------------------------------------------

    def newest(self, *, locked: bool = False) -> Self:
        """Return the last commit, finishing what a killed appender left half done.

        With ``locked`` a file that another program rewrote (h5repack) is made ours again.
        """
        if not locked:
            settle(self.path)
            file_map = current_map(self.path, self._map)
            return self if file_map is self._map else type(self)(self.path, file_map)
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            recover(fd, self.sidecar.path)
        finally:
            os.close(fd)
        newest = self.open(self.path)  # also if the commit is the same: another program may write
        if newest._map.state is State.MOVED:
            rebuild(newest, self.new)
            newest = self.open(self.path)
        return newest

    def begin(self, guard: Callable[[], None]) -> Hdf5Transaction:
        """Begin a change."""
        sidecar = self.sidecar.make()
        return Hdf5Transaction(self.path, file_map=self._map, sidecar=sidecar, guard=guard)

    def repair(self, finding: Finding) -> None:  # noqa: ARG002 - nothing in a file is an orphan
        """Adopt what another program changed, or rebuild the file from its rows."""
        if self._map.state is State.BROKEN:
            rebuild(self, self.new)
        elif self._map.state is State.CHANGED:
            change = self.begin(lambda: None)
            try:
                change.commit(self.schema)
            finally:
                change.abort()

    # -- rows, read ---------------------------------------------------------------------------

    def column_rows(self, name: str) -> int:  # noqa: ARG002 - the same for all
        """Rows of a chunk of a row column: one block."""
        return self.schema.block_rows

    def read_column(self, name: str, chunk: int, rows: int) -> Values:
        """Values of the first rows of a block of a column."""
        return read_block_column(self.path, self._map, name, block=chunk, rows=rows)

    def read_scores(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Scores of rows: float32 (stop - start, 2)."""
        paths = [column.path for column in score_columns(self.schema, name)]
        read = with_tree(
            self.path, self._map, lambda tree: [tree[path][start:stop] for path in paths]
        )
        scores: NDArray[np.float32] = np.stack(read, axis=1)
        return scores

    # -- cells --------------------------------------------------------------------------------

    def encode(self, model: str, values: Rows) -> tuple[bytes, str]:  # noqa: ARG002 - bare rows
        """Bytes of the rows, and their CRC-32C."""
        content = np.ascontiguousarray(values, dtype=_F16).tobytes()
        return content, crc_of(content)

    def create(self, cell: Cell, content: bytes) -> bool:
        """Write a cell; of a provenance, what the first of many workers linked beside the store."""
        if cell.part is not Part.PROVENANCE:
            self.replace(cell, content)
            return True
        offset, size = self._locate(cell)
        vote = self._vote(cell.model)
        make_dir(vote.parent)
        tmp_dir = self.sidecar.make().tmp
        if len(content) + CRC_ROOM > size:
            raise NoRoomError(
                f"{self.path} has room for {size:,} bytes of what made {cell.model}, and this is "
                f"{len(content):,}: int8 needs more than files of earlier versions have; use "
                "--precision bfloat16, or make a new file with 'vnp convert'"
            )
        ours = publish_new(tmp_dir, vote, [pack_record(json.loads(content), size=size)])
        chosen = read_regular(vote, most=size, follow=False)
        if unpack_record(chosen, what=str(vote)) is None:
            raise DamageError(f"{vote} is empty; remove it and run the command again")
        self._write(offset, chosen)
        return ours

    def replace(self, cell: Cell, content: bytes) -> None:
        """Write a cell of a block."""
        if cell.part is Part.CERTIFICATE:
            content = _certificate_bytes(content)
        self._write(self._locate(cell)[0], content)

    def remove(self, cell: Cell) -> None:
        """Write zeros."""
        if cell.part is Part.PROVENANCE:
            self._vote(cell.model).unlink(missing_ok=True)
        offset, size = self._locate(cell)
        self._write(offset, bytes(size))

    def read(self, cell: Cell) -> bytes | None:
        """Content of a cell, records compared with their checksum."""
        raw = self._read(cell)
        if cell.part is Part.FILLED:
            return raw
        record = unpack_record(raw, what=str(cell.part))
        return None if record is None else json.dumps(record).encode()

    def read_values(self, cell: Cell, rows: int) -> tuple[Rows, str] | None:
        """Rows of a block, and their CRC-32C."""
        raw = self._rows(cell, rows)
        dim = self.schema.model(cell.model).dim
        return np.frombuffer(raw, dtype=_F16).reshape(rows, dim), crc_of(raw)

    def read_rows(self, cell: Cell, rows: int, first: int, out: Rows) -> str | None:
        """Read rows of a block; their checksum is only compared with their certificate."""
        if out.dtype != _F16 or not out.flags.c_contiguous:
            return None
        width = self.schema.model(cell.model).dim * _F16.itemsize
        with reading(self.path) as fd:
            crc = read_checked(
                fd,
                offset=self._locate(cell)[0],
                size=rows * width,
                out=out.reshape(-1).view(np.uint8),
                skip=first * width,
            )
        return None if crc is None else f"{crc:08x}"

    def checksum(self, cell: Cell, rows: int) -> str | None:
        """CRC-32C of rows of a block, read for it."""
        return crc_of(self._rows(cell, rows))

    def flagged(self, model: str) -> NDArray[np.int64]:
        """Blocks whose first row is flagged, from one byte a block."""
        column = filled_column(self.schema, self.schema.model(model))
        with reading(self.path) as fd:
            flags = [
                pread(fd, offset, 1, column.path) != b"\0"
                for offset in self._map.chunks[column.path].tolist()
            ]
        return np.flatnonzero(np.array(flags, dtype=np.bool_))

    # -- for people and for memory mapping ----------------------------------------------------

    def name(self, cell: Cell) -> str:
        """Dataset and rows of the cell."""
        if cell.part is Part.PROVENANCE:
            return provenance_column(self.schema.model(cell.model)).path
        if cell.part is Part.CERTIFICATE:
            return f"obs/certificate_{cell.model}[{cell.block}]"
        start, stop = block_bounds(cell.block, self.schema.n_rows, self.schema.block_rows)
        prefix = "obsm/X" if cell.part is Part.VALUES else "obs/filled"
        return f"{prefix}_{cell.model}[{start}:{stop}]"

    def values_file(self, cell: Cell) -> tuple[Path, int]:
        """Name the store's file, and the block's place in it."""
        return self.path, self._locate(cell)[0]

    def verify(self) -> Iterator[Finding]:
        """Re-read structures and columns.

        If the store grows meanwhile, the newer commit's structures are left to the next call.
        """
        schema = self.schema
        now = read_map(self.path)
        if now.commit == self._map.commit and now.state is not State.WHOLE:
            broken = now.state is State.BROKEN
            detail = (
                f"{now.trouble}; every row that can be read is checked below"
                if broken
                else (f"{now.trouble}: its rows and blocks are checked like any others")
            )
            kind = Kind.DAMAGED if broken else Kind.CHANGED
            yield Finding(kind, "metadata", detail, Remedy.REWRITE)
        for name, column in row_columns(schema).items():
            for block in range(n_blocks(schema.n_rows, schema.block_rows)):
                start, stop = block_bounds(block, schema.n_rows, schema.block_rows)
                try:
                    self.read_column(name, block, stop - start)
                except DamageError as error:
                    said = str(error).removesuffix("; run 'vnp verify'")
                    detail = (
                        f"{said}; rows {start} to {stop - 1} of {column.path} are lost: restore "
                        "the file from a copy, or append these samples to a new store"
                    )
                    where = f"{column.path}[{start}:{stop}]"
                    yield Finding(Kind.DAMAGED, where, detail, Remedy.NONE)

    def _locate(self, cell: Cell) -> tuple[int, int]:
        """First byte and length of a cell."""
        model, rows = self.schema.model(cell.model), self.schema.block_rows
        if cell.part is Part.PROVENANCE:
            return self._map.fixed[provenance_column(model).path]
        if cell.part is Part.CERTIFICATE:
            chunk, slot = divmod(cell.block, CERTIFICATES_PER_CHUNK)
            chunks = self._map.chunks[certificate_column(self.schema, model).path]
            return int(chunks[chunk]) + slot * CERTIFICATE_BYTES, CERTIFICATE_BYTES
        if cell.part is Part.FILLED:
            return int(self._map.chunks[filled_column(self.schema, model).path][cell.block]), rows
        chunks = self._map.chunks[embedding_column(self.schema, model).path]
        return int(chunks[cell.block]), rows * model.dim * _F16.itemsize

    def _read(self, cell: Cell) -> bytes:
        with reading(self.path) as fd:
            return pread(fd, *self._locate(cell), self.name(cell))

    def _rows(self, cell: Cell, rows: int) -> bytes:
        size = rows * self.schema.model(cell.model).dim * _F16.itemsize
        with reading(self.path) as fd:
            return pread(fd, self._locate(cell)[0], size, self.name(cell))

    def _write(self, offset: int, content: bytes) -> None:
        with writing(self.path, self._map) as fd:
            write_all(fd, content, offset)

    def _vote(self, model: str) -> Path:
        return self.sidecar.path / "provenance" / model


def _certificate_bytes(text: bytes) -> bytes:
    """Pack a certificate, leaving out the longest details until it fits its field."""
    record: dict[str, Any] = asdict(parse_certificate(text))
    while True:
        try:
            return pack_record(record, size=CERTIFICATE_BYTES)
        except UsageError:
            details = {key: value for key, value in record["details"].items() if key != "omitted"}
            if not details:
                raise
            longest = max(details, key=lambda key: len(json.dumps(details[key])))
            del details[longest]
            omitted = record["details"].get("omitted", 0) + 1
            record["details"] = {**details, "omitted": omitted}
