"""The commands as functions: what they return, what they take, and what ``import vnp`` costs."""

from __future__ import annotations

import inspect
import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vnp
import vnp.embed.worker
from store.errors import NotAStoreError, SampleExistsError, UsageError
from store.store import Store
from tests.rows import filled_store
from tests.vnp.classify.classify_files import publish
from vnp.cli.main import main, parser

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "vnp/data/lambda_phage.fa.gz"
COMMANDS = ("create", "append", "embed", "status", "verify", "export")


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """What a command prints with --json."""
    capsys.readouterr()
    main([*map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A demo store with small blocks and the example appended."""
    path = tmp_path / "run.zarr"
    vnp.create(path, recipe="demo", block_rows=16)
    vnp.append(path, EXAMPLE)
    return path


def test_importing_vnp_is_light_and_appending_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, vnp\n"
        "heavy = {'numpy', 'torch', 'store', 'vnp.api'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "vnp.create('a.zarr', recipe='demo')\n"
        f"vnp.append('a.zarr', {str(EXAMPLE)!r})\n"
        "vnp.status('a.zarr'), vnp.verify('a.zarr'), vnp.open('a.zarr')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_the_names_of_vnp() -> None:
    assert {*COMMANDS, "open", "predict", "train"} <= set(dir(vnp))
    for name in (*COMMANDS, "open", "predict", "train"):
        assert callable(getattr(vnp, name)), name
        assert inspect.getdoc(getattr(vnp, name)), name
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vnp.nonsense  # type: ignore[attr-defined]


IN_PYTHON = r"\nin Python: --code is genetic_code=$"

# By the option's name in its parser: the keyword of it, None if a function needs none, and why.
_PROCESS = dict.fromkeys(("json", "verbose", "quiet", "log_file", "help", "run"))  # of a process
_KEYWORDS = {
    "init": {"store": "path", "model": "models", "code": "genetic_code", "weights_dir": "weights"},
    "append": {"code": "genetic_code"},
    "embed": {"weights_dir": "weights"},
    "status": {"watch": None},  # call it again
    "verify": {},
    "export": {"sample": "samples", "model": "models"},
    "residues": {"weights_dir": "weights"},
    "precisions": {"model": "models", "weights_dir": "weights"},
    "predict": {"sample": "samples"},
    "train": {},
}


@pytest.mark.parametrize("command", _KEYWORDS)
def test_a_function_takes_every_option_of_its_command(command: str) -> None:
    function = vnp.create if command == "init" else getattr(vnp, command)
    keywords = inspect.signature(function).parameters
    actions = parser(command)._subparsers._group_actions[0].choices[command]._actions  # type: ignore[union-attr,index,call-overload]
    known = _PROCESS | _KEYWORDS[command]
    for action in actions:
        name = known.get(action.dest, action.dest)
        if name is None:
            continue
        assert name in keywords, f"{command} {action.option_strings}: no {name}="
        default = keywords[name].default
        if default is not inspect.Parameter.empty and action.default not in (None, [], ()):
            assert default == action.default, f"{command} {name}"


def test_appending_can_only_look(path: Path, tmp_path: Path, capsys: Any) -> None:
    bad = tmp_path / "bad.fa"
    bad.write_text(">a\nAC1T\n>b\n" + "ACGTA" * 120 + "\n")
    rows = vnp.open(path).n_rows
    found = vnp.append(path, bad, check=True)
    assert found.problems == 1
    told = printed(capsys, "append", path, bad, "--check")
    assert json.loads(json.dumps(found.to_json())) == told
    assert vnp.append(tmp_path / "no.zarr", EXAMPLE, check=True, create=True).problems == 0
    assert not (tmp_path / "no.zarr").exists()
    assert vnp.open(path).n_rows == rows


@pytest.mark.slow
def test_training_and_calling_with_the_options_of_the_commands(
    path: Path, tmp_path: Path, capsys: Any
) -> None:
    host = tmp_path / "host.fa"
    host.write_text("".join(f">h{n}\n{('ACGGTCCAGGTTC' + 'ACGT' * n) * 90}\n" for n in range(4)))
    vnp.append(path, host)
    assert vnp.embed(path, in_process=True, device="cpu").complete
    labels = tmp_path / "labels.tsv"
    labels.write_text("sample\tlabel\nlambda_phage\tvirus\nhost\tothers\n")
    to = tmp_path / "c.safetensors"
    made = vnp.train(path, labels, to, held_out=0.25, epochs=2, device="cpu")
    told = printed(
        capsys, "train", path, "--labels", labels, "-o", to, "--held-out", 0.25, "--epochs", 2,
        "--device", "cpu", "--force",
    )  # fmt: skip
    mine = json.loads(json.dumps(made.to_json()))
    assert mine["card"]["training"].pop("made") <= told["card"]["training"].pop("made")
    assert mine == told
    for wrong in ({"epochs": 0}, {"folds": 1}, {"split": "x"}, {"classifier": "x"}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            vnp.train(path, labels, to, force=True, **wrong)  # type: ignore[arg-type]
    bed, gff, fasta = (tmp_path / f"v.{kind}" for kind in ("bed", "gff", "fa"))
    loose = {"smooth": 1, "enter": 0.0, "leave": 0.0, "min_region": 0}
    called = vnp.predict(
        path, to, bed=bed, gff=gff, fasta_out=fasta, contigs=[EXAMPLE, host], device="cpu", **loose
    )  # type: ignore[arg-type]
    assert called.written.regions == len(bed.read_text().splitlines()) > 0
    assert gff.exists()
    assert fasta.exists()
    with pytest.raises(UsageError, match=r"v\.bed"):
        vnp.predict(path, to, bed=bed, device="cpu")
    vnp.predict(path, to, bed=bed, force=True, device="cpu")
    with pytest.raises(UsageError, match="odd number"):
        vnp.predict(path, to, smooth=2, device="cpu")


def test_embed_is_the_function_and_the_package() -> None:
    from vnp.embed.function import embed

    assert inspect.ismodule(vnp.embed)
    assert inspect.signature(vnp.embed) == inspect.signature(embed)


@pytest.mark.slow
def test_each_returns_what_its_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = tmp_path / "ours.zarr", tmp_path / "theirs.zarr"

    def same(mine: Any, printed: Any, *unlike: str) -> None:
        mine = json.loads(json.dumps(mine).replace("ours", "theirs"))
        for name in unlike:
            assert mine.pop(name) is not None
            assert printed.pop(name) is not None
        assert mine == printed

    made = vnp.create(ours, recipe="demo", block_rows=16)
    same(
        made.to_json(),
        printed(capsys, "init", theirs, "--recipe", "demo", "--block-rows", 16),
    )
    appended = vnp.append(ours, EXAMPLE).to_json()
    other = printed(capsys, "append", theirs, EXAMPLE)
    assert appended["sample"].pop("appended") <= other["sample"].pop("appended")
    same(appended, other)
    embedded = vnp.embed(ours, device="cpu")
    assert embedded.complete
    same(embedded.to_json(), printed(capsys, "embed", theirs), "seconds", "workers")
    same(vnp.status(ours).to_json(), printed(capsys, "status", theirs))
    same(vnp.verify(ours).to_json(), printed(capsys, "verify", theirs))
    exported = vnp.export(ours, tmp_path / "ours.npy")
    same(exported.to_json(), printed(capsys, "export", theirs, "--to", tmp_path / "theirs.npy"))
    classifier = tmp_path / "c.pth"
    publish(classifier, 96 + 128)
    called = vnp.predict(ours, classifier, device="cpu")
    assert called.warning
    same(
        called.to_json(),
        printed(capsys, "predict", theirs, "--classifier", classifier, "--device", "cpu"),
    )


def test_a_list_or_a_sheet_gives_the_reports_of_all(path: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.fa", tmp_path / "b.fa"]
    for file, letter in zip(files, "AC", strict=True):
        file.write_text(f">{letter}\n{('ACGT' + letter) * 120}\n")
    run = vnp.open(path)
    rows = run.n_rows
    both = vnp.append(run, files)
    assert [report.sample.name for report in both.samples] == ["a", "b"]
    assert run.n_rows > rows, "the open store has the new rows"
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text("sample\tfile\nc\ta.fa\nd\tb.fa\n")
    again = vnp.append(path, sheet=sheet, allow_same_content=True)
    assert [report.sample.name for report in again.samples] == ["c", "d"]
    assert all(report.skipped for report in vnp.append(path, files, existing="skip").samples)


def test_appending_makes_the_store_or_leaves_none(tmp_path: Path) -> None:
    path, bad = tmp_path / "new.zarr", tmp_path / "bad.fa"
    bad.write_text("no FASTA\n")
    with pytest.raises(Exception, match="bad.fa"):
        vnp.append(path, bad, create=True, recipe="demo")
    assert not path.exists()
    report = vnp.append(path, EXAMPLE, create=True, recipe="demo", segment_length="whole")
    assert report.sample.segments == 1
    assert vnp.open(path).schema.segment_length == 0


def test_what_a_store_is_said_to_be_is_never_ignored(path: Path, tmp_path: Path) -> None:
    fine = {"segment_length": 500, "recipe": "demo", "genetic_code": 1}
    for name, value in fine.items():
        assert vnp.append(path, EXAMPLE, existing="skip", **{name: value}).skipped
    for wrong, said in (
        ({"segment_length": 300}, "holds 500 bp segments, not 300 bp segments"),
        ({"segment_length": "whole"}, "holds 500 bp segments, not whole contigs"),
        ({"recipe": "virnucpro"}, "holds demo_dnabert_s, demo_esm2, not dnabert_s, esm2_3b"),
        ({"recipe": "dmeo"}, "unknown recipe 'dmeo'"),
        (
            {"genetic_code": 4},
            r"genetic code 1, not 4: .*another store\nin Python: --code is genetic_code=$",
        ),
        (
            {"genetic_code": 11},
            r"genetic code 1, not 11: .*so the records are the same\)" + IN_PYTHON,
        ),
        ({"genetic_code": 0}, "genetic code 1, not 0"),
    ):
        with pytest.raises(UsageError, match=said):
            vnp.append(path, EXAMPLE, existing="skip", **wrong)
    with pytest.raises(UsageError, match="unknown genetic code 0"):
        vnp.append(tmp_path / "new.zarr", EXAMPLE, create=True, recipe="demo", genetic_code=0)


@pytest.mark.parametrize("workers", [0, -1, False])
def test_no_workers_is_not_the_default_number(path: Path, workers: int) -> None:
    with pytest.raises(UsageError, match="give a positive whole number"):
        vnp.embed(path, workers=workers)


def test_wrong_calls_are_usage_errors(path: Path, tmp_path: Path) -> None:
    for call in (
        lambda: vnp.append(path),
        lambda: vnp.append(path, EXAMPLE, sheet=tmp_path / "x.tsv"),  # type: ignore[call-overload]
        lambda: vnp.append(path, [EXAMPLE], sample="x"),  # type: ignore[call-overload]
        lambda: vnp.create(path, recipe="demo"),
        lambda: vnp.embed(path, models="esm2_3b"),
        lambda: vnp.embed(path, workers=2, in_process=True),
        lambda: vnp.embed(path, device="tpu"),
        lambda: vnp.export(path, tmp_path / "x.docx"),
        lambda: vnp.export(path, tmp_path / "x.npy", dtype="int8"),  # type: ignore[arg-type]
        lambda: vnp.export(path, tmp_path / "x.npy", incomplete="x"),  # type: ignore[arg-type]
        lambda: vnp.export(path, tmp_path / "x.pt", layout="x"),  # type: ignore[arg-type]
        lambda: vnp.append(path, EXAMPLE, existing="x"),  # type: ignore[call-overload]
        lambda: vnp.append(path, EXAMPLE, duplicates="x"),  # type: ignore[call-overload]
        lambda: vnp.residues(
            path,
            tmp_path / "x.h5",
            model="demo_esm2",
            rows=[0],
            dtype="int8",  # type: ignore[arg-type]
        ),
    ):
        with pytest.raises((UsageError,)):
            call()
    with pytest.raises(SampleExistsError):
        vnp.append(path, EXAMPLE)
    with pytest.raises(NotAStoreError):
        vnp.open(tmp_path / "none.zarr")


def test_options_in_messages_are_keywords_in_a_note(path: Path) -> None:
    with pytest.raises(SampleExistsError, match="--existing skip") as caught:
        vnp.append(path, EXAMPLE)
    assert caught.value.__notes__ == ["in Python: --existing is existing="]
    with pytest.raises(UsageError, match="leave --code out") as wrong:
        vnp.append(path, EXAMPLE, genetic_code=4)
    assert wrong.value.__notes__ == ["in Python: --code is genetic_code="]
    with pytest.raises(UsageError, match="no model") as other:
        vnp.embed(path, models="nope")
    assert not hasattr(other.value, "__notes__")


def test_embedding_in_this_process_gives_the_same_rows(path: Path, tmp_path: Path) -> None:
    report = vnp.embed(path, in_process=True, device="cpu", models="demo_esm2")
    assert report.complete
    assert report.certified == {"demo_esm2": 45}
    assert [worker["records"] for worker in report.workers] == [45]
    run = vnp.open(path)
    assert run.filled("demo_esm2").all()
    assert not run.filled("demo_dnabert_s").any()
    assert vnp.embed(run, in_process=True).complete
    again = vnp.embed(run, in_process=True)
    assert again.complete
    assert not again.workers, "nothing was left to do"


def test_embedding_works_in_a_thread(path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(vnp.embed, path, in_process=True, device="cpu").result()
    assert report.complete


def interrupt_at_the_first_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C once when the first block has been published."""
    publish, pressed = vnp.embed.worker.publish, threading.Event()

    def publish_and_press(block: Any) -> None:
        publish(block)
        if not pressed.is_set():
            pressed.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    monkeypatch.setattr("vnp.embed.worker.publish", publish_and_press)


def test_an_interrupt_stops_in_order_and_is_raised(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt_at_the_first_block(patch)
        with pytest.raises(KeyboardInterrupt, match="carries on"):
            vnp.embed(path, in_process=True, device="cpu")
    assert signal.getsignal(signal.SIGINT) is before
    status = vnp.status(path)
    assert status.rows_done >= 13, "what was published stays"
    assert not status.workers
    assert sum(model.claimed + model.stale for model in status.models) == 0
    report = vnp.embed(path, in_process=True, device="cpu")
    assert report.complete
    assert sum(worker["records"] for worker in report.workers) == 90 - status.rows_done


@pytest.mark.slow
def test_verify_repairs(path: Path) -> None:
    vnp.embed(path, in_process=True, device="cpu")
    (path / "obsm/X_demo_esm2/c.1.0").unlink()
    found = vnp.verify(path)
    assert not found.sound
    assert found.damaged == 1
    mended = vnp.verify(path, repair=True)
    assert mended.sound
    assert not mended.complete
    assert vnp.embed(path, in_process=True, device="cpu").complete
    assert vnp.verify(path).complete


def test_the_open_store_reads(tmp_path: Path) -> None:
    path = filled_store(tmp_path / "run.h5", rows=40).path
    run = vnp.open(str(path))
    assert isinstance(run, Store)
    assert run["wide"].shape == (40, 20)
    assert run.merged().shape == (40, 28)
    np.testing.assert_array_equal(run.merged()[3, 8:], run["wide"][3])
    pytest.importorskip("pandas")
    assert list(run.obs["sample"].unique()) == ["first", "second"]
    assert run.obs["filled_wide"].all()


WRONG = {
    "workers": (lambda path: vnp.embed(path, workers=1.5), "workers is 1.5: give a positive whole"),
    "files": (lambda path: vnp.append(path, None), "None is not a list of files"),
    "file": (lambda path: vnp.append(path, [1]), "1 is not the path of a file"),
    "rows": (
        lambda path: vnp.residues(path, "o.h5", model="demo_esm2", rows=5),
        "5 is not a list of row numbers",
    ),
    "ids": (
        lambda path: vnp.residues(path, "o.h5", model="demo_esm2", ids=[0]),
        "0 is not a name: names are texts",
    ),
    "smooth": (
        lambda path: vnp.predict(path, "c.pth", smooth="5"),
        "smooth is '5': give a whole number",
    ),
    "bed": (lambda path: vnp.predict(path, "c.pth", bed=5), "5 is not the path of a file"),
    "code": (
        lambda path: vnp.create(path.with_name("n.zarr"), genetic_code="11"),
        "genetic_code is '11': give a whole number",
    ),
    "length": (
        lambda path: vnp.create(path.with_name("n.zarr"), segment_length="500"),
        "segment_length is '500': give a whole number",
    ),
    "samples": (lambda path: vnp.export(path, "o.csv", samples=[1]), "1 is not a name"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_of_the_wrong_type_is_a_usage_error(path: Path, name: str) -> None:
    call, words = WRONG[name]
    with pytest.raises(UsageError, match=words):
        call(path)
