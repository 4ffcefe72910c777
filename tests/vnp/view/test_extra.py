"""Without the extra ``view`` the other commands work, and this one says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.rows import filled_store

_SCRIPT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"starlette", "uvicorn", "anyio"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import vnp
from vnp.cli.main import main, parser

parser()  # the options of every command
assert main(["status", sys.argv[1], "-q"]) == 0
sys.exit(main(["view", sys.argv[1]]))
"""


def test_without_the_extra_one_line_names_it(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=20)
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(store.path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    said = (
        "vnp view: error: vnp view needs anyio, starlette, uvicorn, which are not installed: "
        "pip install 'vnp[view]'"
    )
    assert (run.returncode, run.stderr) == (2, f"{said}\n")


def test_other_commands_load_no_server() -> None:
    script = "import sys, vnp, vnp.cli.main as m; m.parser(); print('starlette' in sys.modules)"
    run = [sys.executable, "-c", script]
    root = Path(__file__).parents[3]
    assert subprocess.run(run, capture_output=True, check=True, cwd=root).stdout == b"False\n"
