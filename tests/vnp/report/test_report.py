"""The report: what it collects, and the one file that holds all of it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import sys
from dataclasses import replace
from datetime import datetime
from importlib.machinery import ModuleSpec
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import vnp.report.collect as collect_module
from store.io.ragged import from_items
from store.open import create_store
from store.read.first_rows import FirstRows
from store.read.sample import evenly
from store.schema import Model
from store.store import Store
from tests import rows
from tests.vnp.report.packing import part_of, unpacked
from vnp.classify.files import Card, save_classifier
from vnp.classify.mlp import Mlp
from vnp.cli.main import main
from vnp.models.registry import MODELS, RECIPES
from vnp.report import multiqc, projection
from vnp.report.binning import filled_before, length_histogram, shares, timeline
from vnp.report.calls import classifier_scores, saved_scores
from vnp.report.collect import collect
from vnp.report.data import MOST_TIME_BINS, ReportData
from vnp.report.overview import overview
from vnp.report.packed import parts
from vnp.report.page import LIBRARIES, page
from vnp.report.projection import choose_rows, principal_components

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>\"'&amp;<img/src=//evil.example/x>"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two samples, every block filled; contigs of hostile names."""
    opened = rows.create_store(
        tmp_path / "run.zarr", models=rows.MODELS, segment_length=500, block_rows=16
    )
    for name, count in (("first", 70), ("second", 30)):
        with opened.appending() as append:
            batch = rows.batch(name, 0, count)
            contig = [f"{HOSTILE}{number // 5}".encode() for number in range(count)]
            segment = (np.arange(count) % 5 + 1).astype(np.int32)
            append.write(replace(batch, contig=from_items(contig), segment=segment))
            rows.commit(append, name, count)
    for model in rows.MODELS:
        for block in range(opened.n_blocks):
            rows.publish(opened, model.name, block)
    return opened


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / f"{HOSTILE.replace('/', '_')}.safetensors"
    module = Mlp(28).eval()
    with torch.no_grad():
        module.output_layer.weight *= 0.02
        module.output_layer.bias.copy_(torch.tensor([0.0, 0.5]))  # mostly virus
    save_classifier(module, Card(28, 512, ""), path)
    return path


@pytest.fixture
def data(store: Store, classifier: Path) -> ReportData:
    scores = classifier_scores(store, classifier, device="cpu")
    return collect(store, title=HOSTILE, scores=scores, umap=False)


def test_the_overview_warns_of_demo_models_and_names_the_classifier(
    tmp_path: Path, data: ReportData
) -> None:
    shown = overview(data)
    assert shown["warning"] == ""
    assert data.calls is not None
    classifier = shown["classifier"]
    assert (classifier["digest"], classifier["records"]) == (data.calls.digest, 100)
    assert classifier["file"].startswith("<script>alert(1)<_script>")
    assert classifier["date_of"] == "file last changed"
    assert datetime.fromisoformat(classifier["date"]).tzinfo is not None
    demo = create_store(
        tmp_path / "demo.zarr",
        models=[Model(name, MODELS[name].dim) for name in RECIPES["demo"]],
        segment_length=500,
    )
    warning = overview(collect(demo, umap=False))["warning"]
    assert "demo_dnabert_s and demo_esm2 are demo models with random weights" in warning
    assert warning.endswith("mean nothing")


def test_the_file_has_no_markup_but_its_own(data: ReportData) -> None:
    text = page(data.title, warning=HOSTILE, parts=parts(data))
    assert HOSTILE not in text
    assert "<script>alert" not in text
    assert html.escape(HOSTILE, quote=True) in text
    # Everything is inside: scripts without an address, one style, nothing to load.
    tags = re.findall(r"<(\w+)([^>]*)>", re.sub(r"(?s)<(script|style)>.*?</\1>", "", text))
    assert {name for name, _ in tags} <= {
        "html", "head", "meta", "title", "link", "body", "p", "div", "noscript", "h1", "strong",
        "script",
    }  # fmt: skip
    assert not [each for _, each in tags if " src=" in each or " on" in each]
    assert re.findall(r' href="([^"]*)"', text) == ["data:,"]
    for script in re.findall(r"(?s)<script>(.*?)</script>", text):
        assert "<!--" not in script
        assert "import(" not in script
    for content in multiqc.texts(data, beside=Path("r.html")).values():
        assert "<script" not in content


def test_the_policy_has_the_hash_of_every_script_and_style(data: ReportData) -> None:
    text = page("x", parts=parts(data))
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    for name in ("script", "style"):
        for inside in re.findall(rf"(?s)<{name}>(.*?)</{name}>", text):
            digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy


def test_the_libraries_are_those_that_are_pinned() -> None:
    folder = files("vnp.report") / "vendor"
    packages = json.loads((folder / "vendor.json").read_text())
    found = {name for package in packages for name in package["files"]}
    assert {path.name for path in folder.iterdir()} == found | {"vendor.json"}
    assert {name for name in found if name.endswith(".js")} == set(LIBRARIES)
    for package in packages:
        assert package["licence"] in ("ISC", "MIT")
        assert any(name.startswith("LICENSE-") for name in package["files"])
        for name, known in package["files"].items():
            content = (folder / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == known["sha256"]


def test_counts_are_those_of_the_store(data: ReportData, store: Store) -> None:
    assert [row.records for row in data.samples] == [70, 30]
    assert [row.certified for row in data.samples] == [70, 30]
    assert data.total.records == data.rows == 100
    assert data.calls is not None
    assert data.calls.records == 100
    assert sum(counts.total for counts in data.calls.histograms) == data.total.called_segments
    assert data.total.called_contigs == 14 + 6
    assert data.distributions is not None
    assert sum(data.distributions.frames.values()) == 100
    assert data.work.certificates == data.work.of == 2 * store.n_blocks
    assert data.work.workers[0].records == 200


def test_what_is_not_filled_is_counted(store: Store) -> None:
    store.reopen("wide", 1)
    data = collect(store, umap=False)
    assert not data.complete
    assert [row.certified for row in data.samples] == [54, 30]
    store_json = overview(data)["store"]
    assert (store_json["complete"], store_json["left"]) == (False, 16)
    assert data.sampled is not None
    assert data.sampled.of == 84


def test_empty_stores_have_a_page(tmp_path: Path) -> None:
    opened = rows.create_store(
        tmp_path / "empty.zarr", models=rows.MODELS, segment_length=0, block_rows=16
    )
    data = collect(opened)
    shown = overview(data)
    assert (shown["store"]["rows"], shown["store"]["segments"]) == (0, "whole contigs")
    assert shown["work"]["timeline"] is None
    held = parts(data)
    assert unpacked(held["map"]) is None
    assert unpacked(held["contigs"])["of"] == 0


def test_a_genetic_code_other_than_the_standard_one_is_told(tmp_path: Path) -> None:
    for code, said in ((1, "500 bp segments"), (4, "500 bp segments (genetic code 4)")):
        opened = rows.create_store(
            tmp_path / f"{code}.zarr", models=rows.MODELS, segment_length=500, genetic_code=code
        )
        assert overview(collect(opened))["store"]["segments"] == said


def test_many_samples_are_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect_module, "MOST_SAMPLES", 8)
    opened = rows.create_store(
        tmp_path / "run.zarr", models=rows.MODELS, segment_length=500, block_rows=64
    )
    for number in range(8 + 5):
        rows.append(opened, f"s{number}", number % 7)
    data = collect(opened, umap=False)
    assert len(data.samples) == 8 - 1
    assert data.rest is not None
    assert data.rest.name == "6 more"
    assert sum(row.records for row in data.samples) + data.rest.records == opened.n_rows


def test_the_command_writes_the_page_and_multiqc(
    store: Store, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "report.html"
    arguments = ["report", store.path, "-o", output, "--classifier", classifier, "--no-umap"]
    regions = tmp_path / "planted.bed"
    regions.write_text(f"{HOSTILE}0\t500\t700\tplanted\n")
    arguments += ["--regions", regions]
    assert main([*map(str, arguments), "--multiqc", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    custom = [output.with_name(f"report_{name}_mqc.json") for name in ("samples", "scores")]
    assert set(files) == {str(output), *map(str, custom)}
    for path in custom:
        assert path.name.endswith("_mqc.json")
        content = json.loads(path.read_text())
        assert {"id", "section_name", "plot_type", "pconfig", "data"} <= content.keys()
        assert re.fullmatch(r"\w+", content["id"])
        assert set(content["data"][0]) == {"first", "second"}
    tracks = part_of(output.read_text(), "tracks")
    shown = [each for found in tracks["regions"].values() for each in found]
    given = {"start": 500, "end": 700, "name": "planted", "given": True}
    assert [each for each in shown if each["given"]] == [given] * 2  # of a contig in each sample
    bases = store.column("contig_length").max()
    lines = (f"{HOSTILE}0\t9\t99999999\tbig", f"{HOSTILE}0\t{bases}\t99999999", "none\t1\t2")
    regions.write_text("\n".join(lines))
    assert main([*map(str, arguments), "--force"]) == 0
    told = capsys.readouterr().err
    assert f"left out 2 regions (the first: {regions}, line 2): of no contig with a track" in told
    assert f"cut 1 region ({regions}, line 1) at the contig's end\n" in told
    tracks = part_of(output.read_text(), "tracks")
    shown = [each for found in tracks["regions"].values() for each in found if each["given"]]
    assert [each["start"] for each in shown] == [9] * 2
    assert max(each["end"] for each in shown) <= bases
    regions.write_text("c1\tx\t900\n")
    assert main([*map(str, arguments), "--force"]) == 1
    assert "planted.bed, line 1: a contig, a start and an end" in capsys.readouterr().err


@pytest.mark.parametrize("installed", [True, False])
def test_a_weak_picture_says_how_weak_it_is(
    monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr(projection, "is_installed", lambda _: installed)
    told = {}
    for share in (0.3, 0.04, 27.5, 50):
        parts = np.array([share / 100, 0.0])
        monkeypatch.setattr(projection, "principal_components", lambda x, _, p=parts: (x, p))
        made = projection.project(np.eye(4, 2), umap=False)
        assert made is not None
        told[share] = made.note
    lost = "of what tells records apart is not on it."
    assert f"keep 0.3 % of the variance: a weak picture, more than 99 % {lost}" in told[0.3]
    assert "keep less than 0.1 % of the variance" in told[0.04]
    assert f"keep 27.5 % of the variance: a weak picture, 72 % {lost}" in told[27.5]
    assert told[50] == "Two principal components keep 50.0 % of the variance."
    # Who has UMAP and left it out need not install it.
    assert ("pip install" in told[27.5]) is not installed


def test_the_map_by_umap_is_never_silent_and_leaves_json_alone(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Reducer:
        def __init__(self, **_: object) -> None: ...

        def fit_transform(self, scores: np.ndarray) -> np.ndarray:
            return scores[:, :2]

    umap = ModuleType("umap")  # the real one is compiled for half a minute
    monkeypatch.setattr(umap, "UMAP", Reducer, raising=False)
    umap.__spec__ = ModuleSpec("umap", None)
    monkeypatch.setitem(sys.modules, "umap", umap)
    words = ["report", str(store.path), "--json"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert len(json.loads(told.out)["files"]) == 1
    assert "report: map of 100 records by UMAP: begun\n" in told.err
    assert re.search(r"report: map of 100 records by UMAP: \d+\.\d s\n", told.err)
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_saved_scores_make_the_same_page(
    store: Store, classifier: Path, data: ReportData, capsys: pytest.CaptureFixture[str]
) -> None:
    assert saved_scores(store) is None
    arguments = ["predict", store.path, "--classifier", classifier, "--save", "kept"]
    assert main([*map(str, arguments), "--device", "cpu"]) == 0
    store.refresh()
    found = collect(store, scores=saved_scores(store), umap=False)
    assert found.calls is not None
    assert data.calls is not None
    assert (found.calls.kept, found.calls.file) == ("kept", "")
    assert found.total == data.total
    assert found.listed is not None
    assert data.listed is not None
    assert found.listed.names == data.listed.names
    for one, two in zip(found.listed.tracks, data.listed.tracks, strict=True):
        np.testing.assert_allclose(one.consensus, two.consensus, atol=1e-5)
    assert main(["report", str(store.path), "--scores", "none", "--no-umap"]) == 2
    assert "no scores 'none'" in capsys.readouterr().err


def test_principal_components_are_those_of_a_decomposition() -> None:
    generator = np.random.default_rng(1)
    x = generator.standard_normal((300, 60)) * np.geomspace(9, 0.1, 60)
    x -= x.mean(axis=0)
    scores, share = principal_components(x, 4)
    left, sizes, _ = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(np.abs(scores), np.abs(left[:, :4] * sizes[:4]), atol=2e-3)
    np.testing.assert_allclose(share, sizes[:4] ** 2 / (sizes**2).sum(), rtol=1e-4)


def test_chosen_rows_are_certified_bounded_and_of_every_sample() -> None:
    certified = FirstRows(np.where(np.arange(100) == 1, 0, 100), block_rows=100)
    filled = certified.mask(0, 10_000)
    edges = np.array([0, 50, 9_000, 10_000])
    chosen = choose_rows(certified, edges, most=300)
    assert len(chosen) == 300
    assert filled[chosen].all()
    assert np.histogram(chosen, edges)[0].tolist() == [50, 125, 125]
    np.testing.assert_array_equal(chosen, choose_rows(certified, edges, most=300))


def test_binning() -> None:
    assert evenly(10, 20).tolist() == list(range(10))
    assert (evenly(1000, 5)[[0, -1]] == [0, 999]).all()
    assert shares(np.array([4, 2, 0]), np.array([4, 4, 1]), 9).tolist() == [1, 0.5, 0]
    assert filled_before(np.array([0, 3, 4, 7, 9]), np.array([2, 4, 1]), 4).tolist() == [
        0, 2, 2, 5, 7
    ]  # fmt: skip
    lengths = np.array([3, 500, 120, 120])
    counted = length_histogram(lengths, 40)
    assert counted.total == 4
    assert len(counted.counts) <= 40


def test_the_timeline_keeps_every_record_and_cuts_pauses() -> None:
    begin = np.array([0.0, 10, 20, 100_000, 100_010])
    end = begin + 10
    records = np.array([100.0, 50, 100, 10, 10])
    found = timeline(begin, end, records, np.array([0, 1, 0, 1, 1]), groups=("a", "b"))
    assert found is not None
    assert len(found.stretches) == 2
    assert len(found.seconds) <= MOST_TIME_BINS
    np.testing.assert_allclose(found.records.sum(axis=1), [200, 70])
    assert found.seconds.sum() == pytest.approx(50)
    assert timeline(*[np.empty(0)] * 3, np.empty(0, int), groups=()) is None
