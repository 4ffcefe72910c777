"""Print what vnp requires, a line each, without vnp: ``requirements.py [EXTRA,EXTRA ...]``.

An image installs them in a layer of their own, which stays as it is when only vnp changes.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path


def requirements(extras: list[str]) -> list[str]:
    """Requirements of vnp and of its extras, each once."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    optional = project["optional-dependencies"]
    if unknown := [name for name in extras if name not in optional]:
        raise SystemExit(f"vnp has no extra {', '.join(unknown)}: choose of {', '.join(optional)}")

    def of(names: list[str]) -> Iterator[str]:
        for name in names:
            for line in optional[name]:
                own = re.fullmatch(r"vnp\[(.*)\]", line)
                yield from of(own[1].split(",")) if own else [line]

    return list(dict.fromkeys([*project["dependencies"], *of(extras)]))


if __name__ == "__main__":
    print("\n".join(requirements([name for name in ",".join(sys.argv[1:]).split(",") if name])))
