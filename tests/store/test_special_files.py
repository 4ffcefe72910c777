"""Whatever lies in the place of a file is named: nothing waits for it or reads it for ever."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from store.claims.claims import APPEND
from store.claims.participant import Participant
from store.errors import NotAStoreError, UsageError
from store.findings import Kind
from store.open import open_store
from store.repair import repair, verify_store
from store.store import Store
from tests.rows import append, expected, filled_store, publish
from vnp.cli.main import main
from vnp.embed.status import read_status

pytestmark = pytest.mark.slow


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def link_in_a_circle(path: Path) -> None:
    path.symlink_to(path.name)


def endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def directory(path: Path) -> None:
    path.mkdir()


def unix_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def huge(path: Path) -> None:
    """Ten terabytes that take no space."""
    with path.open("wb") as file:
        file.truncate(10 << 40)


MAKERS: list[Callable[[Path], None]] = [
    pipe,
    link_to_nothing,
    link_in_a_circle,
    endless_device,
    directory,
    unix_socket,
    huge,
]
FILES = [
    "obs/start/c.0",
    "obs/protein/c.1",
    "obs/start/zarr.json",
    "obsm/X_small/c.1.0",
    "obs/certificate_small/c.1",
    "obs/filled_small/c.1",
    "obs/filled_small/c.2",  # of the tail: its content is read
    "uns/vnp/small/c",
    "obs/phage_score1/c.0",
]


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = filled_store(tmp_path_factory.mktemp("pristine") / "run.zarr", rows=40)
    values = np.zeros((40, 2), np.float32)
    store.save_scores("phage", digest="sha256:1", values=values, rows=[(0, 40)])
    return store.path.parent


@pytest.mark.parametrize("make", MAKERS)
def test_anything_in_the_place_of_a_file_is_named(
    pristine: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    shutil.copytree(pristine, tmp_path / "copy")
    store = open_store(tmp_path / "copy/run.zarr")
    for name in FILES:
        (store.path / name).unlink()
        make(store.path / name)
        found = list(verify_store(store))
        assert any(finding.path == name or finding.block in (1, 2) for finding in found), name
        assert any(finding.is_damage for finding in found) or "filled" in name, name
        assert read_status(store).rows == 40
        certified = store.certify("small")
        assert not certified.complete or not name.startswith(("obsm", "obs/cert", "obs/filled"))
        if os.path.lexists(store.path / name):
            (store.path / name).rmdir() if make is directory else (store.path / name).unlink()
        shutil.copyfile(pristine / "run.zarr" / name, store.path / name)
    assert list(verify_store(store)) == []


@pytest.mark.parametrize("make", [pipe, link_to_nothing, endless_device, unix_socket, huge])
def test_repair_and_a_worker_bring_a_block_back(
    pristine: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    shutil.copytree(pristine, tmp_path / "copy")
    store = open_store(tmp_path / "copy/run.zarr")
    for name in ("obsm/X_small/c.1.0", "obs/certificate_small/c.0", "obs/filled_small/c.2"):
        (store.path / name).unlink()
        make(store.path / name)
    repair(store, list(verify_store(store)))
    for block in store.open_blocks("small").tolist():
        publish(store, "small", block)
    assert list(verify_store(open_store(store.path))) == []
    np.testing.assert_array_equal(store.read("small"), expected(store, "small"))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("kind", ["run.zarr", "run.zarr/zarr.json", "run.h5"])
def test_a_store_that_is_something_else_is_refused(
    tmp_path: Path,
    make: Callable[[Path], None],
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / kind
    path.parent.mkdir(exist_ok=True)
    make(path)
    store = path if path.suffix != ".json" else path.parent
    for command in ("status", "verify"):
        assert main([command, str(store)]) in (1, 2)
        said = capsys.readouterr().err
        assert said.startswith(f"vnp {command}: error: {os.path.realpath(store)}")
        assert said.count("\n") == 1
    with pytest.raises((NotAStoreError, UsageError)):
        open_store(store)


@pytest.mark.parametrize("make", MAKERS)
def test_a_claim_that_is_no_file_is_free_after_a_lease(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    claims = store.sidecar.path / "claims/small"
    claims.mkdir()
    make(claims / "0.1")
    me = Participant(store.sidecar.path, lease=60.0)
    now = 0.0
    me.liveness._clock = lambda: now
    assert me.claims.try_claim("small", 0) is None
    claim = None
    while claim is None and now < 200:
        now += 20.0
        claim = me.claims.try_claim("small", 0)
    assert claim is not None
    assert claim.epoch == 2
    assert claim.is_current()
    claim.release()
    assert read_status(store).rows == 40


@pytest.mark.parametrize("make", MAKERS)
def test_a_release_that_is_no_file_is_a_release(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    claims = store.sidecar.path / "claims" / APPEND
    last = max(int(path.name.split(".")[1]) for path in claims.glob("0.*"))
    (claims / f"0.{last}.released").unlink()
    make(claims / f"0.{last}.released")
    append(store, "more", 5)
    assert not (claims / "nowhere").exists(), "what a link names is not made"


@pytest.mark.parametrize("make", MAKERS)
def test_heartbeats_and_temporary_files_that_are_no_files(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    make(store.sidecar.path / "workers" / ("a" * 32))
    make(store.sidecar.tmp / f".c.0.0.{'b' * 32}.part")
    assert read_status(store).workers == ()
    [found] = verify_store(store)
    assert found.kind is Kind.ORPHAN
    repair(store, [found])
    assert os.listdir(store.sidecar.tmp) == []


def test_a_store_reached_through_links_works(tmp_path: Path) -> None:
    made = filled_store(tmp_path / "disk/run.zarr", rows=40).path
    link = tmp_path / "link.zarr"
    link.symlink_to(made)
    elsewhere = tmp_path / "other-disk"
    shutil.move(made / "obsm", elsewhere)
    (made / "obsm").symlink_to(elsewhere)
    annexed = made / "obs/start/c.0"  # as git-annex and DataLad keep files
    shutil.move(annexed, tmp_path / "annex")
    annexed.symlink_to(tmp_path / "annex")
    store: Store = open_store(link)
    assert list(verify_store(store)) == []
    np.testing.assert_array_equal(store.read("small"), expected(store, "small"))
    append(store, "more", 30)
    for model in ("small", "wide"):
        for block in store.open_blocks(model).tolist():
            publish(store, model, block)
    assert list(verify_store(store)) == []
