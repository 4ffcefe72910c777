"""Training with scikit-learn: logistic regression and histogram-based gradient boosting.

scikit-learn takes all features at once, in float64, so the training records must fit in memory.
What it learnt is taken over as arrays (`vnp.classify.estimators`), and compared with its own
answers before anything is kept.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from store.errors import UsageError
from store.io.optional import require
from store.io.words import count
from vnp.classify.batches import Rows
from vnp.classify.estimators import Logistic, Trees

log = logging.getLogger(__name__)

LOGISTIC = {"C": 1.0, "max_iter": 1000}
TREES = {
    "learning_rate": 0.1,
    "max_iter": 200,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 20,
    "l2_regularization": 0.0,
    "early_stopping": False,  # it would hold single records out, which overlap those trained on
}
_SAME = 1e-6  # by how much our log-odds may differ from scikit-learn's
_COMPARED = 1000  # rows


def fit_logistic(rows: Rows, *, seed: int) -> tuple[Logistic, dict[str, Any]]:
    """Fit a logistic regression on standardised features; return it and its settings.

    `UsageError` if scikit-learn is missing, or the rows do not fit in memory.
    """
    sklearn = require("sklearn", for_what="--classifier logistic")
    linear_model = require("sklearn.linear_model", for_what="--classifier logistic")
    x, y = _in_memory(rows)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0  # a feature that never changes
    x -= mean
    x /= scale
    model = linear_model.LogisticRegression(**LOGISTIC, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", require("sklearn.exceptions", for_what="").ConvergenceWarning
        )
        model.fit(x, y)
    steps = int(model.n_iter_[0])
    if steps >= LOGISTIC["max_iter"]:
        log.warning(f"the logistic regression has not converged in {count(steps, 'step')}")
    weight = model.coef_ / scale
    module = Logistic(
        torch.from_numpy(weight), torch.from_numpy(model.intercept_ - weight @ mean)
    ).eval()
    some = x[:_COMPARED]
    _require_same(module, some * scale + mean, model.decision_function(some), sklearn.__version__)
    return module, {**LOGISTIC, "seed": seed, "steps": steps, "scikit_learn": sklearn.__version__}


def fit_trees(rows: Rows, *, seed: int) -> tuple[Trees, dict[str, Any]]:
    """Fit histogram-based gradient boosting; return it and its settings. Errors as above."""
    sklearn = require("sklearn", for_what="--classifier hist-gradient-boosting")
    ensemble = require("sklearn.ensemble", for_what="--classifier hist-gradient-boosting")
    x, y = _in_memory(rows)
    model = ensemble.HistGradientBoostingClassifier(**TREES, random_state=seed).fit(x, y)
    try:
        module = trees_of(model)
    except (AttributeError, KeyError, ValueError, TypeError, IndexError) as error:
        raise _unlike(sklearn.__version__) from error
    some = x[:_COMPARED]
    _require_same(module, some, model.decision_function(some), sklearn.__version__)
    return module, {**TREES, "seed": seed, "scikit_learn": sklearn.__version__}


def trees_of(model: Any) -> Trees:
    """Take the trees of a fitted ``HistGradientBoostingClassifier`` of two classes over.

    They are in attributes that scikit-learn does not document, the same since its version 1.0.
    """
    trees = [predictor.nodes for [predictor] in model._predictors]
    size = max(map(len, trees))
    # What pads a tree is a leaf that nothing points to.
    own = np.tile(np.arange(size), (len(trees), 1))
    nodes: dict[str, NDArray[Any]] = {
        "feature": np.zeros_like(own),
        "left": own,
        "right": own.copy(),
        "threshold": np.zeros(own.shape),
        "missing_left": np.zeros(own.shape, dtype=bool),
        "value": np.zeros(own.shape),
    }
    for tree, found in enumerate(trees):
        if found["is_categorical"].any():
            raise ValueError("a tree has categories")
        inner = np.flatnonzero(found["is_leaf"] == 0)
        for name, theirs in (
            ("feature", "feature_idx"),
            ("left", "left"),
            ("right", "right"),
            ("threshold", "num_threshold"),
            ("missing_left", "missing_go_to_left"),
        ):
            nodes[name][tree, inner] = found[theirs][inner]
        nodes["value"][tree, : len(found)] = found["value"]
    tensors = {name: torch.from_numpy(values) for name, values in nodes.items()}
    baseline = torch.from_numpy(np.array(model._baseline_prediction, np.float64).reshape(1))
    return Trees(tensors, baseline, inputs=int(model.n_features_in_)).eval()


def _in_memory(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All features (n, D) and labels (n,); `UsageError` if this machine has not the memory."""
    size = 8 * len(rows) * rows.width
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if 2 * size > memory:  # scikit-learn works on a copy
        raise UsageError(
            f"{count(len(rows), 'training record')} of {rows.width} numbers take "
            f"{2 * size / 2**30:.1f} GiB in scikit-learn, and this machine has "
            f"{memory / 2**30:.1f}: train an mlp, which reads them in parts, or label fewer"
        )
    x = np.empty((len(rows), rows.width))
    at = 0
    for part, _ in rows.in_order():
        x[at : at + len(part)] = part.numpy()
        at += len(part)
    return x, rows.label


def _require_same(
    module: Logistic | Trees, x: NDArray[np.float64], theirs: NDArray[np.float64], version: str
) -> None:
    """Refuse to go on with a classifier whose log-odds are not those of scikit-learn's."""
    ours = module.log_odds(torch.from_numpy(x)).numpy()
    if not np.allclose(ours, theirs, rtol=_SAME, atol=_SAME):
        raise _unlike(version)


def _unlike(version: str) -> UsageError:
    return UsageError(
        f"scikit-learn {version} keeps its classifiers in another form than is known here; install "
        "the version of constraints.txt, or train an mlp"
    )
