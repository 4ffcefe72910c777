"""The JavaScript libraries of the report: fetch them again, and check what is in the repository.

``python tools/vendor_report.py`` packs the pinned versions with npm, compares the archives with
their integrity and the files with those in ``vnp/report/vendor``; ``--write`` puts the files there.
``vnp/report/vendor/vendor.json`` names packages, versions, hashes and files. To take another
version, change it there, with the integrity that ``npm view NAME@VERSION dist.integrity`` prints,
and run with ``--write``, which also notes the hashes of the files.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parent.parent / "vnp" / "report" / "vendor"


def packed(name: str, version: str, integrity: str, folder: Path) -> Path:
    """Fetch a package with npm, as an archive of the integrity that is expected."""
    command = ["npm", "pack", f"{name}@{version}", "--json", "--pack-destination", str(folder)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    answer = json.loads(result.stdout)
    [entry] = answer if isinstance(answer, list) else answer.values()
    archive = folder / Path(entry["filename"]).name
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != integrity:
        raise SystemExit(f"{name}@{version}: the archive is {found}, not {integrity}")
    return archive


def check(package: dict[str, Any], folder: Path, *, write: bool) -> list[str]:
    """Compare the files of a package, or write them; returns what differs."""
    differs = []
    archive = packed(package["name"], package["version"], package["integrity"], folder)
    with tarfile.open(archive) as members:
        for target, known in package["files"].items():
            member = members.extractfile(f"package/{known['from']}")
            assert member is not None  # a regular file
            content = member.read()
            digest = hashlib.sha256(content).hexdigest()
            if write:
                (VENDOR / target).write_bytes(content)
                known["sha256"] = digest
            elif digest != known["sha256"] or (VENDOR / target).read_bytes() != content:
                differs.append(target)
    return differs


def main() -> int:
    """Check the files, or write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the files into the repository")
    given = parser.parse_args()
    pins = VENDOR / "vendor.json"
    packages = json.loads(pins.read_text())
    differs: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for package in packages:
            differs += check(package, Path(folder), write=given.write)
    if given.write:
        pins.write_text(json.dumps(packages, indent=2) + "\n")
    for target in differs:
        print(f"{VENDOR / target} is not the file of the pinned package", file=sys.stderr)
    if not differs:
        print(f"{len(packages)} packages are as pinned")
    return 1 if differs else 0


if __name__ == "__main__":
    raise SystemExit(main())
