"""The root ``zarr.json`` of a store in S3: the one object whose swap is the commit.

It carries a stamp beside the schema: a generation, so that no two roots are ever equal, and a token
by which an appender knows its own when the answer to its swap is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

from store.errors import NotAStoreError
from store.io.json import parse_json
from store.io.ragged import Ragged
from store.layout import Column
from store.location import S3Location
from store.s3.objects import Object, Objects
from store.schema import Schema, from_attribute
from store.zarr.cells import samples_of
from store.zarr.codec import longest_chunk
from store.zarr.metadata import ROOT_DOCUMENT, STAMP, attributes_of, documents


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one commit from all others."""

    generation: int  # 1 of a new store
    token: str  # 32 hexadecimal digits, drawn by the appender

    @classmethod
    def first(cls) -> Self:
        """Return the stamp of a new store."""
        return cls(1, uuid4().hex)

    def next(self) -> Stamp:
        """Return the stamp of a change of this commit."""
        return Stamp(self.generation + 1, uuid4().hex)

    def to_json(self) -> dict[str, Any]:
        """Return the attribute of the root."""
        return {"generation": self.generation, "token": self.token}


@dataclass(frozen=True, slots=True)
class Root:
    """The root as it was read or written."""

    schema: Schema
    stamp: Stamp
    etag: str  # under which it can be swapped


@dataclass(frozen=True, slots=True)
class SampleObjects:
    """Reads chunks of the array of samples."""

    place: S3Location

    def __call__(self, chunk: int) -> Ragged:
        """Texts of a chunk; DamageError if it is missing or damaged."""
        return samples_of(self._read, chunk)

    def _read(self, key: str, column: Column) -> bytes:
        found = Objects(self.place).get(key, most=longest_chunk(column))
        if found is None:
            raise FileNotFoundError(key)
        return found.content


def root_document(schema: Schema, stamp: Stamp) -> bytes:
    """Content of the root."""
    return documents(schema, stamp=stamp.to_json())[ROOT_DOCUMENT]


def parse_root(found: Object | None, *, where: S3Location) -> Root:
    """Read a root; NotAStoreError if it is not that of a store."""
    if found is None or not found.content:
        damaged = found is not None
        what = "its zarr.json is empty or too long" if damaged else "it has no zarr.json"
        raise NotAStoreError(
            f"{where} is not a vnp store ({what}); make one with 'vnp init {where}'"
        )
    try:
        node = parse_json(found.content)
    except ValueError as error:
        raise NotAStoreError(f"{where}/zarr.json is damaged: it is not JSON ({error})") from None
    attributes = attributes_of(node)
    schema = from_attribute(
        attributes.get("vnp"), where=str(where), read_samples=SampleObjects(where)
    )
    return Root(schema, _stamp_of(attributes.get(STAMP), where), found.etag)


def _stamp_of(value: object, where: S3Location) -> Stamp:
    if isinstance(value, dict):
        generation, token = value.get("generation"), value.get("token")
        if type(generation) is int and generation > 0 and isinstance(token, str):
            return Stamp(generation, token)
    raise NotAStoreError(
        f"{where} was copied there file by file, and has no generation in its zarr.json: read it "
        "where it came from, and copy it with 'vnp convert'"
    )
