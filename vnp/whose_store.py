"""A check that the package `store` that Python imports is the one that comes with vnp.

The name is not ours alone: PyPI has a package `store`, which pip installs over ours, and people
have a ``store.py`` in the folder they work in. Either would be imported in place of ours, and the
first sign would be an AttributeError far from its cause. So `vnp` looks when it is imported: where
the package lies and whether it has our mark, without importing it, as that would import NumPy.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

_OURS = Path(__file__).resolve().parents[1] / "store"
_AGAIN = "in a clone of vnp pip install --force-reinstall --no-deps ."
_MARK = b"__package_of__"  # a name that only our store/__init__.py binds


class WrongStoreError(ImportError):
    """Python finds another `store` than the one that comes with vnp."""


def check_store() -> None:
    """Refuse to go on with a `store` that is not ours.

    Raises
    ------
    WrongStoreError
        If Python finds another one, or none; it names the file found and says what to do.
    """
    found = _found()
    if found is None:
        raise WrongStoreError(
            f"vnp needs its own package 'store', and {_OURS} is not on the module path: install "
            f"vnp again: {_AGAIN}",
            name="store",
        )
    if found.resolve().parent != _OURS:
        what = "folder" if found.is_dir() else "file"
        raise WrongStoreError(
            f"vnp needs its own package 'store', which is {_OURS}, and Python finds {found} "
            f"instead: rename that {what}, take its folder off PYTHONPATH if it is named there, or "
            "run Python in another folder or with the option -P",
            name="store",
            path=str(found),
        )
    if not _is_marked(found):
        raise WrongStoreError(
            f"{found} is not the package 'store' that comes with vnp: another package of that "
            f"name was installed over it: pip uninstall store, then {_AGAIN}",
            name="store",
            path=str(found),
        )


def end_if_run(error: WrongStoreError) -> None:
    """End ``python -m vnp`` and ``vnp`` with one line: their first import is what failed."""
    run = sys.argv[:1] == ["-m"] and ("-m", "vnp") in pairwise(sys.orig_argv)
    if run or Path(sys.argv[0] if sys.argv else "").name == "vnp":
        print(f"vnp: error: {error}", file=sys.stderr)
        sys.exit(1)


def _found() -> Path | None:
    """File, or without one the folder, of the `store` that is imported or would be."""
    module = sys.modules.get("store")
    if module is not None:
        file, folders = getattr(module, "__file__", None), getattr(module, "__path__", ())
    else:
        spec = find_spec("store")
        if spec is None:
            return None
        file, folders = spec.origin if spec.has_location else None, spec.submodule_search_locations
    if file is not None:
        return Path(file)
    return next((Path(folder) for folder in folders or ()), Path("store"))


def _is_marked(file: Path) -> bool:
    try:
        return _MARK in file.read_bytes()
    except OSError:
        return True  # in an archive, say: that it lies beside vnp has to do
