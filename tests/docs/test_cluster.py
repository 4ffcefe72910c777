"""The Python of docs/cluster.md is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vnp
from store.open import open_store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/cluster.md").read_text()


def test_two_workers_of_dask_fill_a_store(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    [snippet] = [
        part
        for part in re.findall(r"^```python\n(.*?)^```", DOCUMENT, flags=re.M | re.S)
        if "dask" in part
    ]
    path = str(tmp_path / "run.zarr")
    vnp.append(path, ROOT / "vnp/data/lambda_phage.fa.gz", create=True, recipe="demo")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        names = {"address": cluster.scheduler_address, "store": path, "n": 2}
        exec(compile(snippet, "docs/cluster.md", "exec"), names)
        names["client"].close()
    store = open_store(Path(path))
    assert all(store.certify(model.name).complete for model in store.schema.models)
