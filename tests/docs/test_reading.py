"""Every Python snippet of docs/reading.md runs, in order, on a small store."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from tests.rows import filled_store

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs/reading.md"


def snippets() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


def test_the_snippets_run(tmp_path: Path) -> None:
    for name in ("anndata", "dask", "scanpy", "torch", "xarray", "zarr", "h5py"):
        pytest.importorskip(name)
    names: dict[str, object] = {
        "path": str(filled_store(tmp_path / "run.zarr").path),
        "h5_path": str(filled_store(tmp_path / "run.h5").path),
    }
    code = snippets()
    assert len(code) >= 7
    with warnings.catch_warnings():
        # Warnings of other packages about themselves.
        for module in ("anndata", "zarr", "xarray", "dask", "scanpy", "numba", "sklearn", "umap"):
            warnings.filterwarnings("ignore", module=rf"{module}(\..*)?\Z")
        warnings.filterwarnings(
            "ignore", category=DeprecationWarning, module=r"(faiss|importlib).*"
        )
        for number, part in enumerate(code, start=1):
            exec(compile(part, f"docs/reading.md, snippet {number}", "exec"), names)
