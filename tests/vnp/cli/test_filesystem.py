"""``vnp doctor --filesystem``: two processes, two hosts, what it says and what it leaves."""

from __future__ import annotations

import errno
import functools
import json
import os
import queue
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.filesystem import primitives
from tests.hosts.hosts import HOUR, Host, why_not
from tests.rows import filled_store
from vnp.cli.main import main


def doctor(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", "--filesystem", *map(str, words), "--json"])
    checks = json.loads(capsys.readouterr().out)
    return code, {check["what"]: check for check in checks}


def test_two_processes_of_this_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = doctor(capsys, tmp_path)
    assert code == 0, checks
    assert "torch" not in checks, "nothing else is checked"
    assert {"mount", "link", "O_EXCL", "rename", "mmap", "flock"} <= set(checks)
    other = checks["second process"]["values"]["other"]
    assert other["pid"] != os.getpid()
    assert checks["second process"]["values"]["two_hosts"] is False
    assert checks["race for names"]["state"] == "ok"
    assert checks["verdict"]["values"]["problems"] == []
    assert list(tmp_path.iterdir()) == [], "nothing is left"


def test_a_primitive_that_fails_is_in_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    system = functools.partial(primitives.System, link=link)
    monkeypatch.setattr(primitives, "System", system)
    assert main(["doctor", "--filesystem", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("problem  link: ") for line in lines)
    assert lines[-1].startswith("problem  verdict: ")
    assert lines[-1].endswith("NOT fit for a store here: link")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def exfat(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system without hard links."""
    programs = ("losetup", "mkfs.exfat", "mount.exfat-fuse", "umount")
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")
    image, folder = tmp_path / "image", tmp_path / "exfat"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    folder.mkdir()

    def call(*command: object) -> str:
        words = [str(word) for word in command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    call("mkfs.exfat", image)
    try:
        device = call("losetup", "--find", "--show", image)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop device may be made: {error.stderr.strip()}")
    try:
        try:
            call("mount.exfat-fuse", device, folder)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"nothing may be mounted: {error.stderr.strip()}")
        yield folder
        call("umount", folder)
    finally:
        call("losetup", "--detach", device)


def test_a_file_system_without_hard_links(exfat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = doctor(capsys, exfat)
    assert code == 1
    assert checks["mount"]["values"]["kind"].startswith("fuse")
    assert checks["link"]["state"] == "problem"
    assert "Claims are made by link()" in checks["link"]["found"]
    assert checks["second process"]["state"] == "note"
    assert checks["mmap"]["state"] == "ok"
    assert "link" in checks["verdict"]["values"]["problems"]
    assert list(exfat.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--filesystem {}/none", "is not a folder"),
        ("--filesystem {} --join ../x", "is not the word that the other process printed"),
        ("--filesystem {} --join 0123456789ab", "is not there"),
        ("--filesystem {} --join 0123456789ab --second-host", "give one"),
        ("--filesystem {} --golden x.pt --fasta x.fa", "leave the others out"),
        ("{}/run.zarr --filesystem {}", "leave the others out"),
        ("--second-host", "name the folder"),
        ("--join 0123456789ab", "name the folder"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    assert main(["doctor", *words.replace("{}", str(tmp_path)).split()]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    hosts = Host("alpha"), Host("beta", ahead=HOUR)
    yield hosts
    for host in hosts:
        host.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(why_not() is not None, reason=f"two hosts: {why_not()}")
def test_two_hosts_by_the_command_that_is_printed(tmp_path: Path, hosts: tuple[Host, Host]) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    store = filled_store(folder / "run.zarr", rows=40)
    words = ["-m", "vnp", "doctor", "--filesystem", str(folder)]
    leader = hosts[0].start(*words, "--second-host", "--json")
    assert leader.stderr is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(
        target=lambda: [lines.put(line) for line in leader.stderr], daemon=True
    ).start()
    said = lines.get(timeout=120)
    assert "on the second host: vnp doctor" in said
    command = shlex.split(said.partition("host: ")[2])
    joined = json.loads(hosts[1].run("-m", *command, "--json"))
    assert {check["state"] for check in joined} <= {"ok", "note"}
    assert leader.stdout is not None
    led = {check["what"]: check for check in json.loads(leader.stdout.read())}
    assert leader.wait(timeout=120) == 0
    assert led["second process"]["values"]["two_hosts"] is True
    assert led["second process"]["values"]["other"]["host"] == "beta"
    assert led["verdict"]["values"]["fit_for"] == "hosts"
    assert sorted(path.name for path in folder.iterdir()) == ["run.zarr", "run.zarr.vnp"]
    assert store.certify("small").complete
