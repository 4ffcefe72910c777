"""How good scores are, from labels and probabilities alone.

All take ``truth`` (n,), 1 for virus and 0 for others, and ``score`` (n,), the probability of virus.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Truth: TypeAlias = NDArray[np.int64]
Score: TypeAlias = NDArray[np.float64]

CALIBRATION_BINS = 15


def all_metrics(truth: Truth, score: Score) -> dict[str, float | int | None]:
    """Compute every metric; None where one is not defined, as when a class is absent."""
    cells = np.bincount(2 * truth + (score > 0.5), minlength=4)
    right, wrong, missed, hits = cells.tolist()
    return {
        "records": len(truth),
        "virus": hits + missed,
        "true_positives": hits,
        "false_positives": wrong,
        "false_negatives": missed,
        "true_negatives": right,
        "accuracy": _ratio(hits + right, len(truth)),
        "precision": _ratio(hits, hits + wrong),
        "recall": _ratio(hits, hits + missed),
        "f1": _ratio(2 * hits, 2 * hits + wrong + missed),
        "auroc": auroc(truth, score),
        "auprc": auprc(truth, score),
        "brier": brier(truth, score),
        "ece": expected_calibration_error(truth, score),
        "log_loss": log_loss(truth, score) if len(truth) else None,
    }


def auroc(truth: Truth, score: Score) -> float | None:
    """Area under the ROC curve: the chance that a virus scores above another, ties counting half.

    From rank sums (Mann & Whitney 1947).
    """
    n1 = int(np.count_nonzero(truth))
    n0 = len(truth) - n1
    if not n1 or not n0:
        return None
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    # Ranks from 1; scores that are equal share the mean of their ranks.
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((rank[truth == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def auprc(truth: Truth, score: Score) -> float | None:
    """Average precision: precision at each threshold, weighted by the recall gained there."""
    n1 = int(np.count_nonzero(truth))
    if not n1:
        return None
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # of equal scores
    hits = np.cumsum(truth[order])[last]
    precision = hits / (last + 1)
    recall = hits / n1
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def brier(truth: Truth, score: Score) -> float | None:
    """Mean squared difference of probability and truth (Brier 1950)."""
    return float(np.mean((score - truth) ** 2)) if len(truth) else None


def expected_calibration_error(truth: Truth, score: Score) -> float | None:
    """Gap between mean score and share of viruses over bins of equal width, weighted by size.

    Guo et al. 2017 (arXiv:1706.04599), for the probability of the class virus.
    """
    if not len(truth):
        return None
    bin_of = np.minimum((score * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    scores = np.bincount(bin_of, weights=score)
    truths = np.bincount(bin_of, weights=truth)
    return float(np.abs(scores - truths).sum() / len(truth))


def log_loss(truth: Truth, score: Score) -> float:
    """Mean negative logarithm of the probability of what is true, kept off 0 by 1e-15."""
    of_truth = np.where(truth == 1, score, 1 - score)
    return float(-np.mean(np.log(np.maximum(of_truth, 1e-15))))


def rounded(value: float, records: int) -> str:
    """Write a metric of so many records, with no digit finer than what one record changes."""
    return f"{value:.{min(len(str(records)), 4)}f}"


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
