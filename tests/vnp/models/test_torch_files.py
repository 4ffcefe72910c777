"""Files of torch.save are read as data; what names more than tensors is refused unexecuted."""

import builtins
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from vnp.models.errors import TorchFileError, UnsafeTorchFileError
from vnp.models.torch_files import load_torch_file


class Runs:
    """Unpickled by a careless reader, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Part:
    """Stands in for a module's class."""


CONTENT = {"ids": ["a", "b"], "data": torch.arange(6.0).reshape(2, 3), "more": [{"x": [1.5]}]}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("mapped", [True, False])
def test_tensors_lists_and_texts_are_read(tmp_path, zipped, mapped):
    path = tmp_path / "file.pt"
    torch.save(CONTENT, path, _use_new_zipfile_serialization=zipped)
    found = load_torch_file(path, mapped=mapped)
    assert torch.equal(found.pop("data"), CONTENT["data"])
    assert found == {"ids": ["a", "b"], "more": [{"x": [1.5]}]}


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int64", "uint8", "bool"])
def test_tensors_of_every_dtype_are_read(tmp_path, dtype):
    tensor = torch.ones(3, dtype=getattr(torch, dtype))
    torch.save({"x": nn.Parameter(tensor, requires_grad=False)}, tmp_path / "file.pt")
    assert load_torch_file(tmp_path / "file.pt")["x"].dtype == tensor.dtype


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_files_are_refused_by_name_and_nothing_runs(tmp_path, zipped):
    mark, path = tmp_path / "mark", tmp_path / "file.pt"
    cases = {
        "posix.system": Runs(os.system, f"touch {mark}"),
        "(builtins|__builtin__).eval": Runs(builtins.eval, f"open({str(mark)!r}, 'w')"),
        "torch.hub.load": {"x": [Runs(torch.hub.load, "a/b", "c")]},
        "torch.nn.modules.linear.Linear": nn.Linear(2, 2),
    }
    for name, content in cases.items():
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(UnsafeTorchFileError, match=f"file.pt names {name}.*nothing of it"):
            load_torch_file(path)
    assert not mark.exists()


def test_plain_pickles_and_indirect_names_are_refused(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "file.pt"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        raw = pickle.dumps(Runs(os.system, f"touch {mark}"), protocol)
        path.write_bytes(raw)
        with pytest.raises(TorchFileError):
            load_torch_file(path)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("z/data.pkl", raw)
            archive.writestr("z/version", "3\n")
        with pytest.raises(UnsafeTorchFileError, match=r"posix\.system|STACK_GLOBAL"):
            load_torch_file(path)
    assert not mark.exists()


def test_an_archive_behind_another_file_does_not_hide_it(tmp_path):
    """Torch goes by the first bytes, zipfile by the last: what torch reads is what is checked."""
    mark, path = tmp_path / "mark", tmp_path / "file.pt"
    torch.save(CONTENT, tmp_path / "harmless.pt")
    torch.save(Runs(os.system, f"touch {mark}"), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes() + (tmp_path / "harmless.pt").read_bytes())
    assert zipfile.is_zipfile(path)
    with pytest.raises(UnsafeTorchFileError, match="posix.system"):
        load_torch_file(path)
    assert not mark.exists()


def test_stand_ins_take_the_place_of_listed_classes(tmp_path):
    torch.save(nn.Linear(2, 3), tmp_path / "file.pt")
    found = load_torch_file(
        tmp_path / "file.pt", stand_ins={"torch.nn.modules.linear.Linear": Part}
    )
    assert isinstance(found, Part)
    assert vars(found)["_parameters"]["weight"].shape == (3, 2)


def test_archives_that_could_grow_in_memory_are_refused(tmp_path):
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"x" * 1000)
    with pytest.raises(TorchFileError, match="torch.save did not write"):
        load_torch_file(path)
    # A text of 4 GB, says the pickle; the file has a few bytes.
    path.write_bytes(pickle.PROTO + b"\x02" + pickle.BINUNICODE + b"\xff\xff\xff\xffabc")
    with pytest.raises(TorchFileError, match=r"file\.pt is damaged"):
        load_torch_file(path)


def test_damaged_and_missing_files_are_named(tmp_path):
    path = tmp_path / "file.pt"
    torch.save(CONTENT, path)
    whole = path.read_bytes()
    for content in (b"", b"text", bytes(100), b"PK\x03\x04 cut", whole[:200], whole[:-300]):
        path.write_bytes(content)
        with pytest.raises(TorchFileError, match=r"file\.pt"):
            load_torch_file(path)
    with pytest.raises(TorchFileError, match=r"none\.pt does not exist"):
        load_torch_file(tmp_path / "none.pt")
