"""Exports in the layouts of VirNucPro's own files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from store.io.ragged import from_items
from store.open import create_store
from store.rows import RowBatch
from store.store import Store
from tests.rows import batch, commit, expected, publish
from tests.vnp.exchange.stores import DEMO, ids, merged
from vnp.exchange.export import export_store

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("weights_only", [True, False])
def test_pt_in_the_three_layouts(full: Store, tmp_path: Path, weights_only: bool) -> None:
    torch = pytest.importorskip("torch")
    dna, protein = expected(full, "demo_dnabert_s"), expected(full, "demo_esm2")
    for layout in ("DNABERT_S", "ESM", "merged"):
        report = export_store(
            full,
            tmp_path / f"x_{layout}.pt",
            layout=layout,
            ids="plain",  # type: ignore[arg-type]
        )
        content = torch.load(tmp_path / f"x_{layout}.pt", weights_only=weights_only)
        if layout == "DNABERT_S":
            assert report.models == ("demo_dnabert_s",)
            assert content["nucleotide"] == ids(full)
            assert [item["label"] for item in content["data"]] == ids(full)
            rows = [item["mean_representation"] for item in content["data"]]
            assert type(rows[0]) is list
            assert type(rows[0][0]) is float
            np.testing.assert_array_equal(rows, dna)
        elif layout == "ESM":
            assert content["proteins"] == ids(full)
            assert type(content["data"]) is list
            assert content["data"][3].shape == (5,)
            assert content["data"][3].dtype == torch.float32
            np.testing.assert_array_equal(torch.stack(content["data"]), protein)
        else:
            assert content["ids"] == ids(full)
            assert content["data"].dtype == torch.float32
            np.testing.assert_array_equal(content["data"], np.concatenate([dna, protein], axis=1))


def test_pt_is_what_torch_itself_would_read_and_map(full: Store, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    export_store(full, tmp_path / "a.pt", ids="plain")
    mapped = torch.load(tmp_path / "a.pt", mmap=True, weights_only=True)
    np.testing.assert_array_equal(mapped["data"], merged(full))
    torch.save(mapped, tmp_path / "b.pt")
    again = torch.load(tmp_path / "b.pt", weights_only=True)
    assert again["ids"] == ids(full)
    torch.testing.assert_close(again["data"], mapped["data"])
    assert (tmp_path / "a.pt").read_bytes() == _exported_again(full, tmp_path)


def _exported_again(store: Store, folder: Path) -> bytes:
    export_store(store, folder / "c.pt", ids="plain")
    return (folder / "c.pt").read_bytes()


def test_pt_of_many_rows_and_strange_ids(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    names = [f"é{n}\N{DNA DOUBLE HELIX}" for n in range(2561)]  # a last one by itself
    store = create_store(tmp_path / "r.zarr", models=DEMO, segment_length=500, block_rows=4096)
    with store.appending() as appending:
        part = batch("x", 0, len(names))
        columns = {field: getattr(part, field) for field in part.__slots__}
        appending.write(RowBatch(**{**columns, "id": from_items([n.encode() for n in names])}))
        commit(appending, "x", len(names))
    for model in DEMO:
        publish(store, model.name, 0)
    dna, protein = expected(store, "demo_dnabert_s"), expected(store, "demo_esm2")
    for layout, key in (("DNABERT_S", "nucleotide"), ("ESM", "proteins"), ("merged", "ids")):
        export_store(store, tmp_path / "o.pt", layout=layout, force=True)  # type: ignore[arg-type]
        content = torch.load(tmp_path / "o.pt", weights_only=True)
        assert content[key] == names
        rows = content["data"]
        if layout == "DNABERT_S":
            assert [item["label"] for item in rows] == names
            rows = [item["mean_representation"] for item in rows]
        held = {"DNABERT_S": dna, "ESM": protein, "merged": np.concatenate([dna, protein], axis=1)}
        np.testing.assert_array_equal(np.stack([np.asarray(row) for row in rows]), held[layout])
