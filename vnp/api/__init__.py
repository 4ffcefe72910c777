"""vnp's commands as functions, for scripts and notebooks: ``import vnp``, then ``vnp.append(...)``.

Each function does what the command of its name does, with its options as keyword arguments, and
returns the report that the command prints with ``--json``: a frozen dataclass with ``to_json()``.
``store`` is always a path or an open store. An error that ends a command is raised, as
`store.errors.UsageError` if the call is wrong (exit code 2), else as another
`store.errors.StoreError` or an OSError (1), and KeyboardInterrupt (130). What is incomplete (3) is
told by the report, and so is the damage that `verify` finds. Messages name options as the
commands do; a note below an error says which keywords they are.

Messages go to the loggers ``vnp`` and ``store``, progress is shown as the commands show it and as a
bar in a notebook.
"""

from __future__ import annotations

from vnp.api.classification import precisions, predict, train
from vnp.api.results import export, residues
from vnp.api.stores import append, create, open, status, verify  # noqa: A004 - vnp.open(...) reads best
from vnp.embed.function import embed

__all__ = [
    "append",
    "create",
    "embed",
    "export",
    "open",
    "precisions",
    "predict",
    "residues",
    "status",
    "train",
    "verify",
]
