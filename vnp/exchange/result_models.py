"""Which models of a store a VirNucPro result file holds, and where in its rows."""

from __future__ import annotations

from itertools import accumulate, pairwise

from store.schema import Model
from store.store import Store
from vnp.exchange.virnucpro_files import ResultFile, ResultFileError
from vnp.models import registry


def bands(store: Store, file: ResultFile) -> list[tuple[Model, slice]]:
    """Return the models of a file with their columns in it.

    A ``nucleotide`` file is of the store's model that reads nucleotide sequences, a ``protein``
    file of that which reads proteins, and a merged one of the first such model each, in this
    order, which is that of VirNucPro.

    Raises
    ------
    ResultFileError
        If the store has no such model, or the file's rows are of another width.
    """
    wanted = ("nucleotide", "protein") if file.kind == "merged" else (file.kind,)
    models = [_model(store, file, kind) for kind in wanted]
    width = sum(model.dim for model in models)
    if file.values.shape[1] != width:
        names = " + ".join(f"{model.name} ({model.dim})" for model in models)
        raise ResultFileError(
            f"{file.path} has {file.values.shape[1]} numbers a row where {names} has {width}: it "
            "was made with other models"
        )
    edges = pairwise([0, *accumulate(model.dim for model in models)])
    return [(model, slice(*edge)) for model, edge in zip(models, edges, strict=True)]


def _model(store: Store, file: ResultFile, kind: str) -> Model:
    found = [
        model
        for model in store.schema.models
        if model.name in registry.MODELS and registry.model(model.name).input == kind
    ]
    if not found:
        raise ResultFileError(
            f"{file.path} holds embeddings of {kind} sequences, and {store.path} has no such model"
        )
    # Of several models for one kind of sequence, the one of the file's width.
    fitting = [model for model in found if model.dim == file.values.shape[1]]
    return (fitting or found)[0]
