"""``pip install vnp`` without the extra: the store works, and what needs torch says so once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from store.io.optional import MissingPackageError
from tests.rows import filled_store
from vnp.cli.main import COMMANDS
from vnp.embed.supervisor import environment
from vnp.models import extra

EXAMPLE = Path(__file__).parents[2] / "vnp/data/lambda_phage.fa.gz"

# Runs lines of arguments in one process that finds no package of the extra; prints a JSON line for
# each: exit code, standard output, standard error.
_SCRIPT = """
import contextlib, io, json, sys, traceback

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "safetensors", "tokenizers", "huggingface_hub",
                                      "transformers"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from vnp.cli.main import main

for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(json.loads(line))
        except BaseException:
            code = traceback.format_exc()
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def without_torch(folder: Path, *commands: str) -> list[tuple[Any, str, str]]:
    lines = "".join(json.dumps(command.split()) + "\n" for command in commands)
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    return [tuple(json.loads(line)) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_the_store_works_without(tmp_path: Path) -> None:
    commands = [
        "init run.zarr --recipe demo",
        f"append run.zarr {EXAMPLE}",
        "status run.zarr",
        "verify run.zarr",
        "convert run.zarr run.h5",
        "export run.zarr --to run.npy --incomplete nan",
        "export run.zarr --to run_merged.pt --incomplete nan",
        "models",
        "models --add esm2_8m run.zarr",
        "completion bash",
        "launch slurm run.zarr --workers 2 --dry-run",
        "launch ray none.zarr --workers 2",
        "view none.zarr",
        "doctor run.zarr",
    ]
    found = without_torch(tmp_path, *commands)
    assert [code for code, _, _ in found] == [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1], found
    assert "none.zarr is not a vnp store" in found[-3][2]
    assert "none.zarr is not a vnp store" in found[-2][2]
    doctor = found[-1][1]
    assert "problem  torch" in doctor
    assert "ok       disk" in doctor
    code = _SCRIPT.partition("from vnp")[0] + (
        "import vnp\n"
        "run = vnp.open('run.zarr')\n"
        "assert run['demo_esm2'].shape == (45, 128) and run.merged()[:2].shape[0] == 2\n"
        "assert run.column('protein', 0, 1).decode()[0]\n"
        "assert vnp.status(run).rows == 45\n"
        "try:\n"
        "    vnp.embed(run, in_process=True)\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert said.stdout.endswith("not installed: pip install 'vnp[embed]'\n")


_NEED_IT = {
    "embed": "run.zarr",
    "worker": "run.zarr",
    "bench": "run.zarr",
    "precisions": "run.zarr",
    "predict": "run.zarr --classifier x.pth",
    "classifier": "convert x.pth y.safetensors",
    "train": "run.zarr --labels x.tsv -o y.safetensors",
    "dataset": "--input viral x.gbff -o set",
    "import": "run.zarr x_ESM.pt --fasta x.fa",
    "compare": "run.zarr x_ESM.pt",
    "run": "run.zarr x.fa --classifier x.pth",
    "report": "run.zarr",
    "residues": "run.zarr --model esm2_8m --rows 0 -o x.h5",
}


def test_what_needs_torch_says_so_in_one_line(tmp_path: Path) -> None:
    commands = [f"{name} {arguments}" for name, arguments in _NEED_IT.items()]
    commands += [
        "run new.zarr x.fa --classifier x.pth --recipe demo",
        "embed run.zarr --device cpu",
    ]
    doctor = f"doctor --golden x.pt --fasta {EXAMPLE}"
    for command, (code, out, err) in zip(
        [*commands, doctor], without_torch(tmp_path, *commands, doctor), strict=True
    ):
        assert code == 2, (command, code, out, err)
        assert out == ""
        assert err.count("\n") == 1, err
        assert err.startswith(f"vnp {command.split()[0]}: error: ")
        assert "needs torch" in err
        assert err.endswith("pip install 'vnp[embed]'\n")
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_a_complete_store_is_certified_without_loading_torch(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr")
    code = (
        "import sys\n"
        "from vnp.cli.main import main\n"
        "assert main(['embed', 'run.zarr', '--device', 'cuda']) == 0\n"
        "print(sorted({'torch', 'tokenizers', 'safetensors', 'numba'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert f"{store.n_rows:,} of {store.n_rows:,} rows certified" in done.stdout


def test_every_command_is_in_one_of_the_two_lists() -> None:
    works = {"init", "append", "launch", "status", "verify", "convert", "export", "models"}
    works |= {"doctor", "completion", "view"}
    assert works | set(_NEED_IT) == set(COMMANDS)
    assert not works & set(_NEED_IT)


def test_the_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    extra.require_embed("this")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert extra.missing_packages() == ["safetensors"]
    with pytest.raises(MissingPackageError) as raised:
        extra.require_embed("this")
    advice = "pip install 'vnp[embed]'"
    expected = f"this needs safetensors, which is not installed: {advice}"
    assert str(raised.value) == expected
