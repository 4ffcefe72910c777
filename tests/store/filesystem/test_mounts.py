"""Which mount a folder lies on, and what its options mean for a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.filesystem.mounts import Mount, Reach, mount_of, remarks, verdict
from store.filesystem.trial import Trial

TABLE = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
41 27 0:44 / /nfs rw,nosuid shared:7 master:2 - nfs4 server:/nfs rw,vers=4.2,hard,local_lock=none
42 27 0:45 / /scratch rw - lustre 10.0.0.1@tcp:/lustre rw,flock,lazystatfs
43 27 0:46 / /bee\040gees rw - beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/beegfs-client.conf
44 42 0:47 /deep /scratch/deep rw - tmpfs none rw,size=4k
45 42 0:48 / /scratch/deep rw - xfs /dev/vdb rw
a line that is none
"""


def mounted(options: str, kind: str = "nfs4") -> Mount:
    table = f"1 1 0:1 / / rw - {kind} server:/x {options}\n"
    return mount_of(Path("/"), table=table)


def said(options: str, kind: str = "nfs4") -> dict[str, Trial]:
    return {trial.what: trial for trial in remarks(mounted(options, kind)) if trial.what != "mount"}


@pytest.mark.parametrize(
    ("folder", "kind", "reach"),
    [
        ("/tmp/x", "ext4", Reach.MACHINE),
        ("/nfss", "ext4", Reach.MACHINE),
        ("/nfs/me/run.zarr", "nfs4", Reach.HOSTS),
        ("/scratch", "lustre", Reach.HOSTS),
        ("/bee gees/x", "beegfs", Reach.HOSTS),
        ("/scratch/deep/x", "xfs", Reach.MACHINE),
    ],
)
def test_the_mount_of_a_folder(folder: str, kind: str, reach: Reach) -> None:
    mount = mount_of(Path(folder), table=TABLE)
    assert (mount.kind, mount.reach) == (kind, reach)


def test_the_options_of_mount_and_file_system() -> None:
    options = mount_of(Path("/nfs"), table=TABLE).options
    assert options["nosuid"] == options["hard"] == ""
    assert options["vers"] == "4.2"


def test_the_mount_of_a_real_folder(tmp_path: Path) -> None:
    mount = mount_of(tmp_path)
    assert tmp_path.resolve().is_relative_to(mount.point)
    assert mount.kind


def test_no_table_that_holds_it() -> None:
    with pytest.raises(OSError, match="no mount"):
        mount_of(Path("/x"), table="")


@pytest.mark.parametrize("option", ["soft", "softerr", "nocto"])
def test_options_of_nfs_that_lose_data(option: str) -> None:
    remark = said(f"rw,{option},lookupcache=positive")
    [trial] = remark.values()
    assert trial.state == "problem"
    assert "mount it with" in trial.found


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ("rw,hard", 60),
        ("rw,hard,acdirmin=2,acdirmax=5", 5),
        ("rw,actimeo=7", 7),
        ("rw,hard,lookupcache=all,acdirmax=odd", 60),
    ],
)
def test_how_late_nfs_sees_a_new_name(options: str, seconds: int) -> None:
    trial = said(options)["mount option lookupcache"]
    assert trial.state == "note"
    assert trial.values == {"seconds": seconds}
    assert "lookupcache=positive" in trial.found


@pytest.mark.parametrize("option", ["noac", "lookupcache=positive", "lookupcache=pos"])
def test_nfs_that_asks_the_server(option: str) -> None:
    assert said(f"rw,hard,{option}") == {}


def test_listings_of_nfs_that_are_too_old() -> None:
    assert said("rw,lookupcache=positive,acdirmax=60") == {}
    trial = said("rw,lookupcache=positive,actimeo=600")["mount option acdirmax"]
    assert trial.values == {"seconds": 600}


@pytest.mark.parametrize("options", ["nolock", "local_lock=all", "local_lock=flock"])
def test_locks_of_nfs(options: str) -> None:
    [trial] = said(f"rw,lookupcache=positive,{options}").values()
    assert trial.state == "note"
    assert "HDF5_USE_FILE_LOCKING=FALSE" in trial.found


def test_locks_of_lustre() -> None:
    assert said("rw,flock", "lustre") == {}
    assert list(said("rw", "lustre")) == ["mount option noflock"]
    assert list(said("rw,localflock", "lustre")) == ["mount option localflock"]


def test_what_does_not_last_and_what_cannot_be_written() -> None:
    assert list(said("rw", "tmpfs")) == ["tmpfs"]
    assert list(said("rw", "overlay")) == ["overlay"]
    assert said("ro", "beegfs")["mount option ro"].state == "problem"
    assert mounted("rw", "odd").reach is Reach.UNKNOWN


TWO_HOSTS = Trial("second process", "ok", "", {"two_hosts": True})
ONE_HOST = Trial("second process", "ok", "", {"two_hosts": False})


@pytest.mark.parametrize(
    ("kind", "tried", "fit_for"),
    [
        ("ext4", ONE_HOST, "machine"),
        ("nfs4", ONE_HOST, "machine"),
        ("lustre", TWO_HOSTS, "hosts"),
        ("odd", TWO_HOSTS, "hosts"),
    ],
)
def test_the_verdict(kind: str, tried: Trial, fit_for: str) -> None:
    found = verdict(mounted("rw", kind), [tried], two_hosts="COMMAND")
    assert (found.state, found.values["fit_for"]) == ("ok", fit_for)
    assert ("COMMAND" in found.found) == (kind == "nfs4")
    assert mounted("rw", kind).name in found.found
    problem = Trial("link", "problem", "")
    found = verdict(mounted("rw", kind), [tried, problem], two_hosts="COMMAND")
    assert (found.state, found.values["fit_for"]) == ("problem", "nothing")
    assert "NOT fit for a store here: link" in found.found


def test_a_verdict_without_a_known_mount() -> None:
    found = verdict(None, [ONE_HOST], two_hosts="COMMAND")
    assert found.state == "ok"
    assert "COMMAND" in found.found
