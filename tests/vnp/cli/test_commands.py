"""What ``vnp`` says without a command, or with one that is misspelt."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vnp.cli import main as cli
from vnp.cli.main import COMMANDS, main


def test_alone_it_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr()
    for name, about in COMMANDS.items():
        assert name in told.err
        assert about.split()[0] in told.err
    assert told.out == ""


def test_a_misspelt_option_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["status", "run.zarr", "--jsno"])
    assert end.value.code == 2
    assert "unrecognized arguments: --jsno; did you mean --json?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--json status run.zarr", "--json run.zarr; options follow the command"),
        ("-x status run.zarr", "-x run.zarr; options follow the command"),
        ("report --outptu x run.zarr", "--outptu run.zarr; did you mean --output?"),
        ("status -- run.zarr --json", "--json\n"),
        ("classifier convert a b --modls x", "--modls x; did you mean --models?"),
    ],
)
def test_an_option_in_the_wrong_place_or_with_a_short_form(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    assert f"unrecognized arguments: {said}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train run.zarr --lables=a.tsv -o b.safetensors", "unrecognized arguments: --lables; did "
         "you mean --labels? the following arguments are required: --labels\n"),
        ("predict run.zarr --classifer a.pth", "unrecognized arguments: --classifer; did you mean "
         "--classifier? the following arguments are required: --classifier\n"),
        ("predict run.zarr --xyz", "unrecognized arguments: --xyz; the following arguments are "
         "required: --classifier\n"),
        ("export run.zarr --too x.npy", "unrecognized arguments: --too; did you mean --to? the "
         "following arguments are required: -o/--to\n"),
        ("residues run.zarr --model a --row 1 -o c.h5", "unrecognized arguments: --row; did you "
         "mean --rows? one of the arguments --rows --ids is required\n"),
        ("residues run.zarr --model a -o c.h5", "one of the arguments --rows --ids is required\n"),
    ],
)  # fmt: skip
def test_a_misspelt_option_that_is_required_is_answered_with_the_nearest(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    assert f"error: {said}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("stauts", "did you mean status?"),
        ("apend", "did you mean append?"),
        ("xyzzy", "'vnp' alone lists the commands"),
    ],
)
def test_a_misspelt_command_is_answered_with_the_nearest(
    typed: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([typed, "run.zarr"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert f"unknown command {typed!r}; {hint}" in said


def test_signals_are_handled_as_before_when_a_command_is_over(tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    assert main(["status", str(tmp_path / "none.zarr")]) == 1
    assert [signal.getsignal(number) for number in numbers] == before


def test_no_signal_interrupts_the_import_of_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes an interrupt for a broken NumPy; whoever ends a process then ends it as a whole."""
    before, seen = signal.getsignal(signal.SIGUSR1), []
    parse = cli._given

    def given(*words: Any) -> Any:
        seen.append(signal.getsignal(signal.SIGUSR1))
        return parse(*words)

    monkeypatch.setattr(cli, "_given", given)
    assert main(["status", str(tmp_path / "none.zarr")]) == 1
    assert seen == [before]


def test_a_light_command_leaves_the_process_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    before = gc.get_threshold()
    assert main(["init", str(tmp_path / "run.zarr"), "--recipe", "demo"]) == 0
    assert gc.get_threshold() == before
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_a_light_command_starts_no_threads_of_blas(tmp_path: Path) -> None:
    made = f"main(['init', {str(tmp_path / 'run.zarr')!r}, '--recipe', 'demo'])"
    counted = "len(os.listdir('/proc/self/task'))"
    script = f"import os; from vnp.cli.main import main; print({made}, {counted})"
    environment = {key: value for key, value in os.environ.items() if "NUM_THREADS" not in key}
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert said.splitlines()[-1] == "0 1"
