"""The reading half of a store's public interface: views, chosen rows, adapters, search.

Adapters and search are imported when one is called, and the libraries behind them with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store.errors import UsageError
from store.geometry import chunks_of
from store.read.indexing import Ints, row_positions
from store.read.origin import origin_of
from store.read.source import Source
from store.read.view import Missing, View, filled_rows

if TYPE_CHECKING:
    from store.read.search import Hits


class Reading(Source):
    """What `store.store.Store` offers to readers, built on what it is as a `Source`."""

    def __getitem__(self, model: str) -> View:
        """Return the embeddings of one model as a lazy array (N, dim)."""
        if not isinstance(model, str):
            raise TypeError(f"a store is indexed by a model's name, not by {model!r}")
        return View(self, models=model)

    @property
    def origins(self) -> dict[str, str]:
        """What made the embeddings of each model, in one line; see `store.read.origin.origin_of`.

        All that is recorded of one is ``provenance(model)``.
        """
        return {model.name: origin_of(self, model.name) for model in self.schema.models}

    def filled(self, model: str, start: int = 0, stop: int | None = None) -> NDArray[np.bool_]:
        """Which of the rows ``start .. stop`` are certified, shape (rows,): one byte a row."""
        start, stop, _ = slice(start, stop).indices(self.schema.n_rows)
        size = self.schema.block_rows
        blocks = chunks_of(start, stop, size)
        self.schema.model(model)  # also where no block is asked for
        return filled_rows(self.rows_filled(model, blocks), size=size, start=start, stop=stop)

    def merged(
        self,
        models: str | Sequence[str] | None = None,
        *,
        missing: Missing = "nan",
        verify: bool = False,
    ) -> View:
        """Return the embeddings of several models side by side as a lazy array (N, sum of dims).

        ``models`` are named left to right; by default all of the store in its order, which for a
        store made by VirNucPro's recipe is that of VirNucPro's merged feature. For ``missing`` and
        ``verify`` see `store.read.view.View`. A model that is not in the store or is named twice
        raises `UsageError`.
        """
        return View(self, models=models, missing=missing, verify=verify)

    def rows_of(self, samples: str | Sequence[str]) -> Ints:
        """Row numbers of one or more samples, shape (n,), in the order the samples are named.

        A sample that the store has not raises `UsageError`.
        """
        parts = [np.empty(0, np.int64)]
        for name in (samples,) if isinstance(samples, str) else samples:
            sample = self.schema.held_sample(name)
            parts.append(np.arange(sample.start, sample.stop))
        return np.concatenate(parts)

    @property
    def obs(self) -> Any:
        """The obs table (pandas.DataFrame) of all rows, one line a record, read at every access.

        Keep it in a variable to use it more than once; of a store with more rows than fit into
        memory ``to_pandas(rows)`` reads some.
        """
        return self.to_pandas()

    def to_pandas(self, rows: Any = None, *, sequences: bool = False) -> Any:
        """Return the obs table (pandas) of the chosen rows; see `store.read.adapters.to_pandas`."""
        from store.read.adapters import to_pandas

        return to_pandas(self, row_positions(rows, self.schema.n_rows), sequences=sequences)

    def to_anndata(self, rows: Any = None, *, models: Sequence[str] | None = None) -> Any:
        """Return an AnnData: the chosen rows in memory, or without ``rows`` everything, lazily.

        See `store.read.adapters.to_anndata` and `store.read.adapters.lazy_anndata`.
        """
        from store.read.adapters import lazy_anndata, to_anndata

        if rows is None:
            if models is not None:
                raise UsageError("choose models together with rows; a lazy AnnData has all of them")
            return lazy_anndata(self)
        return to_anndata(self, row_positions(rows, self.schema.n_rows), models=models)

    def to_dask(self, models: Sequence[str] | None = None, *, chunk_rows: int | None = None) -> Any:
        """Return the merged view as a dask array; see `store.read.adapters.to_dask`."""
        from store.read.adapters import to_dask

        return to_dask(self.merged(models), chunk_rows=chunk_rows)

    def to_xarray(self, models: Sequence[str] | None = None) -> Any:
        """Return everything as a lazy xarray Dataset; see `store.read.adapters.to_xarray`."""
        from store.read.adapters import to_xarray

        return to_xarray(self, models=models)

    def _repr_html_(self) -> str:
        """Show samples, models and how far they are filled in a notebook."""
        from store.read.html import store_html

        return store_html(self)

    def search(
        self,
        query: ArrayLike,
        k: int = 10,
        *,
        models: Sequence[str] | None = None,
        engine: str = "auto",
    ) -> Hits:
        """Find the k certified rows most similar to each query; see `store.read.search.search`."""
        from store.read.search import search

        return search(self.merged(models), query, k, engine=engine)
