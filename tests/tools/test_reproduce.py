"""The reproduction of VirNucPro, from end to end on files of its layout, served on loopback."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tools import published_world
from tests.tools.published_world import CLASSIFIERS, INTERPRETER, SPECS, World, script
from tests.vnp.classify.classify_files import MLPClassifier, as_main, trained
from tools.reproduce import FILES, main
from tools.reproducing.fetch import fetch, read_list
from vnp.cli.main import main as vnp_main
from vnp.models import registry

pytestmark = pytest.mark.slow
CLASSIFIER = "500_model.pth"
ESM = "weights/esm2_tiny.pt"

Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models small enough to be written, under a recipe of their own; no proxy for loopback."""
    for spec in SPECS:
        monkeypatch.setitem(registry.MODELS, spec.name, spec)
    monkeypatch.setitem(registry.RECIPES, "tiny", tuple(spec.name for spec in SPECS))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("SECRET", "of this shell")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    return published_world.publish_all(tmp_path_factory.mktemp("world") / "files")


@pytest.fixture
def world(whole: World, tmp_path: Path) -> Iterator[World]:
    """A world of the test's own, served."""
    shutil.copytree(whole.folder, tmp_path / "files")
    mine = World(tmp_path / "files", tmp_path / "ran", dict(whole.files))
    (mine.folder / "code/prediction.py").write_text(script(mine))
    with published_world.served(mine):
        yield mine


@pytest.fixture
def run(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_it(*more: str, listed: Path | None = None) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        files = listed or world.listed(tmp_path / "files.json")
        arguments = [str(tmp_path / "work"), "--files", str(files), "--device", "cpu", "--json"]
        code = main([*arguments, *more])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else {}, said.err

    return run_it


RUN_IT = ("--run-published-code", "--environment", INTERPRETER)


def complaint(said: str) -> str:
    """The one line that says what is wrong."""
    [line] = [line for line in said.splitlines() if line.startswith("reproduce.py: ")]
    assert "Traceback" not in said
    return line


def test_both_are_run_and_agree(
    run: Run, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report, said = run(*RUN_IT)
    assert code == 0, said
    assert report["reproduced"]
    assert [band["model"] for band in report["features"]] == [spec.name for spec in SPECS]
    for band in report["features"]:
        assert band["rows"] == report["records"] > 10, "of two result files"
        assert band["lowest_cosine"] > 0.99999
        assert band["median_relative"] < 5e-4, "the rounding to float16 alone"
    assert report["scores"]["records"] == report["records"]
    assert report["scores"]["largest_difference"] < 1e-3
    assert report["cost"]["vnp"]["seconds"] > 0
    assert report["cost"]["published"]["cpu_seconds"] > 0
    assert report["cost"]["published"]["peak_bytes"] > 1 << 20
    assert any(line.startswith("torch==") for line in report["published_packages"])

    # The golden file does what it is for.
    golden = ["doctor", "--golden", report["golden"], "--recipe", "tiny", "--device", "cpu"]
    golden += ["--fasta", str(Path(report["golden"]).with_name("example.fa"))]
    golden += ["--weights", str(tmp_path / "work/downloads/weights"), "--precision", "float32"]
    capsys.readouterr()
    assert vnp_main([*golden, "--json"]) == 0
    checks = {check["what"]: check["state"] for check in json.loads(capsys.readouterr().out)}
    assert checks["golden"] == "ok"

    # Again: nothing is fetched, nothing is run, and the report is the same.
    requests = list(world.seen)
    code, again, _ = run(*RUN_IT)
    assert (code, world.seen) == (0, requests)
    assert world.ran.read_text() == "ran\n"
    assert again["cost"] == report["cost"]
    assert again["features"] == report["features"]

    # What it made, taken for published results, is compared without running anything.
    made = next((tmp_path / "work").glob("*-500-float32/published/example_merged"))
    published_world.add_results(world, made)
    world.ran.unlink()
    shutil.rmtree(tmp_path / "work")
    world.seen.clear()
    code, stored, _ = run()
    assert code == 0
    assert stored["against"] == "published results"
    assert stored["features"] == report["features"]
    assert stored["cost"]["published"] is None
    assert not world.ran.exists()
    assert not [name for name in world.seen if name.startswith("code/")]

    # A rule that differs, a record that is missing and a call are told.
    published_world.spoil_results(world)
    shutil.rmtree(tmp_path / "work/downloads/example")
    code, differing, _ = run()
    assert code == 1
    dna, aa = differing["features"]
    assert (dna["lowest_cosine"] > 0.99999, aa["lowest_cosine"] > 0.99999) == (True, False)
    assert len(dna["only_here"]) == len(aa["only_here"]) == 1
    assert dna["only_there"] == []
    assert len(differing["scores"]["records_called_otherwise"]) == 1
    assert len(differing["scores"]["segments_called_otherwise"]) == 1
    assert not any(differing["scores"]["unpaired"]), "the tables have every record"


def test_an_answer_that_ends_early_is_gone_on_with(world: World, tmp_path: Path) -> None:
    world.cut[ESM] = [1000, 500]
    world.cut[CLASSIFIER] = [100]  # of unknown size
    listed = world.listed(tmp_path / "files.json")
    _, files = read_list(listed)
    for _ in range(2):
        fetch(files, tmp_path / "work", room=0, say=str)
    assert [name for name in world.seen if ESM in name] == [
        ESM,
        f"{ESM} from 1000",
        f"{ESM} from 1500",
    ]
    assert f"{CLASSIFIER} from 100" in world.seen
    assert len(world.seen) == len(files) + 3, "the second time nothing is fetched"


def test_one_that_never_comes_is_one_error_and_its_bytes_are_kept(
    run: Run, world: World, tmp_path: Path
) -> None:
    world.cut[ESM] = [1000, 0]
    code, _, said = run(*RUN_IT)
    assert code == 1
    size = (world.folder / ESM).stat().st_size
    assert f"ended after 1,000 of {size:,} bytes; run this again" in complaint(said)
    part = tmp_path / "work/downloads" / f"{ESM}.part"
    assert part.stat().st_size == 1000


def test_bytes_of_another_file_are_thrown_away(world: World, tmp_path: Path) -> None:
    part = tmp_path / "work" / f"{ESM}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"from a mirror of something else")
    world.files = {ESM: "weights"}
    fetch(read_list(world.listed(tmp_path / "files.json"))[1], tmp_path / "work", room=0, say=str)
    assert world.seen == [f"{ESM} from 31", ESM]
    assert part.with_suffix("").read_bytes() == (world.folder / ESM).read_bytes()


def test_a_wrong_hash_is_refused_and_nothing_of_it_is_kept(
    run: Run, world: World, tmp_path: Path
) -> None:
    listed = world.listed(tmp_path / "files.json", **{ESM: {"sha256": "0" * 64}})
    code, _, said = run(*RUN_IT, listed=listed)
    assert code == 1
    assert f"{ESM} is not the file that is pinned: its sha256 is" in complaint(said)
    assert not list((tmp_path / "work").rglob("esm2_tiny*"))
    listed = world.listed(tmp_path / "files.json", **{CLASSIFIER: {"git_blob": "0" * 40}})
    assert "its git_blob is" in complaint(run(*RUN_IT, listed=listed)[2])
    listed = world.listed(tmp_path / "files.json", **{ESM: {"sha256": None}})
    code, _, said = run(*RUN_IT, listed=listed)
    assert code == 2
    assert "nothing is fetched without a hash" in complaint(said)


def test_a_file_changed_here_is_noticed(run: Run, world: World, tmp_path: Path) -> None:
    there = tmp_path / "work/downloads" / ESM
    there.parent.mkdir(parents=True)
    there.write_bytes(b"changed")
    assert f"{there} is not the file that is pinned" in complaint(run(*RUN_IT)[2])
    assert there.read_bytes() == b"changed"
    assert world.seen == []


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"url": "http://127.0.0.1:1/esm2_tiny.pt"}, "127.0.0.1 cannot be reached"),
        ({"url": "{address}/none.pt"}, "none.pt answers 404 Not Found"),
        ({"size": 7}, "not the 7 of the pinned file"),
        ({"size": 1 << 60}, "GB free; the downloads need 1152921504"),
    ],
)
def test_each_fault_is_one_clear_error(
    entry: dict[str, Any], error: str, run: Run, world: World, tmp_path: Path
) -> None:
    if "url" in entry:
        entry = {"url": entry["url"].format(address=world.address)}
    code, _, said = run(*RUN_IT, listed=world.listed(tmp_path / "files.json", **{ESM: entry}))
    assert code == 1
    assert error in complaint(said)


def test_a_classifier_that_would_run_code_stops_it_before_anything_runs(
    run: Run, world: World
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("executed",))

    module = trained(published_world.WIDTH)
    module.extra = Trap()
    with as_main(MLPClassifier):
        torch.save(module, world.folder / CLASSIFIER)
    code, _, said = run(*RUN_IT)
    assert code == 1
    assert "print, which is not part of a tensor" in complaint(said)
    assert not world.ran.exists()


def test_code_that_fails_is_told_with_its_last_words(run: Run, world: World) -> None:
    (world.folder / "code/prediction.py").write_text("raise SystemExit('no GPU is left')")
    code, _, said = run(*RUN_IT)
    assert code == 1
    assert "the published code ended with 1: no GPU is left" in complaint(said)


def test_wrong_calls(run: Run, world: World, tmp_path: Path) -> None:
    fasta = tmp_path / "mine.fa"
    fasta.write_text(">a\nACGT\n")
    code, _, said = run("--fasta", str(fasta))
    assert code == 2
    assert "also give --run-published-code" in complaint(said)
    assert world.seen == []
    new = published_world.new_interpreter(tmp_path / "python")
    with (tmp_path / "work/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, said = run()
    assert code == 1
    assert "another run is at work" in complaint(said)
    code, _, said = run("--run-published-code", "--python", str(new))
    assert code == 2
    assert "is Python 3.13; the published requirements need 3.8 to 3.11" in complaint(said)


def test_the_list_is_whole_and_every_file_is_pinned() -> None:
    content, files = read_list(FILES)
    assert content["recipe"] == "virnucpro"
    names = [str(file.path) for file in files]
    assert len(set(names)) == len(names)
    for file in files:
        assert len(file.digest) == {"sha256": 64, "git_blob": 40}[file.algorithm]
        commits = (content["code"]["commit"], content["code"]["hub"]["revision"])
        assert (
            "fair-esm" in file.url
            or "virnucpro-broad" in file.url
            or any(commit in file.url for commit in commits)
        )
    parts = {file.part for file in files}
    assert parts == {"weights", "code", "example", "reference", "classifier 300", "classifier 500"}
    docs = (FILES.parents[2] / "docs/classify.md").read_text()
    for name in CLASSIFIERS:
        [pin] = [file for file in files if str(file.path) == name]
        assert f"| `{name}` | `{pin.digest}` |" in docs
        assert pin.url in docs
