"""VirNucPro's files brought into a store and compared with it; what is misaligned is refused."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vnp
from store.errors import DataError, UsageError
from store.open import create_store, open_store
from store.schema import Model
from store.store import Store
from tests.rows import HeldClaim
from vnp.cli.main import main
from vnp.exchange.compare import compare
from vnp.exchange.export import export_store
from vnp.exchange.import_results import import_files
from vnp.exchange.virnucpro_files import ResultFileError, read_results
from vnp.sequence.append import append_file

pytestmark = pytest.mark.slow

MODELS = (Model("demo_dnabert_s", 6), Model("demo_esm2", 5))
DNA, PROTEIN = (model.name for model in MODELS)


def fasta(path: Path, contigs: int, *, seed: int = 0) -> Path:
    """Contigs of one window with a few stop-free frames each."""
    rng = np.random.default_rng(seed)
    codons = [a + b + c for a in "ACG" for b in "ACG" for c in "ACGT"]
    text = [f">c{n}\n{''.join(rng.choice(codons, 20))}\n" for n in range(contigs)]
    path.write_text("".join(text))
    return path


def new_store(path: Path, *, block_rows: int = 8) -> Store:
    return create_store(path, models=MODELS, segment_length=500, block_rows=block_rows)


class Case:
    """A FASTA, its record ids and made-up results for them."""

    def __init__(self, folder: Path, contigs: int = 9) -> None:
        self.folder = folder
        self.fasta = fasta(folder / "s.fa", contigs)
        probe = new_store(folder / "probe.zarr")
        append_file(probe, str(self.fasta))
        probe.refresh()
        self.ids: list[str] = probe.column("id").decode()  # type: ignore[union-attr]
        rng = np.random.default_rng(1)
        self.dna = rng.normal(size=(len(self.ids), 6)).astype("f4")
        self.protein = rng.normal(size=(len(self.ids), 5)).astype("f4")

    def save(self, name: str, content: object) -> Path:
        torch.save(content, self.folder / name)
        return self.folder / name

    def dnabert(self, rows: slice = slice(None), name: str = "s_DNABERT_S.pt") -> Path:
        data = [
            {"label": label, "mean_representation": row.tolist()}
            for label, row in zip(self.ids[rows], self.dna[rows], strict=True)
        ]
        return self.save(name, {"nucleotide": self.ids[rows], "data": data})

    def esm(self, rows: slice = slice(None), name: str = "s_ESM.pt") -> Path:
        data = [torch.tensor(row) for row in self.protein[rows]]
        return self.save(name, {"proteins": self.ids[rows], "data": data})

    def merged(self, rows: slice = slice(None), name: str = "s_merged.pt") -> Path:
        both = np.concatenate([self.dna, self.protein], axis=1)[rows]
        return self.save(
            name, {"ids": self.ids[rows], "data": torch.tensor(both), "labels": [1] * len(both)}
        )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    case = Case(tmp_path_factory.mktemp("results"))
    assert len(case.ids) > 20
    return case


def check(store: Store, case: Case, rows: slice = slice(None)) -> None:
    store = open_store(store.path)
    np.testing.assert_array_equal(store.read(DNA)[rows], case.dna[rows].astype("f2"))
    np.testing.assert_array_equal(store.read(PROTEIN)[rows], case.protein[rows].astype("f2"))
    assert list(store.verify()) == []


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
@pytest.mark.parametrize("kinds", ["parts", "merged", "all", "pieces"])
def test_results_become_a_store(case: Case, tmp_path: Path, kinds: str, suffix: str) -> None:
    files = {
        "parts": lambda: [case.esm(), case.dnabert()],
        "merged": lambda: [case.merged()],
        "all": lambda: [case.merged(), case.dnabert(), case.esm()],
        "pieces": lambda: [
            case.merged(slice(None, None, 2), "even_merged.pt"),
            case.merged(slice(1, None, 2), "odd_merged.pt"),
        ],
    }[kinds]()
    store = new_store(tmp_path / f"run{suffix}")
    report = import_files(store, files, fasta=str(case.fasta))
    assert report.complete
    assert report.matched == {DNA: len(case.ids), PROTEIN: len(case.ids)}
    check(store, case)
    certificate = open_store(store.path).certificate(DNA, 0)
    assert certificate is not None
    assert set(certificate.details["imported"]) == {path.name for path in files}
    assert store.certify(DNA).complete
    assert list(store.sidecar.tmp.iterdir()) == []


def test_what_the_files_lack_stays_open_and_a_second_import_fills_it(
    case: Case, tmp_path: Path
) -> None:
    store = new_store(tmp_path / "run.zarr")
    half = case.dnabert(slice(0, 12), "half_DNABERT_S.pt")
    report = import_files(store, [half, case.esm()], fasta=str(case.fasta))
    assert not report.complete
    assert report.matched[DNA] == 12
    assert report.certified[DNA] == 8, "a block that is known in part stays open"
    again = import_files(store, [case.dnabert()], fasta=str(case.fasta))
    assert (again.appended, again.complete) == (False, True)
    check(store, case)


def test_a_block_shared_with_another_sample_is_completed(case: Case, tmp_path: Path) -> None:
    store = new_store(tmp_path / "run.zarr", block_rows=1000)
    import_files(store, [case.merged()], fasta=str(case.fasta))
    other = Case(tmp_path, 4)
    other.fasta = fasta(tmp_path / "t.fa", 4, seed=9)
    probe = new_store(tmp_path / "p2.zarr")
    append_file(probe, str(other.fasta))
    other.ids = open_store(probe.path).column("id").decode()  # type: ignore[union-attr]
    other.dna = np.ones((len(other.ids), 6), "f4")
    other.protein = np.full((len(other.ids), 5), 2, "f4")
    report = import_files(store, [other.merged()], fasta=str(other.fasta))
    assert report.complete
    check(store, case, slice(0, len(case.ids)))


def refused(tmp_path: Path, case: Case, path: Path, words: str) -> None:
    store = new_store(tmp_path / "run.zarr")
    with pytest.raises(DataError, match=words) as error:
        import_files(store, [path], fasta=str(case.fasta))
    assert path.name in str(error.value)
    store.refresh()
    assert not any(store.rows_filled(model.name).any() for model in MODELS)


def _shift_labels(case: Case) -> object:
    content = torch.load(case.dnabert(), weights_only=True)
    content["data"] = content["data"][1:] + content["data"][:1]
    return content


def _not_finite(case: Case) -> object:
    values = torch.tensor(np.concatenate([case.dna, case.protein], axis=1))
    values[3, 2] = float("nan")
    return {"ids": case.ids, "data": values}


BAD: dict[str, tuple[Callable[[Case], object], str]] = {
    "merge": (
        lambda c: {"ids": c.ids, "data": torch.zeros(len(c.ids) - 2, 11)},
        "come apart and no row can be trusted",
    ),
    "short": (lambda c: {"proteins": c.ids, "data": [torch.zeros(5)]}, "incomplete"),
    "empty": (lambda c: {"ids": [], "data": torch.zeros(0, 11)}, "no record at all"),
    "shifted": (_shift_labels, "row 1 is labelled .* come apart"),
    "twice": (
        lambda c: {"ids": [*c.ids[:-1], c.ids[0]], "data": torch.zeros(len(c.ids), 11)},
        r"rows 1 and \d+ are both called",
    ),
    "nan": (_not_finite, "hold NaN .* first is row 4"),
    "width": (lambda c: {"ids": c.ids, "data": torch.zeros(len(c.ids), 9)}, "other models"),
    "ragged": (
        lambda c: {"proteins": c.ids[:2], "data": [torch.zeros(5), torch.zeros(4)]},
        "row 2 .* not a row of 5",
    ),
    "strange": (
        lambda c: {"ids": ["x_chunk_1F1"], "data": torch.zeros(1, 11)},
        "1 of 1 id are not records of sample s .* first is x_chunk_1F1 in row 1",
    ),
    "large": (
        lambda c: {"ids": c.ids[:1], "data": torch.full((1, 11), 1e5)},
        "beyond float16",
    ),
    "keys": (lambda c: {"x": 1}, "its keys are x"),
    "list": (lambda c: [1, 2], "holds a list"),
    "data": (lambda c: {"ids": c.ids, "data": 3}, "neither a list of rows nor a tensor, but a int"),
    "tensor": (lambda c: {"ids": c.ids, "data": [torch.zeros(11)] * len(c.ids)}, "not a tensor"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_files_that_cannot_be_trusted_are_refused(case: Case, tmp_path: Path, name: str) -> None:
    make, words = BAD[name]
    refused(tmp_path, case, case.save(f"bad_{name}.pt", make(case)), words)


def test_files_that_contradict_each_other_are_refused(case: Case, tmp_path: Path) -> None:
    content: Any = torch.load(case.merged(), weights_only=True)
    content["data"] = content["data"].roll(1, 0)
    rolled = case.save("rolled_merged.pt", content)
    store = new_store(tmp_path / "run.zarr")
    with pytest.raises(
        ResultFileError, match="rolled_merged.pt: .*first is row 1 .* different runs"
    ):
        import_files(store, [case.dnabert(), rolled], fasta=str(case.fasta))


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain", "compressed"])
def test_hostile_files_are_refused_and_not_executed(tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "executed", tmp_path / "x_merged.pt"
    content = {"ids": ["a"], "data": Hostile(mark)}
    if form == "plain":
        path.write_bytes(pickle.dumps(content))
    elif form == "compressed":
        import zipfile

        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"x" * 1000)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ResultFileError, match=r"x_merged\.pt"):
        read_results(path)
    assert not mark.exists()


def test_damaged_and_missing_files_are_named(case: Case, tmp_path: Path) -> None:
    whole = case.merged().read_bytes()
    path = tmp_path / "cut_merged.pt"
    for content in (b"", whole[:200], whole[:-300], b"text"):
        path.write_bytes(content)
        with pytest.raises(ResultFileError, match="cut_merged"):
            read_results(path)
    with pytest.raises(ResultFileError, match=r"none\.pt does not exist"):
        read_results(tmp_path / "none.pt")


def test_old_files_of_torch_are_read(case: Case, tmp_path: Path) -> None:
    content = {"ids": case.ids[:3], "data": torch.arange(33.0).reshape(3, 11)}
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read_results(tmp_path / "old.pt").values, content["data"])


# -- compare ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = new_store(tmp_path_factory.mktemp("filled") / "run.zarr")
    import_files(store, [case.merged()], fasta=str(case.fasta))
    return open_store(store.path)


def test_compare_with_the_files_it_was_made_from(case: Case, filled: Store) -> None:
    for files in ([case.merged()], [case.dnabert(), case.esm()]):
        results = compare(filled, files).models
        assert [result.model for result in results] == [DNA, PROTEIN]
        for result in results:
            assert result.rows == len(case.ids)
            assert result.lowest > 0.999999
            assert 0 < result.difference < 2e-3
            assert (result.only_here, result.only_there) == (0, 0)
            assert len(result.worst) == 5
    part = compare(filled, [case.dnabert(slice(5), "five.pt")], worst=2).models
    assert (part[0].rows, part[0].only_here) == (5, len(case.ids) - 5)


def test_equal_rows_are_not_the_worst(filled: Store, tmp_path: Path) -> None:
    for result in compare(filled, [filled.path]).models:
        assert (result.lowest, result.difference, result.worst) == (pytest.approx(1), 0, ())
    vnp.export(filled, tmp_path / "same.pt")
    for result in compare(filled, [tmp_path / "same.pt"], models=[PROTEIN]).models:
        assert result.worst == ()


def test_compare_names_the_rows_that_differ(case: Case, filled: Store) -> None:
    content: Any = torch.load(case.merged(), weights_only=True)
    content["data"][7, :6] *= -1
    (dna, protein) = compare(filled, [case.save("neg_merged.pt", content)], worst=1).models
    assert dna.lowest == pytest.approx(-1, abs=1e-6)
    assert dna.worst[0].id == case.ids[7]
    assert (dna.worst[0].row, dna.worst[0].sample) == (7, "s")
    assert dna.difference == pytest.approx(2 * np.abs(case.dna[7]).max(), rel=1e-3)
    assert dna.median > 0.999999
    assert protein.lowest > 0.999999


def test_compare_stores_by_sample_and_id(case: Case, filled: Store, tmp_path: Path) -> None:
    other = new_store(tmp_path / "other.h5", block_rows=5)
    append_file(other, str(fasta(tmp_path / "first.fa", 3, seed=4)))
    import_files(
        other, [case.dnabert(), case.esm(slice(9), "nine.pt")], fasta=str(case.fasta),
        sample="renamed",
    )  # fmt: skip
    found = compare(filled, [other.path])
    assert (found.samples_only_here, found.samples_only_there) == ((), ("first",))
    dna, protein = found.models
    assert dna.lowest == pytest.approx(1, abs=1e-7)
    assert dna.difference == 0
    assert dna.rows + dna.only_here == len(case.ids)
    assert 0 < protein.rows <= 9
    assert protein.only_here == len(case.ids) - protein.rows
    with pytest.raises(UsageError, match="no sample"):
        compare(filled, [other.path], sample="x")


def test_a_sample_that_one_store_has_alone_is_counted_and_fails_a_bound(
    case: Case, filled: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = new_store(tmp_path / "more.zarr")
    import_files(more, [case.merged()], fasta=str(case.fasta))
    alone = tmp_path / "alone.fa"
    alone.write_text(case.fasta.read_text().replace(">", ">x"))
    bound = ["--min-cosine", "0.9", "--json"]
    assert main(["compare", str(filled.path), str(more.path), *bound]) == 0
    append_file(more, str(alone))
    fill(open_store(more.path))
    for left, right, side in ((filled, more, "there"), (more, filled, "here")):
        capsys.readouterr()
        assert main(["compare", str(left.path), str(right.path), *bound]) == 1
        found = json.loads(capsys.readouterr().out)
        assert found[f"samples_only_{side}"] == ["alone"]
        assert [model[f"only_{side}"] for model in found["models"]] == [len(case.ids)] * 2
        assert found["below"] == []


def fill(store: Store) -> None:
    """Publish something for every open block."""
    for model in store.schema.models:
        for block in store.open_blocks(model.name).tolist():
            start, stop = store.block_bounds(block)
            values = np.nan_to_num(store.read(model.name, start, stop), nan=1)
            store.publish(HeldClaim(model.name, block, epoch=9), values)


def test_comparisons_that_cannot_be(case: Case, filled: Store, tmp_path: Path) -> None:
    empty = new_store(tmp_path / "empty.zarr")
    with pytest.raises(DataError, match="no sample in common"):
        compare(filled, [empty.path])
    append_file(empty, str(case.fasta))
    with pytest.raises(DataError, match="no row that both"):
        compare(filled, [empty.path])
    changed = new_store(tmp_path / "changed.zarr")
    append_file(changed, str(fasta(tmp_path / "s.fa", 9, seed=7)))
    with pytest.raises(DataError, match="not hold the same records"):
        compare(filled, [changed.path])
    append_file(changed, str(fasta(tmp_path / "t.fa", 2, seed=8)))
    with pytest.raises(UsageError, match="--sample"):
        compare(open_store(changed.path), [case.merged()])
    with pytest.raises(UsageError, match="several stores"):
        compare(filled, [empty.path, changed.path])
    with pytest.raises(DataError, match=f"no embeddings of {PROTEIN}"):
        compare(filled, [case.dnabert()], models=[PROTEIN])


def test_the_command_line(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = new_store(tmp_path / "run.zarr")
    files = [str(case.dnabert()), str(case.esm())]
    arguments = ["import", str(store.path), *files, "--fasta", str(case.fasta)]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is True
    assert main(arguments) == 0
    assert "in the store already" in capsys.readouterr().out
    export = tmp_path / "again.pt"
    assert main(["export", str(store.path), "--to", str(export)]) == 0
    assert main(["compare", str(store.path), str(export), "--min-cosine", "0.9999999"]) == 0
    assert "lowest cosine 1.000000" in capsys.readouterr().out
    content: Any = torch.load(export, weights_only=True)
    content["data"][2] += 1
    torch.save(content, export)
    assert main(["compare", str(store.path), str(export), "--min-cosine", "0.999"]) == 1
    assert f"row 2 (s, {case.ids[2]})" in capsys.readouterr().out
    assert main(["compare", str(store.path), str(export), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["below"] == []


def test_what_is_exported_is_imported_again(case: Case, filled: Store, tmp_path: Path) -> None:
    files = []
    for layout in ("DNABERT_S", "ESM", "merged"):
        files.append(tmp_path / f"x_{layout}.pt")
        export_store(filled, files[-1], layout=layout)  # type: ignore[arg-type]
    store = new_store(tmp_path / "run.zarr")
    assert import_files(store, files, fasta=str(case.fasta)).complete
    check(store, case)
