"""Messages: which are shown, where they go, and that they never mix with results."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vnp.cli.main import main, parser

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "vnp/data/lambda_phage.fa.gz"
DEMO = "the demo models are small models with random weights"


def init(path: Path, *arguments: str) -> list[str]:
    return ["init", str(path), "--recipe", "demo", *arguments]


def test_messages_are_plain_lines_and_quiet_leaves_them_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(init(tmp_path / "a.zarr")) == 0
    assert capsys.readouterr().err.startswith(f"vnp: {DEMO}")
    assert main(init(tmp_path / "b.zarr", "--quiet")) == 0
    assert capsys.readouterr().err == ""


def test_quiet_shows_no_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "a.zarr")
    assert main(init(tmp_path / "a.zarr", "-q")) == 0
    assert main(["append", path, str(EXAMPLE), "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["append", path, str(EXAMPLE), "--sample", "b", "--allow-same-content"]) == 0
    assert "append b: 48,502 bases" in capsys.readouterr().err, "the next command shows it again"


def test_a_log_file_has_times_and_names_even_when_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "vnp.log"
    for name in ("a.zarr", "b.zarr"):
        assert main(init(tmp_path / name, "-q", "--log-file", str(file))) == 0
    lines = file.read_text().splitlines()
    told = [line for line in lines if DEMO in line]
    assert len(told) == 2, "appended to, and no message twice"
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO vnp\.", told[0])
    assert DEMO not in capsys.readouterr().err


def test_a_log_file_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.zarr"
    assert main(init(path, "--log-file", str(tmp_path / "none" / "vnp.log"))) == 1
    assert "vnp init: error: " in capsys.readouterr().err
    assert not path.exists()


def test_configuring_again_shows_each_message_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        capsys.readouterr()
        assert main(init(tmp_path / name)) == 0
        assert capsys.readouterr().err.count(DEMO) == 1
    for package in ("vnp", "store"):
        assert len(logging.getLogger(package).handlers) == 1


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_closed_standard_error_does_not_put_messages_among_results(
    tmp_path: Path, redirection: str
) -> None:
    path = tmp_path / "a.zarr"
    for command in (["init", path, "--recipe", "demo"], ["append", path, EXAMPLE]):
        text = " ".join(f"'{part}'" for part in [sys.executable, "-m", "vnp", *command, "--json"])
        done = subprocess.run(
            f"{text} {redirection}",
            shell=True,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=ROOT,
        )
        json.loads(done.stdout)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_log_file_on_a_full_disk_is_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(init(tmp_path / "a.zarr", "--log-file", "/dev/full")) == 0
    said = capsys.readouterr().err
    assert said.count("/dev/full lacks messages: [Errno 28] No space left") == 1
    assert "Traceback" not in said
    assert main(init(tmp_path / "b.zarr")) == 0, "the next command does not pay for it"


@pytest.mark.parametrize(
    "command",
    [
        "embed run.zarr",
        "run run.zarr a.fa --classifier c.pth",
        "classifier convert a.pth b.safetensors",
    ],
)
def test_every_command_takes_the_options(command: str) -> None:
    options = parser().parse_args([*command.split(), "-q", "--log-file", "x.log"])
    assert (options.quiet, options.log_file) == (True, Path("x.log"))
    assert "verbose" not in options


def test_an_action_leaves_what_its_command_was_given() -> None:
    options = parser().parse_args(["classifier", "--quiet", "convert", "a.pth", "b.safetensors"])
    assert options.quiet
