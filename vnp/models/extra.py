"""What the extra ``embed`` brings, and the one error of a call that needs it without it.

The store, its readers and ``init``, ``append``, ``launch slurm``, ``status``, ``verify``,
``convert`` and ``export`` do without these packages; what loads a model, a classifier or one of
VirNucPro's files does not.
"""

from __future__ import annotations

from importlib.util import find_spec

from store.io.optional import MissingPackageError, install

PACKAGES = ("torch", "safetensors", "tokenizers", "huggingface_hub", "transformers")
INSTALL = install("embed")


def missing_packages() -> list[str]:
    """Which of the packages are not installed; nothing is imported."""
    return [name for name in PACKAGES if not _is_installed(name)]


def require_embed(what: str) -> None:
    """Refuse what cannot be done without the packages, before anything is begun.

    Raises
    ------
    MissingPackageError
        If one is not installed; it says what to install.
    """
    missing = missing_packages()
    if missing:
        verb = "which is" if len(missing) == 1 else "which are"
        raise MissingPackageError(
            f"{what} needs {', '.join(missing)}, {verb} not installed: {INSTALL}"
        )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # ValueError: it was imported by hand, without a spec
        return False
