"""The S3 backend under the conformance class, on moto and on SeaweedFS."""

from __future__ import annotations

from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from store.location import S3Location
from store.open import create_store
from store.s3.objects import Objects
from store.store import Store
from tests.rows import MODELS
from tests.store.conformance import StoreConformance
from tests.store.s3 import servers


class S3Conformance(StoreConformance):
    suffix = ".zarr"

    def place(self, path: Path) -> S3Location:
        return S3Location(servers.BUCKET, "/".join(path.parts[-4:]))

    def new(self, path: Path | S3Location) -> Store:
        place = path if isinstance(path, S3Location) else self.place(path)
        return create_store(place, models=MODELS, segment_length=500, block_rows=self.R)

    def open(self, path: Path | S3Location) -> Store:
        return super().open(path if isinstance(path, S3Location) else self.place(path))

    def contents(self, store: Store) -> object:
        """Every byte: objects that were emptied have none."""
        objects = Objects(store.path)
        found = {name: objects.get(name).content for name in objects.names("")}
        return {name: content for name, content in found.items() if content}

    def raw_get(self, store: Store, model: str, block: int) -> np.ndarray:
        raw = Objects(store.path).get(f"obsm/X_{model}/c.{block}.0").content[:-4]
        return np.frombuffer(raw, "<f2").reshape(self.R, -1)

    def raw_set(self, store: Store, model: str, block: int, rows: np.ndarray) -> None:
        chunk = np.full((self.R, rows.shape[1]), np.nan, dtype="<f2")
        chunk[: len(rows)] = rows
        body = chunk.tobytes()
        crc = google_crc32c.value(body).to_bytes(4, "little")
        Objects(store.path).put(f"obsm/X_{model}/c.{block}.0", body + crc)

    def raw_provenance(self, store: Store, model: str, *, vanish: bool) -> str:
        name = f"uns/vnp/{model}/c"
        objects = Objects(store.path)
        objects.put(name, b"\0" * 40)
        if vanish:
            objects.delete(name)
        return name


@pytest.mark.usefixtures("moto")
class TestMotoStore(S3Conformance):
    pass


@pytest.mark.slow
@pytest.mark.usefixtures("seaweed")
class TestSeaweedStore(S3Conformance):
    pass
