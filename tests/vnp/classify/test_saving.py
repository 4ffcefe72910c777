"""Scores kept in the store: through appends, kills, damage and other classifiers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pandas
import pytest

import store.zarr.transaction as transaction
from store.errors import UsageError
from store.open import open_store
from store.read.columns import take_scores
from store.repair import repair, verify_store
from tests.rows import MODELS, append, filled_store
from tests.rows import publish as fill
from tests.vnp.classify.classify_files import publish
from vnp.cli.main import main

pytestmark = pytest.mark.slow

INPUTS = sum(model.dim for model in MODELS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    filled_store(tmp_path / "run.zarr")
    publish(tmp_path / "m.pth", INPUTS)
    publish(tmp_path / "other.pth", INPUTS, seed=1)
    return tmp_path / "run.zarr"


def predict(path: Path, *arguments: str, model: str = "m.pth") -> int:
    classifier = str(path.with_name(model))
    return main(["predict", str(path), "--classifier", classifier, "--save", "phage", *arguments])


def in_tables(path: Path, sample: str) -> list[float]:
    table = pandas.read_csv(
        path.with_name(path.name + ".predictions") / sample / "prediction_results.txt", sep="\t"
    )
    return table.score2.astype("f4").tolist()


def test_saved_scores_are_obs_columns_and_survive_appends(path: Path) -> None:
    assert predict(path) == 0
    store = open_store(path)
    wanted = in_tables(path, "first") + in_tables(path, "second")
    assert store.scores("phage")[:, 1].tolist() == wanted
    append(store, "third", 20)
    assert np.isnan(store.scores("phage")[100:]).all()
    for start, stop in [(0, 0), (3, 70), (95, 110), (105, None), (119, 500)]:
        np.testing.assert_array_equal(
            store.scores("phage", start, stop), store.scores("phage")[start:stop]
        )
    rows = np.array([110, 4, 4, 99])
    np.testing.assert_array_equal(take_scores(store, "phage", rows), store.scores("phage")[rows])
    assert store.scores("phage")[:100, 1].tolist() == wanted
    obs = anndata.read_zarr(path).obs
    assert obs.phage_score2[:100].tolist() == wanted
    assert obs.phage_score1[100:].isna().all()
    assert not [found for found in verify_store(store) if found.is_damage]
    assert predict(path, "--sample", "third") == 3, "nothing of it is certified yet"
    for model in MODELS:
        for block in store.open_blocks(model.name).tolist():
            fill(store, model.name, block)
    assert predict(path, "--sample", "third") == 0
    store.refresh()
    assert store.scores("phage")[:, 1].tolist() == wanted + in_tables(path, "third")


def test_scores_of_another_classifier_are_replaced_only_when_asked(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(path) == 0
    before = open_store(path).scores("phage")
    capsys.readouterr()
    assert predict(path, model="other.pth") == 2
    assert "of another classifier" in capsys.readouterr().err
    np.testing.assert_array_equal(open_store(path).scores("phage"), before)
    assert predict(path, "--replace", "--sample", "second", model="other.pth") == 0
    after = open_store(path).scores("phage")
    assert np.isnan(after[:67]).all(), "none of the old classifier's is left"
    assert not np.isnan(after[67:]).any()
    bad = ["predict", str(path), "--classifier", str(path.with_name("m.pth"))]
    assert main([*bad, "--save", "a/b"]) == 2
    with pytest.raises(UsageError, match="no scores 'x'"):
        open_store(path).scores("x")


def test_a_store_killed_at_any_write_is_whole_and_the_next_save_repairs_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    writers = {name: getattr(transaction, name) for name in ("publish_replace", "write_staged")}
    for kill_at in range(7):  # two chunks, three zarr.json, the mark of a commit, and the root
        done = 0

        def count(name: str, *arguments: object, kill_at: int = kill_at) -> None:
            nonlocal done
            if done == kill_at:
                raise Killed
            done += 1
            writers[name](*arguments)

        for name in writers:
            monkeypatch.setattr(transaction, name, partial(count, name))
        with pytest.raises(Killed):
            predict(path)
        monkeypatch.undo()
        store = open_store(path)
        assert store.schema.scores == ()
        assert not [found for found in verify_store(store) if found.is_damage]
    assert predict(path) == 0
    store = open_store(path)
    assert list(verify_store(store)) == []


def test_lost_and_flipped_scores_are_named_and_saving_again_repairs_them(path: Path) -> None:
    assert predict(path) == 0
    wanted = open_store(path).scores("phage")
    chunk = path / "obs/phage_score2/c.0"
    raw = bytearray(chunk.read_bytes())
    for content in (None, bytes(raw[:-1]), bytes([raw[0] ^ 1, *raw[1:]])):
        if content is None:
            chunk.unlink()
        else:
            chunk.write_bytes(content)
        store = open_store(path)
        found = [finding.path for finding in verify_store(store) if finding.is_damage]
        assert found == ["obs/phage_score2/c.0"]
        repair(store, verify_store(store))
        assert predict(path) == 0
        np.testing.assert_array_equal(open_store(path).scores("phage"), wanted)
        assert list(verify_store(open_store(path))) == []


def test_an_hdf5_store_keeps_scores_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.h5"
    filled_store(path)
    publish(tmp_path / "m.pth", INPUTS)
    publish(tmp_path / "other.pth", INPUTS, seed=1)
    assert predict(path) == 0
    store = open_store(path)
    wanted = in_tables(path, "first") + in_tables(path, "second")
    assert store.scores("phage")[:, 1].tolist() == wanted
    append(store, "third", 20)
    append(store, "fourth", 70)
    assert store.scores("phage")[:100, 1].tolist() == wanted
    assert np.isnan(store.scores("phage")[100:]).all()
    obs = anndata.read_h5ad(path).obs
    assert obs.phage_score2[:100].tolist() == wanted
    assert obs.phage_score1[100:].isna().all()
    assert store.to_pandas().phage_score2[:100].tolist() == wanted
    assert not [found for found in verify_store(store) if found.is_damage]
    for model in MODELS:
        for block in store.open_blocks(model.name).tolist():
            fill(store, model.name, block)
    assert predict(path, "--sample", "third") == 0
    store.refresh()
    assert store.scores("phage")[:120, 1].tolist() == wanted + in_tables(path, "third")
    assert np.isnan(store.scores("phage")[120:]).all()
    capsys.readouterr()
    assert predict(path, model="other.pth") == 2
    assert "of another classifier" in capsys.readouterr().err
    assert predict(path, "--replace", "--sample", "second", model="other.pth") == 0
    after = open_store(path).scores("phage")
    assert np.isnan(after[:67]).all(), "none of the old classifier's is left"
    assert not np.isnan(after[67:100]).any()

    with pytest.raises(UsageError, match="no scores 'x'"):
        open_store(path).scores("x")
    for target in ("copy.zarr", "back.h5"):
        assert main(["convert", str(path), str(tmp_path / target)]) in (0, 3)
        path = tmp_path / target
        np.testing.assert_array_equal(open_store(path).scores("phage"), after)
        assert not [found for found in verify_store(open_store(path)) if found.is_damage]
