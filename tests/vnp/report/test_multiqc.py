"""The files for MultiQC, read by MultiQC: every sample is there, with its values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import rows
from vnp.classify.files import Card, save_classifier
from vnp.classify.mlp import Mlp
from vnp.report import multiqc
from vnp.report.calls import classifier_scores
from vnp.report.collect import collect

pytestmark = pytest.mark.slow
MULTIQC = Path(sys.prefix) / "bin/multiqc"
# Names that MultiQC makes one of, and names that YAML takes for something else.
NAMES = ("gut", "gut_trimmed", "gut.bam", "x_ccs_1", "x_ccs_2", "2.0")


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "some.safetensors"
    save_classifier(Mlp(28).eval(), Card(28, 512, ""), path)
    return path


def write(folder: Path, names: tuple[str, ...], classifier: Path) -> dict[str, dict[str, Any]]:
    """Report a store beside itself; returns what each sample's row must say."""
    folder.mkdir(parents=True)
    store = rows.create_store(
        folder / "run.zarr", models=rows.MODELS, segment_length=500, block_rows=16
    )
    for number, name in enumerate(names):
        rows.append(store, name, 10 + number)
    for model in rows.MODELS:
        for block in range(store.n_blocks - 1):
            rows.publish(store, model.name, block)
    scores = classifier_scores(store, classifier, device="cpu")
    data = collect(store, title=f"of {folder.name} <b>", scores=scores, umap=False)
    for path, text in multiqc.texts(data, beside=folder / "report.html").items():
        path.write_text(text)
    return {
        row.name: {
            "contigs": row.contigs,
            "segments": row.segments,
            "records": row.records,
            "certified": pytest.approx(100 * row.certified / row.records),
            "viral_segments": row.viral_segments,
            "viral_contigs": row.viral_contigs,
        }
        for row in data.samples
    }


@pytest.mark.skipif(not MULTIQC.exists(), reason="there is no MultiQC beside this Python")
def test_multiqc_shows_every_sample_of_every_store(tmp_path: Path, classifier: Path) -> None:
    """Two reports of one name: neither takes the other's place."""
    expected = [
        write(tmp_path / "reports/one", NAMES, classifier),
        write(tmp_path / "reports/two", ("gut", "soil"), classifier),
    ]
    ended = subprocess.run(
        [MULTIQC, "--no-ansi", "--no-version-check", "-o", tmp_path / "out", tmp_path / "reports"],
        capture_output=True,
        text=True,
        env=os.environ | {"HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    content = json.loads((tmp_path / "out/multiqc_data/multiqc_data.json").read_text())
    raw = content["report_saved_raw_data"]
    tables = [values for name, values in raw.items() if "vnp_samples" in name]
    assert sorted(tables, key=len) == sorted(expected, key=len)
    lines = [values for name, values in raw.items() if "vnp_scores" in name]
    assert sorted(map(sorted, lines)) == sorted(map(sorted, expected))
    for line in (values for plot in lines for values in plot.values()):
        assert len(line) == 40
        assert sum(line.values()) == pytest.approx(100)
    page = (tmp_path / "out/multiqc_report.html").read_text()
    assert "Samples: of one _b_" in page
    assert "of one <b>" not in page, "the menu has it unescaped"
