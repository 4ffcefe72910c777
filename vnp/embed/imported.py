"""Models whose embeddings came from files, as their provenance says it.

Which program and weights made a file is not known here, so no worker goes on with such a model:
its rows would be of two kinds. Results of VirNucPro are another matter: which models these are of
is known, and workers may fill the rest (`vnp.exchange.import_results`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from store.errors import DataError, UsageError
from store.store import Store
from vnp.models.held import held_models

_LONGEST = 400  # characters of the names of files; a provenance has a place of fixed size


class ImportedModelError(DataError):
    """A model's embeddings were imported: no worker continues it."""


def imported_provenance(
    files: Mapping[str, str], *, form: str, numbers: str, version: str
) -> dict[str, Any]:
    """Return what is recorded of a model that is imported.

    Parameters
    ----------
    files
        SHA-256 of each file by its name.
    form, numbers, version
        What kind of files they are, the type of their numbers, and the version of vnp.
    """
    names = ", ".join(files)
    if len(names) > _LONGEST:
        names = f"{names[:_LONGEST]}..."
    return {
        "identity": {
            "imported": names,
            "sha256": ", ".join(list(files.values())[:5]),
            "format": form,
            "numbers": numbers,
        },
        "environment": {"imported": "files of embeddings", "vnp": version},
    }


def imported_from(store: Store, model: str) -> str | None:
    """Names of the files that a model's embeddings came from; None if they did not.

    DamageError if the provenance is damaged.
    """
    return files_named(store.provenance(model) or {})


def files_named(provenance: Mapping[str, Any]) -> str | None:
    """Names of the files that a provenance says a model was imported from; None if it does not."""
    identity = provenance.get("identity")
    found = identity.get("imported") if isinstance(identity, dict) else None
    return found if isinstance(found, str) else None


def models_made_here(store: Store, asked: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the models asked for, see `held_model`; by default of all that are not imported.

    UsageError if all are imported.
    """
    found = held_models(store.schema, dict.fromkeys(asked)) or tuple(
        model.name for model in store.schema.models if imported_from(store, model.name) is None
    )
    if not found:
        raise UsageError(f"{store.path} has no model to measure: its embeddings were imported")
    return found


def refuse_imported(
    store: Store, model: str, *, advice: str = "import those of the rows that are missing too"
) -> None:
    """Raise ImportedModelError if a model's embeddings came from files, with what to do."""
    files = imported_from(store, model)
    if files is not None:
        raise ImportedModelError(
            f"the embeddings of {model} were imported from {files}, and what made them is not "
            f"known here: {advice}"
        )
