"""Zarr stores of a billion rows that are mostly names: made for measuring, not for reading.

What is real and distinct: the metadata, the samples, the index of digests (its keys are random),
the heartbeats of past workers, with ``certified`` also flags, certificates and (sparse, but with
their checksum) values of every filled block. What is not: chunks of columns are hard links to one
chunk, flags without ``certified`` and claims are hard links to one file, values are absent, and of
the sequences only the last chunk is there. ``digests`` makes the digest columns real too.
``contigs`` makes contigs with their segments, scores of every row, and, of ``certified`` blocks,
values that are links to one chunk of random numbers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.certificate import Certificate
from store.claims.process import identify
from store.digest_index import DigestIndex, Manifest, _name, runs_to_merge
from store.digest_runs import ENTRY, PAGE, Entries, write_run
from store.geometry import chunks_of
from store.io.ragged import from_items
from store.layout import (
    Column,
    certificate_column,
    embedding_column,
    filled_column,
    provenance_column,
    row_columns,
)
from store.open import create_store
from store.samples import Sample, StoredSamples, chained
from store.schema import Model, Schema
from store.store import Store
from store.zarr.change import sample_chunks
from store.zarr.codec import encode_numbers, encode_strings, numpy_dtype, stored_crc
from store.zarr.transaction import write_documents

MODELS = (Model("dnabert_s", 768), Model("esm2_3b", 2560))
_LINKS = 50_000  # that one file may have on ext4: 65,000
_TAILS = 64


def make_store(
    path: Path,
    *,
    rows: int,
    samples: int,
    workers: int,
    filled: float,
    certified: bool = False,
    digests: bool = False,
    contigs: int = 0,
) -> Store:
    """Make a store with as many rows, samples and past workers, ``filled`` of its blocks filled."""
    store = create_store(path, models=MODELS, segment_length=500)
    numbers = _Contigs(rows, contigs) if contigs else None
    schema = replace(store.schema, samples=_samples(rows, samples, numbers))
    ends = [sample.stop for sample in schema.samples]
    tails = dict.fromkeys(end // schema.block_rows for end in ends if end % schema.block_rows)
    schema = replace(schema, tails=tuple(tails)[-_TAILS:])
    for name, content in sample_chunks(schema, had=0):
        _write(path / name, content)
    for name, column in row_columns(schema).items():
        if name in ("digest", "digest_low") and digests:
            _random_chunks(path, column)
        elif numbers is not None and name in numbers.COLUMNS:
            numbers.write(path, name, column)
        elif numbers is not None and name == "sample":
            _sample_chunks(path, column, schema)
        else:
            _linked_chunks(
                path, column, last_only=name in ("nucleotide", "protein") and not contigs
            )
    sidecar = store.sidecar.make()
    write_documents(path, before=store.schema, after=schema, tmp_dir=sidecar.tmp)
    store.refresh()
    blocks = int(store.n_blocks * filled)
    for model in MODELS:
        column = provenance_column(model)
        _write(path / column.chunk_key(), encode_strings(from_items([b"{}"]), column=column))
        make = _certified_blocks if certified else _linked_flags
        if certified and contigs:
            _linked_values(path, schema, model, blocks)
        else:
            make(path, schema, model, blocks)
        _claims(sidecar.path / "claims" / model.name, blocks)
    _heartbeats(sidecar.path, workers)
    _index(sidecar.digests, schema, [sample.stop - sample.start for sample in schema.samples])
    if numbers is not None:
        values, whole = numbers.scores(), [(0, rows)]
        store.save_scores("synthetic", digest="synthetic", values=values, rows=whole)
    return store


class _Contigs:
    """Contigs of 1 to many segments, each with 1 to 3 records: what obs says of every row."""

    COLUMNS = ("contig", "contig_length", "segment", "start", "end")

    def __init__(self, rows: int, count: int) -> None:
        self._random = np.random.default_rng(3)
        cuts = np.sort(self._random.choice(rows - 1, min(count, rows) - 1, replace=False)) + 1
        self.first = np.concatenate([[0], cuts])  # row of each contig
        self._of = np.repeat(np.arange(len(self.first)), np.diff(self.first, append=rows))
        new = self._random.random(rows) < 1 / 2  # which rows begin a segment
        new[self.first] = True
        number = np.cumsum(new)
        self._segment = (number - number[self.first][self._of] + 1).astype(np.int32)
        self._length = (
            500 * np.maximum.reduceat(self._segment, self.first).astype(np.int64)[self._of]
        )

    def write(self, root: Path, name: str, column: Column) -> None:
        size = column.chunk[0]
        for chunk in chunks_of(0, column.shape[0], size):
            part = slice(chunk * size, (chunk + 1) * size)
            start = (self._segment[part].astype(np.int64) - 1) * 500
            if name == "contig":
                names = from_items(f"k141_{7 * n}".encode() for n in self._of[part].tolist())
                content = encode_strings(names, column=column)
            else:
                of = {"segment": self._segment[part], "start": start, "end": start + 500}
                of["contig_length"] = self._length[part]
                content = encode_numbers(of[name], column=column)
            _write(root / column.chunk_key(chunk), content)

    def scores(self) -> NDArray[np.float32]:
        """Scores (rows, 2), alike within a contig."""
        viral = self._random.beta(0.5, 1.0, len(self.first))[self._of]
        viral = np.clip(viral + self._random.normal(0, 0.1, len(viral)), 0, 1)
        return np.stack([1 - viral, viral], axis=1).astype(np.float32)


def _sample_chunks(root: Path, column: Column, schema: Schema) -> None:
    starts = np.array([sample.start for sample in schema.samples])
    size = column.chunk[0]
    for chunk in chunks_of(0, column.shape[0], size):
        rows = np.arange(chunk * size, min((chunk + 1) * size, column.shape[0]))
        codes = (np.searchsorted(starts, rows, side="right") - 1).astype(np.int32)
        _write(root / column.chunk_key(chunk), encode_numbers(codes, column=column))


def _samples(rows: int, count: int, numbers: _Contigs | None) -> StoredSamples:
    ends = np.linspace(0, rows, count + 1).astype(int)
    contigs, without = [1000] * count, 10
    if numbers is not None:  # one that lies across an end is a contig of both
        first = np.union1d(numbers.first, ends[:-1])
        contigs, without = np.diff(np.searchsorted(first, ends)).tolist(), 0
    ends = ends.tolist()
    made, chain = [], ""
    for i in range(count):
        content, file = f"{i:064x}", f"{i + count:064x}"
        sample = Sample(
            f"sample_{i}", ends[i], ends[i + 1], contigs[i], without, 2000, 10**6, 0, content, file,
            f"sample_{i}.fa.gz", "2026-11-30T00:00:00Z",
        )  # fmt: skip
        made.append(sample)
        chain = chained(chain, sample.to_text())
    return StoredSamples(count=count, rows=rows, chain=chain, added=tuple(made))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _linked(first: Path, content: bytes, names: Iterator[Path]) -> None:
    """Make files of one content: links to each other, as far as a file may have links."""
    for number, path in enumerate(names):
        if number % _LINKS == 0:
            first = path
            _write(path, content)
        else:
            os.link(first, path)


def _linked_chunks(root: Path, column: Column, *, last_only: bool) -> None:
    chunks = chunks_of(0, column.shape[0], column.chunk[0])
    if column.dtype == "string":
        items = [f"record_{i}".encode() for i in range(column.chunk[0])]
        content = encode_strings(from_items(items), column=column)
    else:
        fill = -1 if column.path.endswith("twin") else 0
        values = np.full(column.chunk, fill, dtype=numpy_dtype(column))
        content = encode_numbers(values, column=column)
    names = (root / column.chunk_key(chunk) for chunk in (chunks[-1:] if last_only else chunks))
    _linked(root, content, names)


def _random_chunks(root: Path, column: Column) -> None:
    random = np.random.default_rng(1)
    for chunk in chunks_of(0, column.shape[0], column.chunk[0]):
        values = random.integers(0, 1 << 64, column.chunk, dtype=np.uint64)
        _write(root / column.chunk_key(chunk), encode_numbers(values, column=column))


def _linked_flags(root: Path, schema: Schema, model: Model, blocks: int) -> None:
    column = filled_column(schema, model)
    content = encode_numbers(np.ones(schema.block_rows, dtype=bool), column=column)
    _linked(root, content, (root / column.chunk_key(block) for block in range(blocks)))


def _certified_blocks(root: Path, schema: Schema, model: Model, blocks: int) -> None:
    flags, values = filled_column(schema, model), embedding_column(schema, model)
    certificates = certificate_column(schema, model)
    content = encode_numbers(np.ones(schema.block_rows, dtype=bool), column=flags)
    size = schema.block_rows * model.dim * 2
    for column in (flags, values, certificates):
        (root / column.path).mkdir(parents=True, exist_ok=True)
    for block in range(blocks):
        (root / flags.chunk_key(block)).write_bytes(content)
        with (root / values.chunk_key(block, 0)).open("wb") as file:
            file.truncate(size)
            file.seek(size)
            file.write(b"\1\2\3\4")
        made = Certificate(
            schema.block_rows, stored_crc(b"\1\2\3\4"), "0" * 32, 1, "2026-11-30T00:00:00Z", {}
        )
        text = encode_strings(from_items([made.to_json()]), column=certificates)
        (root / certificates.chunk_key(block)).write_bytes(text)


def _linked_values(root: Path, schema: Schema, model: Model, blocks: int) -> None:
    """Make filled blocks whose values are all the same random numbers."""
    _linked_flags(root, schema, model, blocks)
    column, certificates = embedding_column(schema, model), certificate_column(schema, model)
    values = np.random.default_rng(4).standard_normal(column.chunk, dtype=np.float32)
    content = encode_numbers(values.astype(np.float16), column=column)
    _linked(root, content, (root / column.chunk_key(block, 0) for block in range(blocks)))
    made = Certificate(
        schema.block_rows, stored_crc(content), "0" * 32, 1, "2026-11-30T00:00:00Z", {}
    )
    text = encode_strings(from_items([made.to_json()]), column=certificates)
    for block in range(blocks):
        _write(root / certificates.chunk_key(block), text)


def _claims(folder: Path, blocks: int) -> None:
    names = (folder / f"{block}.1{end}" for block in range(blocks) for end in ("", ".released"))
    _linked(folder, b"{}", names)


def _heartbeats(sidecar: Path, workers: int) -> None:
    """Write what workers leave that ended in order."""
    (sidecar / "workers").mkdir(parents=True, exist_ok=True)
    for number in range(workers):
        text = {
            "counter": 1000,
            "state": "ended",
            "worker": f"{number:032x}",
            "interval": 5.0,
            "identity": asdict(identify()),
            "progress": {"records": 10**6, "model": "esm2_3b", "block": number, "in_block": 0},
        }
        _write(sidecar / "workers" / f"{number:032x}", json.dumps(text).encode().ljust(4096))


def _index(folder: Path, schema: Schema, appended: list[int]) -> None:
    """Write runs of the sizes that appends of as many rows each leave, with random keys."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes: list[int] = []
    for rows in appended:
        sizes.append(rows)
        merged = runs_to_merge(sizes)
        sizes[-merged:] = [sum(sizes[-merged:])]
    random, first, runs = np.random.default_rng(2), 0, []
    for number, size in enumerate(sizes):
        parts = _random_entries(random, first, size)
        runs.append(write_run(folder / f"run-{number}", parts, tmp_dir=folder))
        first += size
    name = _name(schema.samples[-1])
    manifest = Manifest(schema.n_rows, name, len(runs), tuple(runs))
    DigestIndex(folder, tmp_dir=folder, guard=lambda: None)._write(manifest)


def _random_entries(
    random: np.random.Generator, first: int, size: int, *, pages: int = 512
) -> Iterator[Entries]:
    """Yield entries with ascending random keys, as those of hashes are, a part at a time."""
    width = (1 << 64) // (size + 1)
    for start in range(0, size, pages * PAGE):
        count = min(pages * PAGE, size - start)
        entries = np.empty(count, dtype=ENTRY)
        low = start * width
        keys = random.integers(low, low + count * width, count, dtype=np.uint64, endpoint=False)
        entries["key"] = np.sort(keys)
        entries["row"] = random.integers(first, first + size, count)
        yield entries
