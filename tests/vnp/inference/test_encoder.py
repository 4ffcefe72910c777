"""The encoder interface: order, pooling, batches, memory, provenance."""

import functools
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from store.errors import UsageError
from store.io.ragged import from_items
from tests.vnp.models.checkpoints import random_state, tiny, write_checkpoint
from vnp.inference.batch_layout import pooled_span
from vnp.inference.device import place
from vnp.inference.encoder import Encoder
from vnp.inference.load import load_encoder, tokenizer_of
from vnp.inference.loop import LoopEncoder
from vnp.inference.ops import cpu
from vnp.inference.ops import torch as plain
from vnp.models import files, registry
from vnp.models.errors import DeviceError, RecordTooLongError, UnknownModelError, WeightsError
from vnp.models.packing import plan
from vnp.models.tokens import Tokens

pytestmark = pytest.mark.slow

DEMO = ["demo_dnabert_s", "demo_esm2"]


def sequences(count=120, *, seed=0):
    """Random records: (nucleotide, protein) columns of the same number of rows."""
    generator = np.random.default_rng(seed)
    lengths = generator.choice([9, 12, 90, 150, 153, 498], count)
    bases = np.frombuffer(b"ACGT", np.uint8)
    residues = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)
    nucleotide = [generator.choice(bases, length).tobytes() for length in lengths]
    protein = [generator.choice(residues, length // 3).tobytes() for length in lengths]
    return from_items(nucleotide), from_items(protein)


def load(name, **options):
    """In float32, whatever the processor, by one thread: on busy cores more are slower."""
    return load_encoder(name, **({"threads": 1, "precision": "float32"} | options))


def has_instructions(monkeypatch, *flags):
    """A processor that multiplies bfloat16 by these, and no other instructions."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(flags, True))


@functools.cache
def demo_tokens(name):
    encoder = load(name)
    tokens = encoder.tokenise(*sequences())
    return tokens, encoder.embed(tokens)


def say_nothing_of(message):
    raise AssertionError(message)


@pytest.mark.parametrize("name", DEMO)
def test_rows_come_in_the_order_given(name):
    encoder: Encoder = load(name, warn=say_nothing_of)
    _, rows = demo_tokens(name)
    assert rows.shape == (120, encoder.dim)
    assert rows.dtype == np.float32
    nucleotide, protein = sequences()
    for record in (0, 7, 119):
        alone = encoder.embed(
            encoder.tokenise(
                nucleotide.slice(record, record + 1), protein.slice(record, record + 1)
            )
        )
        assert np.abs(alone[0] - rows[record]).max() < 2e-5


@pytest.mark.parametrize("name", DEMO)
def test_same_block_same_bits_whatever_ran_before(name):
    tokens, rows = demo_tokens(name)
    encoder = load(name)
    encoder.embed(encoder.tokenise(*sequences(33, seed=5)))
    assert np.array_equal(encoder.embed(tokens), rows)


@pytest.mark.parametrize("name", DEMO)
@pytest.mark.parametrize("token_budget", [1, 100, 1000, 100_000])
def test_budget_changes_rounding_only(name, token_budget):
    tokens, rows = demo_tokens(name)
    got = load(name, token_budget=token_budget).embed(tokens)
    assert np.abs(got - rows).max() < 2e-5


@pytest.mark.parametrize("name", DEMO)
def test_demo_rows_tell_records_apart(name):
    _, rows = demo_tokens(name)
    assert np.isfinite(rows).all()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(len(rows), 1)]
    assert cosines.mean() < 0.97
    assert cosines.max() < 0.9999
    assert rows.std(axis=0).min() > 0.02


def test_no_records():
    for name in DEMO:
        encoder = load(name)
        rows = encoder.embed(encoder.tokenise(from_items([]), from_items([])))
        assert rows.shape == (0, encoder.dim)


class Positions:
    """A model whose hidden states say where each token is: (token id, position in the record)."""

    padding_id = 1

    def workspace(self, rows):
        return SimpleNamespace(rows=rows)

    def __call__(self, layout, _work, out_nD):
        x_TD = torch.stack([layout.ids.float(), layout.positions.float()], dim=1)
        plain.pool(x_TD, out_nD, layout)


class Limited(Positions):
    """A model on a device with room for so many tokens."""

    def __init__(self, engine, room, error=None):
        self.engine, self.room = engine, room
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")

    def workspace(self, rows):
        return self.engine.workspace(rows)

    def __call__(self, layout, work, out_nD):
        if layout.rows > self.room:
            raise self.error
        self.engine(layout, work, out_nD)


def stub(spec, engine, *, token_budget=4096, warn=say_nothing_of):
    """An encoder with an engine of our own in place of the model's."""
    return LoopEncoder(
        spec,
        engine,
        tokenizer_of(registry.model("esm2_8m"), None),
        placement=place("cpu", precision="auto", threads=1, warn=warn),
        token_budget=token_budget,
        identity={},
        environment={},
        warn=warn,
    )


@pytest.mark.parametrize("residues", [1, 2, 1023, 1024, 1025, 3000])
def test_esm_mean_is_over_at_most_1024_residues(residues):
    encoder = stub(tiny("esm2", dim=2, heads=1), Positions())
    rows = encoder.embed(encoder.tokenise(from_items([]), from_items([b"A" * residues, b"L"])))
    counted = min(residues, 1024)
    # Residues are at positions 1 to n; <cls> at 0 and <eos> at n + 1 must not count.
    assert rows[0].tolist() == pytest.approx([5.0, (1 + counted) / 2])
    assert rows[1].tolist() == [4.0, 1.0]


def test_dnabert_mean_is_over_all_tokens():
    encoder = stub(tiny("mosaicbert", dim=2, heads=1), Positions())
    tokens = Tokens(np.array([1, 50, 60, 2, 1, 9, 2], dtype=np.int32), np.array([4, 3]))
    rows = encoder.embed(tokens)
    assert rows.ravel().tolist() == pytest.approx([113 / 4, 1.5, 4.0, 1.0])
    assert pooled_span("mean_all_tokens", 3000) == (0, 3000)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_halves_the_budget_and_says_so(error):
    tokens, rows = demo_tokens("demo_esm2")
    said = []
    encoder = load("demo_esm2", token_budget=4096, warn=said.append)
    encoder._engine = Limited(encoder._engine, 600, error)
    got = encoder.embed(tokens)
    assert encoder.token_budget <= 600
    assert encoder.provenance().environment["token_budget"] == str(encoder.token_budget)
    assert np.abs(got - rows).max() < 2e-5
    assert said
    assert all("ran out of memory on a batch of" in message for message in said)
    # The rows are those of an encoder that had the smaller budget from the start.
    small = load("demo_esm2", token_budget=encoder.token_budget)
    assert np.array_equal(small.embed(tokens), got)
    before = len(said)
    encoder.embed(tokens)
    assert len(said) == before


def test_between_is_told_of_progress_and_may_end_the_call():
    tokens, rows = demo_tokens("demo_esm2")
    encoder = load("demo_esm2", token_budget=1000)
    done = []
    assert np.abs(encoder.embed(tokens, between=done.append) - rows).max() < 2e-5
    assert done == sorted(set(done))
    assert done[-1] == len(tokens)
    assert len(done) == len(plan(tokens.lengths, token_budget=1000))

    def stop(_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoder.embed(tokens, between=stop)


def test_record_that_never_fits_is_named():
    said = []
    encoder = load("demo_esm2", warn=said.append)
    encoder._engine = Limited(encoder._engine, 60)
    tokens = encoder.tokenise(from_items([]), from_items([b"A" * 10, b"A" * 500, b"A" * 10]))
    with pytest.raises(RecordTooLongError, match="record 2 of 3 has 502 tokens"):
        encoder.embed(tokens)


def test_other_errors_pass():
    encoder = load("demo_esm2", warn=say_nothing_of)
    encoder._engine = Limited(encoder._engine, 0, RuntimeError("device-side assert"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        encoder.embed(demo_tokens("demo_esm2")[0])


def test_tokenise_in_a_thread_while_embedding():
    encoder = load("demo_dnabert_s")
    tokens, rows = demo_tokens("demo_dnabert_s")
    made = []

    def tokenise():
        made.extend(encoder.tokenise(*sequences()) for _ in range(5))

    thread = threading.Thread(target=tokenise)
    thread.start()
    assert np.array_equal(encoder.embed(tokens), rows)
    thread.join()
    assert all(np.array_equal(each.ids, tokens.ids) for each in made)


def test_provenance_says_what_must_match_and_what_ran(monkeypatch):
    has_instructions(monkeypatch)
    encoder = load_encoder("demo_dnabert_s")
    told = encoder.provenance()
    assert set(told.identity) == {"model", "weights", "tokenizer", "pooling", "precision"}
    assert told.identity["precision"] == "float32"
    assert told.identity["weights"].startswith("sha256:")
    assert told.environment["torch"] == torch.__version__
    assert told.environment["threads"] == str(len(os.sched_getaffinity(0)))
    assert all(isinstance(v, str) for part in told.as_dict().values() for v in part.values())
    assert load("demo_dnabert_s", token_budget=9).provenance().identity == told.identity
    short = load("demo_dnabert_s", precision="bfloat16").provenance()
    assert short.identity != told.identity
    assert told.environment["engine"] == "oneDNN, weights packed"
    assert load("demo_dnabert_s", precision="float16").environment["engine"] == (
        "plain torch (oneDNN's products here are not for float16)"
    )


@pytest.mark.parametrize("name", [*DEMO, "some_esm2"])
def test_a_cpu_that_multiplies_bfloat16_takes_it(monkeypatch, tmp_path, name):
    options = {"device": "cpu", "threads": 1}
    if name not in DEMO:
        spec = tiny("esm2", name=name, repo=f"someone/{name}")
        monkeypatch.setitem(registry.MODELS, name, spec)
        write_checkpoint(tmp_path / name, spec, random_state(spec, prefix=True))
        options |= {"weights_dir": tmp_path}
    for flag, instructions in (("avx512_bf16", "AVX512-BF16"), ("amx_bf16", "AMX-BF16")):
        has_instructions(monkeypatch, flag)
        said = []
        told = load_encoder(name, warn=said.append, **options).provenance()
        assert told.identity["precision"] == "bfloat16"
        assert told.environment["chosen"] == f"device cpu, precision auto ({instructions})"
        if name not in DEMO:
            (line,) = said
            assert "running on the CPU, in bfloat16" in line
            assert instructions in line
            assert "--precision float32" in line
        exact = load_encoder(name, precision="float32", warn=say_nothing_of, **options)
        assert exact.provenance().identity["precision"] == "float32"
    has_instructions(monkeypatch)
    told = load_encoder(name, warn=say_nothing_of, **options).provenance()
    assert told.identity["precision"] == "float32"
    assert told.environment["chosen"] == "device cpu, precision auto"


def test_products_of_onednn_are_tried_before_they_are_used(monkeypatch):
    has_instructions(monkeypatch)
    _, rows = demo_tokens("demo_esm2")

    def broken(weight_OI):
        raise RuntimeError("no such primitive\nat some line")

    def wrong(weight_OI):
        return torch.ops.mkldnn._reorder_linear_weight(weight_OI.roll(1, 0).contiguous(), 1024)

    for pack, reason in ((broken, "oneDNN: no such primitive"), (wrong, "are off by")):
        monkeypatch.setattr(cpu, "_packed", pack)
        encoder = load("demo_esm2")
        assert reason in encoder.environment["engine"]
        assert encoder.environment["engine"].startswith("plain torch")
        assert np.abs(encoder.embed(demo_tokens("demo_esm2")[0]) - rows).max() < 2e-5


def test_without_instructions_bfloat16_is_slow_and_said(monkeypatch):
    has_instructions(monkeypatch)
    said = []
    placement = place("cpu", precision="bfloat16", threads=1, warn=said.append)
    assert placement.precision == "bfloat16"
    assert "no instructions for bfloat16" in said[0]
    assert "slower" in said[0]
    has_instructions(monkeypatch, "avx512_bf16")
    placement = place("cpu", precision="auto", threads=1, warn=say_nothing_of)
    assert placement.precision == "float32"  # of models that transformers or a plug-in run


def test_short_precision_is_near():
    for name in DEMO:
        tokens, rows = demo_tokens(name)
        short = load(name, precision="bfloat16").embed(tokens)
        cosine = (short * rows).sum(1) / np.linalg.norm(short, axis=1)
        assert (cosine / np.linalg.norm(rows, axis=1)).min() > 0.999


def test_published_model_from_a_folder(tmp_path, monkeypatch):
    """The whole way of a real model, in small: registry, files, hash, tokenizer, rows."""
    spec = tiny("mosaicbert", name="dnabert_s", repo="zhihan1996/DNABERT-S")
    monkeypatch.setitem(registry.MODELS, "dnabert_s", spec)
    write_checkpoint(tmp_path / "DNABERT-S", spec, random_state(spec, prefix=True), kind="bin")
    said = []
    encoder = load("dnabert_s", weights_dir=tmp_path, warn=said.append)
    assert len(said) == 1
    assert "running on the CPU" in said[0]
    rows = encoder.embed(encoder.tokenise(*sequences(5)))
    assert rows.shape == (5, 32)
    environment = encoder.provenance().environment
    assert environment["origin"] == "folder"
    assert environment["repository"] == "zhihan1996/DNABERT-S"
    with pytest.raises(WeightsError, match=r"someone/Some-Model"):
        files.locate(tiny("mosaicbert", name="DNABERT-S", dim=64), weights_dir=tmp_path)


def test_what_cannot_be_had_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnknownModelError):
        load_encoder("esm9")
    with pytest.raises(DeviceError, match="sees no CUDA device"):
        load("demo_esm2", device="cuda:0")
    with pytest.raises(UsageError, match="unknown device 'tpu'; give auto, "):
        load("demo_esm2", device="tpu")
    with pytest.raises(UsageError, match="unknown precision 'fp4': choose auto, "):
        load("demo_esm2", precision="fp4")
    with pytest.raises(UsageError, match="0 threads"):
        load("demo_esm2", threads=0)
    with pytest.raises(UsageError, match="token budget"):
        load("demo_esm2", token_budget=0)


@pytest.mark.parametrize(
    ("capability", "asked", "settled", "warned"),
    [
        ((9, 0), "auto", "bfloat16", False),
        ((8, 0), "auto", "bfloat16", False),
        ((7, 5), "auto", "float16", True),
        ((7, 5), "float32", "float32", False),
    ],
)
def test_precision_follows_the_device(monkeypatch, capability, asked, settled, warned):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    said = []
    placement = place("cuda:1", precision=asked, threads=None, warn=said.append)
    assert placement.precision == settled
    assert placement.device == torch.device("cuda", 1)
    assert bool(said) == warned
    assert ("has no bfloat16" in placement.chosen) == warned
    with pytest.raises(DeviceError, match="there are 2 CUDA devices"):
        place("cuda:2", precision=asked, threads=None, warn=said.append)
    if capability < (8, 0):
        with pytest.raises(DeviceError, match=r"bfloat16 needs 8\.0"):
            place("cuda:1", precision="bfloat16", threads=None, warn=said.append)


def test_plan_is_of_the_lengths_alone():
    tokens, _ = demo_tokens("demo_esm2")
    first = plan(tokens.lengths, token_budget=777)
    second = plan(tokens.lengths.copy(), token_budget=777)
    assert all(np.array_equal(a.records, b.records) for a, b in zip(first, second, strict=True))


def _load_and_embed(folder):
    """Run in a fresh process: load a model from files and embed a few records."""
    encoder = load("esm2_8m", weights_dir=folder, warn=lambda _message: None)
    rows = encoder.embed(encoder.tokenise(*sequences(5)))
    return encoder.provenance().identity["weights"], rows.tobytes()


@pytest.mark.slow
def test_many_processes_load_at_once(tmp_path):
    spec = registry.model("esm2_8m")
    write_checkpoint(tmp_path / spec.name, spec, random_state(spec), shards=2)
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = set(pool.map(_load_and_embed, [tmp_path] * 6))
    assert len(results) == 1
