"""Predictions: the published files byte for byte, consensus, rows that lack a score."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

import vnp.classify.tables as tables_module
from store.io.ragged import from_items
from store.open import create_store, open_store
from store.rows import RowBatch
from store.store import Store
from tests.rows import MODELS, append, commit, expected
from tests.rows import publish as fill
from tests.vnp.classify.classify_files import MLPClassifier, as_main, publish
from vnp.classify.call_files import Written
from vnp.classify.calls import RecordScores, call_contigs, call_windows
from vnp.classify.features import FeaturesError, choose_models, score_rows
from vnp.classify.files import Card, load_classifier, save_classifier
from vnp.classify.predict import Prediction, SampleCalls, predict
from vnp.classify.regions import RegionRule
from vnp.cli.main import main
from vnp.cli.predict import outcome

pytestmark = pytest.mark.slow

INPUTS = sum(model.dim for model in MODELS)


def make_store(path: Path, *, fill_all: bool = True, genetic_code: int = 1) -> Store:
    """Two samples with windows of several frames, ids that sort unlike they come."""
    made = create_store(
        path, models=MODELS, segment_length=500, block_rows=16, genetic_code=genetic_code
    )
    rng = np.random.default_rng(3)
    for sample, n in (("first", 70), ("second", 41)):
        contig = np.sort(rng.integers(0, 5, n))
        segment = np.concatenate(
            [np.sort(rng.integers(1, 15, int((contig == c).sum()))) for c in range(5)]
        )
        keys = list(zip(contig.tolist(), segment.tolist(), strict=True))
        rank = np.array([keys[:i].count(key) for i, key in enumerate(keys)])
        keep = rank < 6
        contig, segment, rank = contig[keep], segment[keep], rank[keep]
        frames = ["F1", "F2", "F3", "R1", "R2", "R3"]
        names = [f'{sample}"{c}' if c == 2 else f"{sample}.{c}" for c in contig]
        with made.appending() as appending:
            appending.write(
                RowBatch(
                    id=from_items(
                        f"{c}_chunk_{s}{frames[r]}".encode()
                        for c, s, r in zip(names, segment, rank, strict=True)
                    ),
                    contig=from_items(name.encode() for name in names),
                    segment=segment.astype(np.int32),
                    start=(segment - 1) * 400,
                    end=(segment - 1) * 400 + 500,
                    strand=np.where(rank < 3, 1, -1).astype(np.int8),
                    frame=(rank % 3 + 1).astype(np.int8),
                    nucleotide=from_items(f"ACGT{sample}{i}".encode() for i in range(len(rank))),
                    protein=from_items(b"MK" for _ in rank),
                    contig_length=6300 + contig,
                )
            )
            commit(appending, sample, len(rank))
    if fill_all:
        for model in MODELS:
            for block in range(made.n_blocks):
                fill(made, model.name, block)
    return open_store(path)


def published(store: Store, sample: str, module: MLPClassifier) -> tuple[str, str]:
    """The two published files, from their description, with torch and pandas."""
    part = store.schema.sample(sample)
    assert part is not None
    x = np.concatenate([expected(store, model.name) for model in MODELS], axis=1).astype("f4")
    with torch.no_grad():
        p = torch.softmax(module(torch.from_numpy(x[part.start : part.stop])), dim=1).numpy()
    ids = store.column("id", part.start, part.stop).decode()
    calls = ["virus" if virus > others else "others" for others, virus in p]
    results = "Sequence_ID\tPrediction\tscore1\tscore2\n" + "".join(
        f"{i}\t{call}\t{np.float32(a)!s}\t{np.float32(b)!s}\n"
        for i, call, (a, b) in zip(ids, calls, p, strict=True)
    )
    frame = pandas.DataFrame({"Modified_ID": [i[:-2] for i in ids], "a": p[:, 0], "b": p[:, 1]})
    best = frame.groupby("Modified_ID").max()
    table = pandas.DataFrame({"Is_Virus": best.b >= best.a}).reset_index()
    return results, table.to_csv(sep="\t", index=False)


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_the_published_files_byte_for_byte(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / f"run.{suffix}")
    module = publish(tmp_path / "m.pth", INPUTS)
    with torch.no_grad():  # scores near 0 and 1 too: their texts are the hard ones
        module.output_layer.weight.mul_(30)
    with as_main(MLPClassifier):
        torch.save(module, tmp_path / "m.pth")
    arguments = ["predict", str(store.path), "--classifier", str(tmp_path / "m.pth"), "--json"]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["complete"]
    head, *_ = (tmp_path / "out" / "samples.tsv").read_text().splitlines()
    assert {*head.split("\t"), "regions", "folder"} == set(report["samples"][0]), "the same words"
    for sample in ("first", "second"):
        folder = tmp_path / "out" / sample
        results, windows = published(store, sample, module)
        assert (folder / "prediction_results.txt").read_text() == results
        assert (folder / "prediction_results_highestscore.csv").read_text() == windows
        assert not (folder / "unscored.tsv").exists()
        assert not list(folder.glob(".part-*"))
        segments = pandas.read_csv(folder / "segments.tsv", sep="\t", quoting=3)
        consensus = pandas.read_csv(folder / "prediction_results_highestscore.csv", sep="\t")
        assert (segments.call == "virus").sum() == consensus.Is_Virus.sum()
        contigs = pandas.read_csv(folder / "contigs.tsv", sep="\t", quoting=3)
        assert contigs.segments.sum() == len(segments)
        numbers = contigs.contig.str[-1].astype(int)  # the contig of each line
        assert contigs.length.tolist() == (6300 + numbers).tolist()
        by_contig = segments.groupby("contig").score2
        np.testing.assert_allclose(
            contigs.set_index("contig").mean_score2.sort_index(), by_contig.mean(), atol=1e-5
        )
        np.testing.assert_allclose(
            contigs.set_index("contig").best_score2.sort_index(), by_contig.max(), atol=1e-5
        )
        regions = pandas.read_csv(folder / "viral_regions.tsv", sep="\t", quoting=3)
        assert len(regions) == contigs.regions.sum()
        # Score2 has one name and the consensus, by which regions go, another.
        segments["consensus"] = 0.5 + (segments.score2 - segments.score1) / 2
        for region in regions.itertuples():
            within = segments[
                (segments.contig == region.contig)
                & (segments.start >= region.start)
                & (segments.end <= region.end)
            ]
            assert within.consensus.mean() == pytest.approx(region.mean_consensus, abs=1e-5)
            assert within.consensus.max() == pytest.approx(region.best_consensus, abs=1e-5)
        named = {*contigs.columns, *regions.columns}
        assert {"mean_score2", "best_score2", "mean_consensus", "best_consensus"} <= named
        assert not {"score", "mean_score", "best_score"} & named
        counts = regions.groupby("contig").size()
        assert (
            counts.to_dict() == contigs[contigs.regions > 0].set_index("contig").regions.to_dict()
        )
    table = pandas.read_csv(tmp_path / "out/samples.tsv", sep="\t")
    assert table.scored.sum() == store.n_rows


def test_rows_that_are_not_certified_are_named_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "run.zarr", fill_all=False)
    publish(tmp_path / "m.pth", INPUTS)
    for model, block in (("small", 0), ("small", 1), ("wide", 1), ("wide", 2), ("small", 3)):
        fill(store, model, block)
    output = tmp_path / "out"
    arguments = ["predict", str(store.path), "--classifier", str(tmp_path / "m.pth")]
    assert main([*arguments, "-o", str(output), "--sample", "first"]) == 3
    assert "54 records without a certified row for every model" in capsys.readouterr().err
    first = store.schema.sample("first")
    assert first is not None
    results = pandas.read_csv(output / "first/prediction_results.txt", sep="\t", quoting=3)
    ids = store.column("id").decode()
    assert results.Sequence_ID.tolist() == ids[16:32]
    unscored = pandas.read_csv(output / "first/unscored.tsv", sep="\t", quoting=3)
    rows = [row for row in range(first.stop) if not 16 <= row < 32]
    assert unscored.row.tolist() == rows
    assert unscored.Sequence_ID.tolist() == [ids[row] for row in rows]
    missing = {0: "wide", 2: "small", 3: "wide", 4: "small,wide"}
    assert unscored.not_certified_for.tolist() == [missing[row // 16] for row in rows]
    assert not (output / "second").exists()
    for model in MODELS:
        for block in range(store.n_blocks):
            if not store.is_filled(model.name, block):
                fill(store, model.name, block)
    assert main([*arguments, "-o", str(output)]) == 0
    assert not (output / "first/unscored.tsv").exists(), "of the earlier run"


def test_damage_is_an_error_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "run.zarr")
    publish(tmp_path / "m.pth", INPUTS)
    chunk = tmp_path / "run.zarr/obsm/X_wide/c.1.0"
    raw = bytearray(chunk.read_bytes())
    raw[40] ^= 1
    chunk.write_bytes(raw)
    arguments = ["predict", str(store.path), "--classifier", str(tmp_path / "m.pth")]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 1
    assert "vnp verify" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_models_that_do_not_fit_are_one_clear_error(tmp_path: Path) -> None:
    store = make_store(tmp_path / "run.zarr", fill_all=False)
    with pytest.raises(FeaturesError, match=r"takes 99 numbers a row, but small \(8\)"):
        choose_models(store, Card(99, 512, ""))
    assert choose_models(store, Card(INPUTS, 512, "")) == ("small", "wide")
    assert choose_models(store, Card(20, 512, ""), ("wide",)) == ("wide",)
    assert choose_models(store, Card(INPUTS, 512, "", models=(("wide", 20), ("small", 8)))) == (
        "wide",
        "small",
    )


def test_a_classifier_of_other_segments_or_models_is_applied_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tmp_path / "run.zarr")
    publish(tmp_path / "m.pth", INPUTS)
    found = load_classifier(tmp_path / "m.pth")
    card = replace(found.card, models=(("wide", 20), ("small", 8)), segment_length=300)
    save_classifier(found.module, card, tmp_path / "m.safetensors")
    result = predict(
        store,
        load_classifier(tmp_path / "m.safetensors"),
        tmp_path / "out",
        models=("small", "wide"),
        device=torch.device("cpu"),
    )
    assert [record.getMessage() for record in caplog.records] == [
        "m.safetensors was trained on wide + small, and is applied to small + wide",
        "m.safetensors was trained on 300 bp segments, and the store holds 500 bp segments",
    ]
    assert result.complete
    assert result.to_json() == json.loads((tmp_path / "out/predict.json").read_text()) | {
        "models": ("small", "wide"),
        "samples": tuple(result.to_json()["samples"]),
    }


@pytest.mark.parametrize(
    ("store_code", "card_code", "warned"),
    [(4, 1, True), (11, 1, False), (4, 4, False), (1, 4, True)],
)
def test_a_classifier_of_another_genetic_code_is_applied_with_a_warning(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    store_code: int,
    card_code: int,
    warned: bool,
) -> None:
    """A published file has no card: it was trained by VirNucPro's rules, of code 1."""
    store = make_store(tmp_path / "run.zarr", genetic_code=store_code)
    path = tmp_path / "m.pth"
    publish(path, INPUTS)
    if card_code != 1:
        found = load_classifier(path)
        path = tmp_path / "m.safetensors"
        save_classifier(found.module, replace(found.card, genetic_code=card_code), path)
    predict(store, load_classifier(path), tmp_path / "out", device=torch.device("cpu"))
    assert [record.getMessage() for record in caplog.records] == [
        f"{path.name} was trained on records of genetic code {card_code}, and those of the store "
        f"are of code {store_code}: frames end at other stops there, so its scores may mean less"
    ][: int(warned)]


def test_a_card_without_a_genetic_code_is_of_the_standard_one(tmp_path: Path) -> None:
    publish(tmp_path / "m.pth", INPUTS)
    found = load_classifier(tmp_path / "m.pth")
    save_classifier(found.module, found.card, tmp_path / "m.safetensors")
    card = json.loads((tmp_path / "m.json").read_text())
    assert card.pop("genetic_code") == 1
    (tmp_path / "m.json").write_text(json.dumps(card))
    assert load_classifier(tmp_path / "m.safetensors").card.genetic_code == 1


def test_parts_of_any_size_give_the_same_scores(tmp_path: Path) -> None:
    store = make_store(tmp_path / "run.zarr")
    publish(tmp_path / "m.pth", INPUTS)
    module = load_classifier(tmp_path / "m.pth").module
    view = store.merged()
    device = torch.device("cpu")
    for start, stop in ((0, store.n_rows), (5, 50), (16, 16)):
        whole = list(score_rows(view, module, device=device, start=start, stop=stop, chunk=1000))
        parts = list(score_rows(view, module, device=device, start=start, stop=stop, chunk=7))
        values = [part.values for part in whole] or [np.empty((0, 2))]
        small = [part.values for part in parts] or [np.empty((0, 2))]
        np.testing.assert_array_equal(np.concatenate(values), np.concatenate(small))
        assert sum(map(len, parts)) == stop - start
        assert np.isfinite(np.concatenate(values)).all()


def test_windows_and_contigs_do_not_depend_on_how_rows_are_parted() -> None:
    rng = np.random.default_rng(7)
    n = 300
    contig = np.sort(rng.integers(0, 20, n))
    segment = np.concatenate([np.sort(rng.integers(1, 8, (contig == c).sum())) for c in range(20)])
    scores = rng.random((n, 2)).astype("f4")
    scores[rng.random(n) < 0.2] = np.nan
    names = [f"c{c}".encode() for c in contig]

    def rows(a: int, b: int) -> RecordScores:
        return RecordScores(
            id=[b"%b_chunk_%dF1" % (names[i], segment[i]) for i in range(a, b)],
            contig=names[a:b],
            segment=segment[a:b].astype(np.int32),
            start=segment[a:b] * 100,
            end=segment[a:b] * 100 + 150,
            scores=scores[a:b],
        )

    def all_of(cuts: list[int]) -> tuple[list[object], list[str]]:
        parts = [rows(a, b) for a, b in pairwise(cuts)]
        return list(call_windows(parts)), [repr(contig) for contig, _ in call_contigs(parts)]

    whole = all_of([0, n])
    assert whole == all_of([0, 1, 2, 50, 51, 130, 130, 299, n])
    assert whole == all_of(list(range(n + 1)))
    by_key: dict[tuple[bytes, int], list[int]] = {}
    for i in range(n):
        if np.isfinite(scores[i, 0]):
            by_key.setdefault((names[i], int(segment[i])), []).append(i)
    assert [(w.contig, w.number) for w in whole[0]] == list(by_key)
    for window, picked in zip(whole[0], by_key.values(), strict=True):
        assert window.is_virus == (scores[picked, 1].max() >= scores[picked, 0].max())


def test_a_tie_is_others_for_a_record_and_virus_for_a_window(tmp_path: Path) -> None:
    rows = RecordScores(
        id=[b"a_chunk_1F1"],
        contig=[b"a"],
        segment=np.array([1], np.int32),
        start=np.array([0]),
        end=np.array([500]),
        scores=np.array([[0.5, 0.5]], np.float32),
    )
    found = list(call_windows([rows]))
    with tables_module.sample_tables(tmp_path / "a") as tables:
        tables.records(rows)
        tables.windows(found)
    assert "a_chunk_1F1\tothers\t0.5\t0.5\n" in (tmp_path / "a/prediction_results.txt").read_text()
    text = (tmp_path / "a/prediction_results_highestscore.csv").read_text()
    assert text == "Modified_ID\tIs_Virus\na_chunk_1\tTrue\n"


def test_windows_are_sorted_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_module, "_SORTED_AT_A_TIME", 7)
    lines = tables_module._SortedLines(tmp_path)
    words = [f"{n * 7919 % 101}_chunk_{n}\t1".encode() for n in range(50)]
    for word in words:
        lines.add([word])
    assert list(lines) == sorted(words)


@pytest.mark.parametrize(
    ("segments", "words"), [(1, "1 of 1 segment is"), (2, "1 of 2 segments are")]
)
def test_one_segment_is_viral_and_two_are(segments: int, words: str) -> None:
    calls = SampleCalls(
        sample="s", records=3, scored=3, unscored=0, segments=segments, viral_segments=1, contigs=1,
        viral_contigs=1, regions=0, mean_score2=None, best_score2=None, folder="s",
    )  # fmt: skip
    result = Prediction(
        store="r", classifier="c", digest="d", models=(), samples=(calls,), warning="",
        rule=RegionRule(), written=Written(0, 0, 0),
    )  # fmt: skip
    assert outcome(result).lines[0].startswith(f"s: {words} viral, 1 of 1 contig in")


def test_an_empty_sample_has_headers_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path / "run.zarr")
    append(store, "none", 0)
    publish(tmp_path / "m.pth", INPUTS)
    assert main(["predict", str(store.path), "--classifier", str(tmp_path / "m.pth")]) == 0
    folder = tmp_path / "run.zarr.predictions/none"
    assert (folder / "prediction_results.txt").read_text().count("\n") == 1
    assert (folder / "prediction_results_highestscore.csv").read_text() == "Modified_ID\tIs_Virus\n"
