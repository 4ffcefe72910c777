"""Weights are read ahead by threads: each tensor whole, few ahead, in whatever order asked for."""

import threading

import pytest
import torch

from tests.vnp.inference.engine_setup import encoder_of, tokens_of
from tests.vnp.models.checkpoints import random_state, tiny
from vnp.inference.upload import Upload

CPU = torch.device("cpu")


def tensors_of(count=12):
    generator = torch.Generator().manual_seed(0)
    made = {
        f"t{number}": torch.randn((number + 1, 5), generator=generator) for number in range(count)
    }
    made["half"] = torch.randn((3, 4), generator=generator).half()
    made["turned"] = torch.randn((6, 7), generator=generator).t()
    made["one"] = torch.tensor(2.5)
    made["none"] = torch.empty(0, 3)
    return made


@pytest.mark.parametrize("window", [1, 100, 1 << 20])
@pytest.mark.parametrize("turned", [False, True])
def test_every_tensor_whole_in_any_order_and_again(window, turned):
    tensors = tensors_of()
    with Upload(tensors, CPU, threads=3, window=window) as upload:
        assert list(upload) == list(tensors)
        names = list(tensors)[::-1] if turned else list(tensors)
        for name in [*names, *names[:3]]:
            found = upload[name]
            assert torch.equal(found, tensors[name])
            assert found.dtype == tensors[name].dtype
            assert found.numel() == 0 or found.data_ptr() != tensors[name].data_ptr()
        with pytest.raises(KeyError):
            upload["another"]


def test_no_more_is_ahead_than_the_window(monkeypatch):
    loaded, enough = [], threading.Event()
    plain = Upload._load

    def load(self, tensor):
        loaded.append(tensor)
        if len(loaded) == 3:
            enough.set()
        return plain(self, tensor)

    monkeypatch.setattr(Upload, "_load", load)
    tensors = {f"t{number}": torch.zeros(100) for number in range(9)}
    with Upload(tensors, CPU, threads=2, window=801) as upload:
        assert enough.wait(60)
        assert len(upload._ahead) == 3  # of 400 bytes each: the third begins below the window
        upload["t0"]
        assert len(upload._ahead) == 3
    assert len(loaded) <= 4


def test_an_error_comes_to_whom_it_concerns(monkeypatch):
    plain = Upload._load

    def load(self, tensor):
        if len(tensor) == 2:
            raise OSError("the file is gone")
        return plain(self, tensor)

    monkeypatch.setattr(Upload, "_load", load)
    with Upload({"a": torch.zeros(1), "b": torch.zeros(2)}, CPU) as upload:
        assert len(upload["a"]) == 1
        with pytest.raises(OSError, match="gone"):
            upload["b"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_every_piece_arrives(monkeypatch):
    device = torch.device("cuda", 0)
    tensors = {f"t{number}": torch.randn(300 + number, 1000) for number in range(40)}
    with Upload(tensors, device, window=4 << 20, piece=1 << 18) as upload:
        for name, tensor in tensors.items():
            found = upload[name]
            assert found.device == device
            sums = found @ found.t()  # in flight while its memory is given to others
            del found
            assert torch.isfinite(sums).all()
            assert torch.equal(upload[name].cpu(), tensor)


@pytest.mark.parametrize("architecture", ["esm2", "mosaicbert"])
def test_an_engine_is_the_same_from_it(architecture):
    spec = tiny(architecture, dim=48, heads=3 if architecture == "mosaicbert" else 2)
    state, tokens = random_state(spec), tokens_of([3, 40, 9])
    with Upload(state, CPU, window=2000) as upload:
        found = encoder_of(spec, state=upload).embed(tokens)
    assert (found == encoder_of(spec, state=state).embed(tokens)).all()
