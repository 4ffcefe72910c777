"""Each backend works where the folder of the other is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1] or name.startswith(sys.argv[1] + "."):
            raise ModuleNotFoundError(f"{name} was deleted", name=name)

sys.meta_path.insert(0, Gone())
import store
from store.repair import verify_store
from tests.rows import filled_store

made = filled_store(sys.argv[2], rows=40)
assert list(verify_store(store.open(made.path))) == []
assert all(made.certify(model.name).complete for model in made.schema.models)
assert not any(name.startswith(sys.argv[1]) for name in sys.modules)
"""


@pytest.mark.parametrize(("gone", "kept"), [("store.hdf5", "zarr"), ("store.zarr", "h5")])
def test_one_backend_needs_nothing_of_the_other(tmp_path: Path, gone: str, kept: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, gone, str(tmp_path / f"run.{kept}")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr
