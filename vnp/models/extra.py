"""What the extra ``embed`` brings, and the one error of a call that needs it without it.

The store, its readers and ``init``, ``append``, ``launch slurm``, ``status``, ``verify``,
``convert`` and ``export`` do without these packages; what loads a model, a classifier or one of
VirNucPro's files does not.
"""

from __future__ import annotations

from store.io.optional import install, is_installed, require_installed

PACKAGES = ("torch", "safetensors", "tokenizers", "huggingface_hub", "transformers")
INSTALL = install("embed")


def missing_packages() -> list[str]:
    """Which of the packages are not installed; nothing is imported."""
    return [name for name in PACKAGES if not is_installed(name)]


def require_embed(what: str) -> None:
    """Refuse what cannot be done without the packages, before anything is begun.

    Raises
    ------
    MissingPackageError
        If one is not installed; it says what to install.
    """
    require_installed(PACKAGES, for_what=what, extra="embed")
