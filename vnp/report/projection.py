"""Records in two dimensions: a seeded sample, by UMAP if it is installed, else by PCA."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.optional import available, is_installed
from store.io.words import count
from store.read.first_rows import FirstRows
from store.read.view import View
from vnp.embed.progress import waiting
from vnp.report.data import MOST_POINTS, Projection

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SEED = 20250226
_COMPONENTS = 30  # kept for UMAP
_EXTRA = 10  # more than that in the random basis of `torch.pca_lowrank`
_POWERS = 6  # times the basis is sharpened
_MANY = 5000  # records of which UMAP takes its time, said beforehand
_FEWEST = 3  # records that have a plane
_TELLING = 50.0  # per cent of the variance on two axes under which they are said to be weak


def choose_rows(certified: FirstRows, sample: Ints, *, most: int = MOST_POINTS) -> Ints:
    """Choose certified rows, ascending: as many of each sample, or all that it has.

    ``sample`` are the first row of each sample, ascending, and the number of rows.
    """
    if len(certified) <= most:
        return certified.span(0, len(certified))
    generator = np.random.default_rng(_SEED)
    edges = np.array([certified.before(row) for row in sample.tolist()])
    counts = np.diff(edges)
    quota = np.minimum(counts, _even(counts, most))
    left = most - int(quota.sum())  # less than one for each sample that has more
    quota[generator.permutation(np.flatnonzero(counts > quota))[:left]] += 1
    chosen = [
        edges[number] + generator.choice(counts[number], quota[number], replace=False)
        for number in np.flatnonzero(quota).tolist()
    ]
    return certified.rows(np.sort(np.concatenate(chosen)))


def _even(counts: Ints, most: int) -> int:
    """Largest number such that so many of each sample, or all it has, are at most ``most``."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(counts, middle).sum()) <= most:
            low = middle
        else:
            high = middle - 1
    return low


def features(view: View, rows: Ints) -> NDArray[np.float32]:
    """Rows of a view, centred, every model's band scaled to the same total variance: (n, D)."""
    x = np.asarray(view[rows]).astype(np.float32)
    x -= x.mean(axis=0, dtype=np.float64).astype(np.float32)
    for band in view.bands.values():
        spread = np.linalg.norm(x[:, band]) / np.sqrt(max(len(x), 1))
        if spread > 0:
            x[:, band] /= spread
    return x


def principal_components(x: NDArray[Any], most: int) -> tuple[Floats, Floats]:
    """Scores (n, most) of centred rows on their principal components, and shares of variance.

    Signs are fixed: the loading of largest size is positive.
    """
    import torch

    most = min(most, *x.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        width = min(most + _EXTRA, *x.shape)
        found = torch.pca_lowrank(torch.from_numpy(x), q=width, center=False, niter=_POWERS)
    left, sizes, right = (part.numpy()[..., :most].astype(np.float64) for part in found)
    largest = np.abs(right).argmax(axis=0)
    sign = np.where(right[largest, np.arange(most)] < 0, -1.0, 1.0)
    total = max(float(np.linalg.norm(x)) ** 2, np.finfo(float).tiny)
    return left * sizes * sign, sizes**2 / total


def project(x: NDArray[Any], *, umap: bool = True) -> Projection | None:
    """Project features onto a plane by UMAP if it is installed, else by PCA; None of too few."""
    if len(x) < _FEWEST or not x.any():
        return None
    scores, share = principal_components(x, _COMPONENTS)
    plane = _umap(scores) if umap else None
    if plane is not None:
        note = "Neighbours on the map are similar; distances between groups, and their sizes, mean "
        return Projection("UMAP", ("UMAP 1", "UMAP 2"), f"{note}little.", plane)
    if scores.shape[1] < 2:
        scores = np.column_stack([scores, np.zeros(len(scores))])
        share = np.append(share, 0.0)
    axes = [f"PC {number + 1} ({100 * share[number]:.1f} % of variance)" for number in range(2)]
    note = _kept(100 * float(share[0] + share[1]))
    return Projection("PCA", (axes[0], axes[1]), note, scores[:, :2])


def _kept(kept: float) -> str:
    """What to hold of two components that keep so many per cent of the variance."""
    about = f"{kept:.1f}" if kept >= 0.1 else "less than 0.1"
    note = f"Two principal components keep {about} % of the variance"
    if kept >= _TELLING:
        return f"{note}."
    lost = f"{100 - kept:.0f}" if kept >= 1 else "more than 99"
    more = "" if is_installed("umap") else ' UMAP (pip install "vnp[umap]") tells more.'
    return f"{note}: a weak picture, {lost} % of what tells records apart is not on it.{more}"


def _umap(scores: Floats) -> Floats | None:
    neighbours = 15
    if len(scores) <= 2 * neighbours or not is_installed("umap"):
        return None
    takes = " (about a minute)" if len(scores) > _MANY else ""
    # Importing it and compiling its loops takes half of that, however few records there are.
    with (
        waiting(f"report: map of {count(len(scores), 'record')} by UMAP{takes}"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of numba and of the seed; nothing a reader can use
        umap = available("umap", for_what="the map by UMAP")
        if umap is None:
            return None
        reducer = umap.UMAP(n_neighbors=neighbours, random_state=_SEED, n_jobs=1)
        return np.asarray(reducer.fit_transform(scores), dtype=np.float64)
