"""What reading needs of a store: the one interface between `store.read` and the store itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged
from store.location import Location
from store.schema import Schema


class Source(Protocol):
    """Rows and their embeddings, at one commit; `store.store.Store` documents the methods."""

    @property
    def path(self) -> Location:
        """Where the store is."""

    @property
    def schema(self) -> Schema:
        """Models, samples and geometry of the commit."""

    def rows_filled(self, model: str, among: range | None = None) -> NDArray[np.int64]:
        """Filled rows of every block, shape (n_blocks,), or of some that lie side by side."""

    def values_file(self, model: str, block: int) -> tuple[Path, int] | None:
        """File of a block's embeddings and the byte at which its (R, dim) begin; None for none."""

    def read(self, model: str, start: int = 0, stop: int | None = None) -> NDArray[np.float16]:
        """Embeddings of rows ``start .. stop``, checksums compared, NaN where not certified."""

    def column(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any] | Ragged:
        """Values of one of the appender's columns, rows ``start .. stop``."""

    def scores(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Scores kept under a name, of rows: float32 (rows, 2), NaN for none."""

    def provenance(self, model: str) -> dict[str, Any] | None:
        """Return what is recorded of what made a model's embeddings."""
