"""Records in two dimensions: a seeded sample, by PCA, and by UMAP if it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from store.io.optional import available
from store.read.view import View
from vnp.report.data import MOST_POINTS, Projection

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SEED = 20250226
_COMPONENTS = 30  # kept for UMAP
_EXTRA = 10  # more than that in the random basis of `torch.pca_lowrank`
_POWERS = 6  # times the basis is sharpened
_FEWEST = 3  # records that have a plane


def choose_rows(filled: NDArray[np.bool_], sample: Ints, *, most: int = MOST_POINTS) -> Ints:
    """Choose certified rows, ascending: of each sample its share, and of small ones a minimum.

    ``filled`` says which rows are certified, (N,); ``sample`` are the first row of each sample,
    ascending, and N.
    """
    rows = np.flatnonzero(filled)
    if len(rows) <= most:
        return rows
    generator = np.random.default_rng(_SEED)
    edges = np.searchsorted(rows, sample)
    counts = np.diff(edges)
    present = np.flatnonzero(counts)
    # A tenth goes to all samples alike, so that a small one is seen beside a large one.
    alike = most // 10 // max(len(present), 1)
    quota = np.minimum(counts, (counts * (0.9 * most / len(rows))).astype(np.int64) + alike)
    chosen = [
        rows[edges[number] + generator.choice(counts[number], quota[number], replace=False)]
        for number in present.tolist()
        if quota[number]
    ]
    picked = np.sort(np.concatenate(chosen)) if chosen else rows[:0]
    if not len(picked):  # more samples than points
        picked = np.sort(generator.choice(rows, most, replace=False))
    return picked[:most]


def features(view: View, rows: Ints) -> Floats:
    """Rows of a view, centred, every model's band scaled to the same total variance: (n, D)."""
    x = np.asarray(view[rows], dtype=np.float64)
    x -= x.mean(axis=0)
    for band in view.bands.values():
        spread = np.sqrt((x[:, band] ** 2).sum() / max(len(x), 1))
        if spread > 0:
            x[:, band] /= spread
    return x


def principal_components(x: Floats, count: int) -> tuple[Floats, Floats]:
    """Scores (n, count) of centred rows on their principal components, and shares of variance.

    Signs are fixed: the loading of largest size is positive.
    """
    count = min(count, *x.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        width = min(count + _EXTRA, *x.shape)
        found = torch.pca_lowrank(torch.from_numpy(x), q=width, center=False, niter=_POWERS)
    left, sizes, right = (part.numpy()[..., :count] for part in found)
    largest = np.abs(right).argmax(axis=0)
    sign = np.where(right[largest, np.arange(count)] < 0, -1.0, 1.0)
    return left * sizes * sign, sizes**2 / max(float((x**2).sum()), np.finfo(float).tiny)


def project(x: Floats, *, umap: bool = True) -> tuple[Projection, ...]:
    """Project features onto a plane, by PCA and, if it is installed, by UMAP."""
    if len(x) < _FEWEST or not x.any():
        return ()
    scores, share = principal_components(x, _COMPONENTS)
    if scores.shape[1] < 2:
        scores = np.column_stack([scores, np.zeros(len(scores))])
        share = np.append(share, 0.0)
    axes = [f"PC {number + 1} ({100 * share[number]:.0f} % of variance)" for number in range(2)]
    found = [Projection("PCA", (axes[0], axes[1]), scores[:, :2])]
    if umap:
        found += _umap(scores)
    return tuple(found)


def _umap(scores: Floats) -> Sequence[Projection]:
    neighbours = 15
    if len(scores) <= 2 * neighbours:
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and of the seed; nothing a reader can use
        umap = available("umap", for_what="the map by UMAP")
        if umap is None:
            return ()
        reducer = umap.UMAP(n_neighbors=neighbours, random_state=_SEED, n_jobs=1)
        plane = reducer.fit_transform(scores)
    return (Projection("UMAP", ("UMAP 1", "UMAP 2"), np.asarray(plane, dtype=np.float64)),)
