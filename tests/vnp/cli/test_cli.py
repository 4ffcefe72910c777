"""The command line as a user meets it: outputs, exit codes, and the store after an error."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vnp
from store.open import open_store
from vnp.cli.main import main
from vnp.inference.device import bfloat16_instructions

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "vnp/data/lambda_phage.fa.gz"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run vnp as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "vnp", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, standard output and standard error."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.fixture
def store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A demo store with small blocks and the example appended."""
    path = tmp_path / "run.zarr"
    assert main(["init", str(path), "--recipe", "demo", "--block-rows", "16"]) == 0
    assert main(["append", str(path), str(EXAMPLE)]) == 0
    capsys.readouterr()
    return path


def test_version_is_bare() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, vnp.__version__ + "\n")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vnp.cli.main import parser; parser().format_help(); print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    heavy = {"torch", "numpy", "zarr", "anndata", "transformers", "tokenizers", "dnaio"}
    assert heavy.isdisjoint(loaded)


def test_wrong_usage_exits_2() -> None:
    for arguments in ([], ["nonsense"], ["embed"], ["init", "x.zarr", "--block-rows", "0"]):
        result = run(*arguments)
        assert result.returncode == 2
        assert "usage:" in result.stderr


def test_the_main_job_from_file_to_certified_rows(store: Path) -> None:
    result = run("embed", store, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["complete"]
    assert report["certified"] == {"demo_dnabert_s": 45, "demo_esm2": 45}
    opened = open_store(store)
    for model in opened.schema.models:
        rows = opened.read(model.name).astype("f4")
        assert np.isfinite(rows).all()
        assert rows.std(axis=0).max() > 0.01, "records differ"
    provenance = opened.provenance("demo_esm2")
    assert provenance is not None
    instructions = bfloat16_instructions()
    assert provenance["identity"]["precision"] == ("bfloat16" if instructions else "float32")
    assert (instructions or "auto") in provenance["environment"]["chosen"]
    again = run("embed", store)
    assert again.returncode == 0
    assert "complete" in again.stdout


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_a_bit(tmp_path: Path, store: Path) -> None:
    alone = tmp_path / "alone.zarr"
    assert run("init", alone, "--recipe", "demo", "--block-rows", 16).returncode == 0
    assert run("append", alone, EXAMPLE).returncode == 0
    assert run("worker", alone, "--threads", 1).returncode == 0
    assert run("embed", store, "--workers", 2).returncode == 0
    for model in ("demo_dnabert_s", "demo_esm2"):
        one, two = open_store(alone).read(model), open_store(store).read(model)
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_embed_cannot_certify_what_is_damaged(store: Path) -> None:
    (store / "obs/protein/c.1").write_bytes(b"")
    result = run("embed", store, "--json")
    assert result.returncode == 3
    report = json.loads(result.stdout)
    assert not report["complete"]
    assert report["certified"] == {"demo_dnabert_s": 29, "demo_esm2": 29}
    assert any("demo_esm2 block 1" in problem for problem in report["problems"])


@pytest.mark.slow
def test_embed_opens_again_what_no_longer_stands_as_certified(store: Path) -> None:
    assert run("embed", store).returncode == 0
    chunk = store / "obsm/X_demo_esm2/c.1.0"
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:-1])
    result = run("embed", store)
    assert result.returncode == 0, result.stderr
    assert "demo_esm2 block 1 is open again" in result.stderr
    assert chunk.read_bytes() == sound


@pytest.mark.slow
def test_a_device_that_is_not_there_is_wrong_usage_unless_nothing_is_to_do(store: Path) -> None:
    result = run("embed", store, "--device", "cuda:99", "--json")
    assert result.returncode == 2
    assert "cuda:99" in result.stderr
    [problem] = json.loads(result.stdout)["problems"]
    assert problem.startswith("worker ended with exit code 2: cuda:99 was asked for but")
    assert run("embed", store).returncode == 0
    assert run("embed", store, "--device", "cuda:99").returncode == 0


@pytest.mark.slow
def test_a_store_without_rows_is_complete_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "empty.zarr"
    assert run("init", path, "--recipe", "demo").returncode == 0
    result = run("embed", path)
    assert (result.returncode, "no rows yet" in result.stdout) == (0, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("models", "code", "certified"),
    [(("esm2_8m",), 1, 0), (("demo_dnabert_s", "esm2_8m"), 3, 45)],
    ids=["alone", "after one that is there"],
)
def test_missing_weights_are_one_clear_sentence(
    tmp_path: Path, models: tuple[str, ...], code: int, certified: int
) -> None:
    path = tmp_path / "run.zarr"
    chosen = [part for model in models for part in ("--model", model)]
    assert run("init", path, *chosen).returncode == 0
    assert run("append", path, EXAMPLE).returncode == 0
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    result = subprocess.run(
        [sys.executable, "-m", "vnp", "embed", str(path), "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    assert result.returncode == code
    assert "hf download facebook/esm2_t6_8M_UR50D" in result.stderr
    assert "--weights" in result.stderr
    assert sum(json.loads(result.stdout)["certified"].values()) == certified
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_an_interrupted_embed_exits_130_and_the_next_carries_on(store: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vnp", "embed", str(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    claimed = store.with_name("run.zarr.vnp") / "claims/demo_dnabert_s"
    while process.poll() is None and not claimed.is_dir():
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode in (0, 130), errors  # 0: the worker was faster than the signal
    if process.returncode == 130:
        assert "run the same command again" in output
    assert run("embed", store).returncode == 0


def test_append_errors_leave_the_store_as_it_was(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    bad = tmp_path / "bad.fa"
    bad.write_text(">c1\nACGTACGTACGT\n>c2\nMKVLLE\n")
    code, _, errors = said(capsys, "append", store, bad)
    assert code == 1
    assert f"{bad}, record 2, line 4" in errors
    assert "is this protein?" in errors
    twice = tmp_path / "twice.fa"
    twice.write_text(">c1\nACGTACGTACGT\n>c1\nACGTACGTACGA\n")
    code, _, errors = said(capsys, "append", store, twice)
    assert (code, "record 2" in errors, "'c1'" in errors) == (1, True, True)
    code, _, errors = said(capsys, "append", store, tmp_path / "none.fa")
    assert (code, "none.fa" in errors) == (1, True)
    code, _, errors = said(capsys, "append", store, EXAMPLE, "--sample", "../x")
    assert (code, "sample name" in errors) == (2, True)
    assert {p: p.read_bytes() for p in store.rglob("*") if p.is_file()} == before


def test_the_same_file_twice_is_refused_or_skipped(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = said(capsys, "append", store, EXAMPLE)
    assert (code, "--existing skip" in errors) == (1, True)
    code, output, _ = said(capsys, "append", store, EXAMPLE, "--existing", "skip", "--json")
    assert (code, json.loads(output)["skipped"]) == (0, True)
    renamed = tmp_path / "other.fa"
    renamed.write_bytes(gzip.decompress(EXAMPLE.read_bytes()))
    code, _, errors = said(capsys, "append", store, renamed)
    assert (code, "same sequences as sample lambda_phage" in errors) == (1, True)
    code, _, errors = said(capsys, "append", store, renamed, "--sample", "lambda_phage")
    assert (code, "another name" in errors) == (1, True)
    assert open_store(store).n_rows == 45


def test_contigs_without_a_record_are_named(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mixed.fa"
    stops = "TAACTAACTAAC" * 5
    file.write_text(f">short\nAC\n>stops\n{stops}\n>masked\n{'N' * 60}\n>good\n{'ATGGCC' * 10}\n")
    code, output, _ = said(capsys, "append", store, file, "--json")
    assert code == 0
    report = json.loads(output)
    assert report["sample"]["contigs"] == 4
    assert report["sample"]["contigs_without_records"] == 3
    table = Path(report["contigs_without_records_file"]).read_text().splitlines()
    assert [line.split("\t")[:3] for line in table[1:]] == [
        ["1", "short", "2"],
        ["2", "stops", "60"],
        ["3", "masked", "60"],
    ]


def test_duplicates_can_be_numbered(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "twice.fa"
    file.write_text(f">c\n{'ATGGCC' * 10}\n>c\n{'ATGGCA' * 10}\n")
    code, output, _ = said(capsys, "append", store, file, "--duplicates", "number", "--json")
    assert (code, json.loads(output)["contigs_renamed"]) == (0, 1)
    opened = open_store(store)
    assert set(opened.column("contig", 45).decode()) == {"c", "c_2"}


def test_standard_input_is_a_file(store: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "vnp", "append", str(store), "-", "--sample", "piped", "--json"],
        input=">c\n" + "ATGGCC" * 10 + "\n",
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["sample"]["source"] == "-"


def test_init_finds_or_refuses_an_existing_store(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["init", store, "--if-missing", "--recipe"]
    code, output, _ = said(capsys, *again, "demo", "--json")
    assert (code, json.loads(output)["made"]) == (0, False)
    code, _, errors = said(capsys, *again, "virnucpro")
    assert (code, "holds demo_dnabert_s, demo_esm2" in errors) == (2, True)
    code, _, errors = said(capsys, *again, "demo", "--segment-length", "300")
    assert (code, "500 bp segments, not 300 bp segments" in errors) == (2, True)
    code, _, errors = said(capsys, "init", store, "--recipe", "demo")
    assert (code, "exists already" in errors) == (2, True)


@pytest.mark.slow
def test_reads_are_taken_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, file = tmp_path / "reads.zarr", tmp_path / "reads.fq"
    reads = {"short": "ATGGCC" * 25, "long": "ATGGCC" * 250}
    file.write_text("".join(f"@{n}\n{s}\n+\n{'I' * len(s)}\n" for n, s in reads.items()))
    made = said(capsys, "init", path, "--recipe", "demo", "--segment-length", "whole")
    assert (made[0], "reads.zarr: whole contigs; models" in made[1]) == (0, True)
    assert said(capsys, "append", path, file)[0] == 0
    opened = open_store(path)
    assert opened.schema.segment_length == 0
    ids = opened.column("id").decode()
    assert {name.partition("_chunk_")[0] for name in ids} == set(reads)
    assert {name.partition("_chunk_")[2][:-2] for name in ids} == {"1"}
    assert set(opened.column("end").tolist()) == {150, 1500}
    assert opened.column("nucleotide")[ids.index("long_chunk_1F1")].decode() == reads["long"]
    assert "whole contigs" in said(capsys, "status", path)[1]
    assert run("embed", path).returncode == 0
    assert said(capsys, "verify", path)[0] == 0
    assert np.isfinite(open_store(path).read("demo_esm2")).all()


def test_a_chromosome_is_not_taken_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, file = tmp_path / "reads.zarr", tmp_path / "genome.fa"
    file.write_text(f">read\nATGGCC\n>chr1 test\n{'ATGGCC' * 20_000}\n")
    assert said(capsys, "init", path, "--recipe", "demo", "--segment-length", "whole")[0] == 0
    code, _, errors = said(capsys, "append", path, file)
    assert code == 1
    assert f"{file}, record 2: chr1 has 120,000 bases" in errors
    assert "--segment-length 500" in errors
    assert open_store(path).n_rows == 0
    for bad in ("2", "0", "entire"):
        again = tmp_path / f"{bad}.zarr"
        assert run("init", again, "--segment-length", bad).returncode == 2


def test_a_model_is_added_and_listed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = said(capsys, "models", "--add", "esm2_8m", store)
    assert code == 0
    assert [m.name for m in open_store(store).schema.models][-1] == "esm2_8m"
    code, output, _ = said(capsys, "models", "--json")
    dims = {model["name"]: model["dim"] for model in json.loads(output)["models"]}
    assert (dims["esm2_3b"], dims["dnabert_s"]) == (2560, 768)
    assert json.loads(output)["recipes"]["virnucpro"] == ["dnabert_s", "esm2_3b"]
    assert said(capsys, "models", "--add", "esm2_8m")[0] == 2


@pytest.mark.slow
def test_status_tells_rows_blocks_and_workers(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, _ = said(capsys, "status", store, "--json")
    status = json.loads(output)
    assert code == 0
    assert (status["rows_done"], status["rows_wanted"]) == (0, 90)
    assert run("worker", store, "--model", "demo_esm2").returncode == 0
    code, output, _ = said(capsys, "status", store)
    assert "45 of 45 rows, 3 of 3 blocks" in output
    assert "0 of 45 rows, 0 of 3 blocks" in output
    pinned = open_store(store).provenance("demo_esm2")["identity"]["precision"]
    assert output.splitlines().count(f"    in {pinned}") == 1
    models = json.loads(said(capsys, "status", store, "--json")[1])["models"]
    assert [model["precision"] for model in models] == [None, pinned]
    code, output, _ = said(capsys, "status", store.with_name("none.zarr"))
    assert code == 1


@pytest.mark.slow
def test_verify_names_and_repair_reopens(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = said(capsys, "verify", store)
    assert (code, "3 open blocks" in output) == (3, True)
    assert run("embed", store).returncode == 0
    assert said(capsys, "verify", store)[0] == 0
    sound = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    chunk = store / "obsm/X_demo_dnabert_s/c.2.0"
    chunk.write_bytes(b"\0" * chunk.stat().st_size)
    (store / "obs/start/zarr.json").write_text("{}")
    (store / "obs/start/c.9").write_text("x")
    temporary = f"run.zarr.vnp/tmp/.c.0.{'a' * 32}.part"
    (store.parent / temporary).write_text("x")
    (store.parent / "run.zarr.vnp/tmp/notes").write_text("somebody's")
    code, output, _ = said(capsys, "verify", store, "--json")
    assert code == 1
    found = {finding["path"]: finding["kind"] for finding in json.loads(output)["findings"]}
    assert found == {
        "obsm/X_demo_dnabert_s/c.2.0": "damaged",
        "obs/start/zarr.json": "damaged",
        "obs/start/c.9": "orphan",
        temporary: "orphan",
        "run.zarr.vnp/tmp/notes": "foreign",
    }
    code, output, _ = said(capsys, "verify", store, "--repair")
    assert (code, "demo_dnabert_s block 2 is open again" in output) == (3, True)
    assert run("embed", store).returncode == 0
    assert said(capsys, "verify", store)[0] == 0
    assert (store.parent / "run.zarr.vnp/tmp/notes").read_text() == "somebody's"
    assert not (store.parent / temporary).exists()
    after = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    certificate = store / "obs/certificate_demo_dnabert_s/c.2"
    assert {p: raw for p, raw in after.items() if p != certificate} == {
        p: raw for p, raw in sound.items() if p != certificate
    }, "nothing else was touched, and the block came out the same"


def test_lost_sequences_cannot_be_repaired_and_verify_says_so(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store / "obs/nucleotide/c.0").unlink()
    code, output, _ = said(capsys, "verify", store, "--repair")
    assert (code, "items 0 to 15 of obs/nucleotide are lost" in output) == (1, True)


@pytest.mark.slow
def test_bench_measures_this_machine_and_publishes_nothing(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, _ = said(capsys, "bench", store, "--seconds", "0.2", "--json")
    speeds = {speed["model"]: speed for speed in json.loads(output)}
    assert code == 0
    assert set(speeds) == {"demo_dnabert_s", "demo_esm2"}
    for speed in speeds.values():
        assert speed["records"] > 0
        assert speed["tokens"] > speed["records"]
        assert speed["rows_left"] == 45
        assert speed["seconds_left"] == pytest.approx(45 / speed["records_per_second"])
        rounds = speed["rounds"]
        assert min(rounds) <= speed["records_per_second"] * (1 + 1e-9)
        assert max(rounds) >= speed["records_per_second"] * (1 - 1e-9)
    assert open_store(store).provenance("demo_esm2") is None
    code, output, _ = said(capsys, "bench", store, "--seconds", "0.2", "--model", "demo_esm2")
    assert (code, "45 rows are left" in output) == (0, True)
    empty = store.with_name("empty.zarr")
    assert said(capsys, "init", empty, "--recipe", "demo")[0] == 0
    assert said(capsys, "bench", empty)[0] == 2


def test_doctor_looks_at_the_machine(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = said(capsys, "doctor", store, "--json")
    checks = {check["what"]: check["state"] for check in json.loads(output)}
    assert code == 0
    assert checks["file system"] == checks["disk"] == checks["store"] == "ok"
    assert not any("weights" in what for what in checks)  # those of this store come with vnp
    code, output, _ = said(capsys, "doctor", "--weights", store.parent, "--json")
    assert code == 0
    assert {"weights of dnabert_s", "weights of esm2_3b"} <= {
        check["what"] for check in json.loads(output) if check["state"] == "note"
    }
