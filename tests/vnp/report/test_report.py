"""The report: its page is one whole file, bounded, escaped, and opens in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import vnp.report.collect as collect_module
from store.io.ragged import from_items
from store.open import create_store
from store.read.sample import evenly
from store.schema import Model
from store.store import Store
from tests import rows
from vnp.classify.files import Card, save_classifier
from vnp.classify.mlp import Mlp
from vnp.cli.main import main
from vnp.models.registry import MODELS, RECIPES
from vnp.report import multiqc
from vnp.report.binning import filled_before, length_histogram, shares, timeline
from vnp.report.calls import classifier_scores, saved_scores
from vnp.report.charts import percent, short
from vnp.report.collect import collect
from vnp.report.data import MOST_CELLS, MOST_SAMPLES, MOST_TIME_BINS, ReportData
from vnp.report.markup import Markup, clipped, escaped, tag
from vnp.report.page import page
from vnp.report.projection import choose_rows, principal_components

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>\"'&amp;<img/src=//evil.example/x>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


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


class _Elements(HTMLParser):
    """Collects elements and attributes, and checks that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.names.add(name)
        self.attributes |= {key for key, _ in attributes}
        if name != "meta":
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.names.add(name)
        self.attributes |= {key for key, _ in attributes}

    def handle_endtag(self, name):
        assert self.open.pop() == name


def test_the_page_warns_of_demo_models_and_names_the_classifier(
    tmp_path: Path, data: ReportData
) -> None:
    text = page(data)
    assert "Warning" not in text
    assert data.calls is not None
    assert f"(weights {data.calls.digest[:19]})" in text
    demo = create_store(
        tmp_path / "demo.zarr",
        models=[Model(name, MODELS[name].dim) for name in RECIPES["demo"]],
        segment_length=500,
    )
    text = page(collect(demo, umap=False))
    [warning] = re.findall(r'<p class="warning" role="alert">(.*?)</p>', text)
    assert "demo_dnabert_s and demo_esm2 are demo models with random weights" in warning
    assert warning.endswith("mean nothing.")


def test_the_page_is_whole_and_nothing_of_it_is_elsewhere(data: ReportData) -> None:
    text = page(data)
    elements = _Elements(text)
    assert elements.names.isdisjoint({"script", "img", "link", "iframe", "object", "image", "a"})
    assert not {name for name in elements.attributes if name.startswith("on")}
    assert elements.attributes.isdisjoint({"src", "href", "srcset", "data"})
    assert "url(" not in text
    assert "@import" not in text
    for title in ("Samples", "Scores", "Most viral contigs", "Embedding space", "Fill map", "Work"):
        assert f"<h2>{title}</h2>" in text
    assert "default-src" in text


def test_any_name_is_escaped_text(data: ReportData) -> None:
    text = page(data)
    assert "<script" not in text
    assert "<img" not in text
    assert html.escape(HOSTILE, quote=True) in text
    for track in data.calls.tracks if data.calls else ():
        assert track.contig.startswith(HOSTILE)
    for content in multiqc.texts(data, beside=Path("r.html")).values():
        assert "<script" not in content


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
    assert "incomplete: 16 embeddings" in page(data)
    assert data.sampled is not None
    assert data.sampled.of == 84


def test_empty_stores_have_a_page(tmp_path: Path) -> None:
    opened = rows.create_store(
        tmp_path / "empty.zarr", models=rows.MODELS, segment_length=0, block_rows=16
    )
    text = page(collect(opened))
    assert "empty: no records yet" in text
    assert "whole contigs" in text
    _Elements(text)


def test_a_genetic_code_other_than_the_standard_one_is_told(tmp_path: Path) -> None:
    for code, said in ((1, "500 bp segments, embedded"), (4, "(genetic code 4), embedded")):
        opened = rows.create_store(
            tmp_path / f"{code}.zarr", models=rows.MODELS, segment_length=500, genetic_code=code
        )
        assert said in page(collect(opened))


def test_the_page_is_bounded_for_any_store(data: ReportData) -> None:
    """Everything at its bound, names as long as they come."""
    long = "<&" * 5000
    crowded = replace(
        data,
        samples=tuple(replace(data.total, name=f"{long}{n}"[-128:]) for n in range(MOST_SAMPLES)),
        models=tuple(
            replace(
                model, cells=np.linspace(0, 1, MOST_CELLS), provenance={"identity": {"x": long}}
            )
            for model in data.models * 4
        ),
        calls=data.calls
        and replace(data.calls, tracks=tuple(replace(t, contig=long) for t in data.calls.tracks)),
    )
    assert len(page(crowded)) < 2_000_000


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
    assert found.calls.source == "kept"
    assert found.total == data.total
    for one, two in zip(found.calls.tracks, data.calls.tracks, strict=True):
        np.testing.assert_allclose(one.score, two.score, atol=1e-5)
    assert main(["report", str(store.path), "--scores", "none", "--no-umap"]) == 2
    assert "no scores 'none'" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_a_browser_opens_it_without_an_error(data: ReportData, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(data))
    result = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--enable-logging=stderr", "--v=0", "--dump-dom"),
            f"--user-data-dir={tmp_path / 'profile'}",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in result.stderr
    assert result.stdout.count("<svg") == page(data).count("<svg")
    assert "<h2>Provenance</h2>" in result.stdout
    assert "<script" not in result.stdout


def test_elements_escape_all_but_markup() -> None:
    assert tag("p", "a<b", Markup("<i></i>"), None, ["&"], title='"x"', class_="c", x=1.0) == (
        '<p title="&quot;x&quot;" class="c" x="1">a&lt;b<i></i>&amp;</p>'
    )
    assert escaped("a\x00b\ud800") == "a�b?"
    assert clipped("abcdefghij", 5) == "ab…ij"


def test_numbers_for_people() -> None:
    assert [short(n) for n in (7, 950, 12_345, 999_999, 4_560_000)] == [
        "7", "950", "12.3 k", "1.00 M", "4.56 M"
    ]  # fmt: skip
    assert percent(99_999, 100_000) == "99.9 %"
    assert (percent(1, 1), percent(0, 3), percent(0, 0)) == ("100 %", "0 %", "n/a")


def test_principal_components_are_those_of_a_decomposition() -> None:
    generator = np.random.default_rng(1)
    x = generator.standard_normal((300, 60)) * np.geomspace(9, 0.1, 60)
    x -= x.mean(axis=0)
    scores, share = principal_components(x, 4)
    left, sizes, _ = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(np.abs(scores), np.abs(left[:, :4] * sizes[:4]), atol=2e-3)
    np.testing.assert_allclose(share, sizes[:4] ** 2 / (sizes**2).sum(), rtol=1e-4)


def test_chosen_rows_are_certified_bounded_and_of_every_sample() -> None:
    filled = np.ones(10_000, bool)
    filled[100:200] = False
    edges = np.array([0, 50, 9_000, 10_000])
    chosen = choose_rows(filled, edges, most=300)
    assert len(chosen) <= 300
    assert filled[chosen].all()
    assert (np.histogram(chosen, edges)[0] >= 9).all()
    np.testing.assert_array_equal(chosen, choose_rows(filled, edges, most=300))


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


def test_a_histogram_of_one_length_has_whole_numbers_on_its_axis() -> None:
    from vnp.report.binning import length_histogram
    from vnp.report.charts import histogram

    drawn = str(histogram(length_histogram(np.array([500, 500]), 20), unit="bases"))
    assert ">500<" in drawn
    assert ">500.2<" not in drawn
