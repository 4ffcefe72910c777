"""The engine on the CPU, with its operations in plain torch: folding, layout, slots, memory."""

import contextlib
import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.vnp.inference.engine_setup import (
    PLAIN_FUSED,
    cosines,
    encoder_of,
    layout_of,
    reference,
    tokens_of,
)
from tests.vnp.models.checkpoints import random_state, tiny
from vnp.inference import kernels
from vnp.inference.batch_layout import BLOCK_KEYS, MOST_BLOCKS, TILE_ROWS
from vnp.inference.device import Placement
from vnp.inference.encoder import PipelinedEncoder
from vnp.inference.linear import FP8, FP8_MOST, Fp8Product, balanced, bound_scale
from vnp.inference.loop import LoopEncoder
from vnp.inference.ops import cpu
from vnp.inference.ops import torch as plain
from vnp.inference.quality import Quality, QualityError, compare
from vnp.inference.selftest import check_products
from vnp.inference.streams import _HostEvent
from vnp.models import registry
from vnp.models.errors import RecordTooLongError
from vnp.models.packing import fill, padded_rows
from vnp.models.tokens import Tokens

pytestmark = pytest.mark.slow

SPECS = {
    "esm2": tiny("esm2", dim=64, heads=4),
    "esm2_24": tiny("esm2", dim=48, heads=2),
    "mosaicbert": tiny("mosaicbert", dim=48, heads=3),
}
LENGTHS = [3, 9, 9, 52, 168, 100, 64, 65, 128, 420, 3]


@pytest.mark.parametrize("name", SPECS)
def test_folded_weights_compute_the_same(name):
    spec = SPECS[name]
    tokens = tokens_of(LENGTHS)
    encoder = encoder_of(spec)
    assert isinstance(encoder, PipelinedEncoder)
    assert np.abs(encoder.embed(tokens) - reference(spec, tokens)).max() < 2e-5
    looped = encoder_of(spec, kind=LoopEncoder)
    assert not isinstance(looped, PipelinedEncoder)
    assert np.abs(looped.embed(tokens) - reference(spec, tokens)).max() < 2e-5
    short = encoder_of(spec, precision="bfloat16").embed(tokens)
    assert cosines(short, reference(spec, tokens)).min() > 0.999


@pytest.mark.parametrize("name", SPECS)
def test_packed_products_compute_the_same(name):
    spec, tokens = SPECS[name], tokens_of(LENGTHS)
    expected = reference(spec, tokens)
    packed = encoder_of(spec, kind=LoopEncoder, ops=cpu)
    assert np.abs(packed.embed(tokens) - expected).max() < 2e-5
    short = [
        encoder_of(spec, kind=LoopEncoder, ops=ops, precision="bfloat16").embed(tokens)
        for ops in (cpu, plain)
    ]
    lowest = [cosines(each, expected).min() for each in short]
    assert lowest[0] > 0.999
    assert 1 - lowest[0] < 1.1 * (1 - lowest[1]), "its stream is in float32"
    assert np.array_equal(
        short[0], encoder_of(spec, kind=LoopEncoder, ops=cpu, precision="bfloat16").embed(tokens)
    )
    states = encoder_of(dataclasses.replace(spec, layer=1), kind=LoopEncoder, ops=cpu)
    other = encoder_of(dataclasses.replace(spec, layer=1), kind=LoopEncoder)
    assert np.abs(states.embed(tokens) - other.embed(tokens)).max() < 2e-5


@pytest.mark.parametrize("name", ["esm2", "esm2_24", "gated"])
def test_products_that_do_what_follows_compute_the_same(name):
    of_tiles = tiny("mosaicbert", dim=64, heads=2)  # gates in whole parts of a tile
    spec, tokens = (SPECS | {"gated": of_tiles})[name], tokens_of(LENGTHS)
    fused = encoder_of(spec, precision="bfloat16", fused=PLAIN_FUSED)
    assert fused._engine.fused
    assert not encoder_of(spec, precision="bfloat16")._engine.fused
    assert cosines(fused.embed(tokens), reference(spec, tokens)).min() > 0.999


@pytest.mark.parametrize("fused", [None, PLAIN_FUSED], ids=["apart", "fused"])
def test_fp8_is_near_and_never_overflows(fused):
    spec = SPECS["esm2"]
    tokens = tokens_of(LENGTHS)
    rows = encoder_of(spec, precision="fp8", fused=fused).embed(tokens)
    assert np.isfinite(rows).all()
    assert cosines(rows, reference(spec, tokens)).min() > 0.97
    state = random_state(spec)
    for tensor in state.values():
        if tensor.dim() > 1:
            tensor *= 50  # the scales are bounds that follow from the weights
    assert np.isfinite(
        encoder_of(spec, precision="fp8", fused=fused, state=state).embed(tokens)
    ).all()


def test_rows_in_order_whatever_the_budget_and_two_at_once():
    spec = SPECS["esm2"]
    tokens, expected = tokens_of(LENGTHS), reference(spec, tokens_of(LENGTHS))
    for token_budget in (1, 300, 1024, 5000):
        encoder = encoder_of(spec, token_budget=token_budget)
        other = tokens_of([30, 40], seed=5)
        runs = [encoder.submit(tokens), encoder.submit(other), encoder.submit(tokens)]
        assert np.abs(runs[2].result() - expected).max() < 2e-5
        assert np.abs(runs[0].result() - expected).max() < 2e-5
        assert np.abs(runs[1].result() - reference(spec, other)).max() < 2e-5
    assert encoder.embed(tokens_of([])).shape == (0, spec.dim)


def test_ready_takes_in_what_has_drained_and_waits_for_nothing(monkeypatch):
    encoder = encoder_of(SPECS["esm2"], token_budget=200)
    tokens, done, drained = tokens_of([50] * 12), [], []  # three batches, as many as slots
    monkeypatch.setattr(_HostEvent, "query", lambda event: event in drained)
    run = encoder.submit(tokens, between=done.append)
    slots = list(encoder._in_flight)
    drained += [slots[1].returned, slots[2].returned]
    assert not run.ready()  # the first is not drained, and those behind it wait for it
    assert done == []
    drained[:] = [slots[0].returned, slots[1].returned]
    assert not run.ready()
    assert done == [4, 8]
    drained.append(slots[2].returned)
    assert run.ready()
    assert done == [4, 8, 12]
    assert np.abs(run.result() - reference(SPECS["esm2"], tokens)).max() < 2e-5
    assert encoder.submit(tokens_of([])).ready()


def test_between_is_told_and_may_end_the_call():
    encoder = encoder_of(SPECS["esm2"], token_budget=200)
    tokens, done = tokens_of([50] * 20), []
    encoder.embed(tokens, between=done.append)
    assert done == [4, 8, 12, 16, 20]

    def stop(_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoder.embed(tokens, between=stop)
    assert np.isfinite(encoder.embed(tokens)).all()  # and the next call is whole


class Limited:
    """An engine with room for so many rows."""

    def __init__(self, engine, room):
        self.engine, self.room, self.padding_id = engine, room, engine.padding_id

    def workspace(self, rows):
        if rows > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.engine.workspace(rows)

    def __call__(self, layout, work, out):
        self.engine(layout, work, out)


def test_out_of_memory_halves_the_budget_and_says_so():
    said = []
    encoder = encoder_of(SPECS["esm2"], token_budget=4096, warn=said.append)
    encoder._engine = Limited(encoder._engine, 600)
    tokens = tokens_of([50] * 90)
    rows = encoder.embed(tokens)
    assert encoder.token_budget <= 600
    assert said
    assert all("ran out of memory on a batch of" in message for message in said)
    assert np.abs(rows - reference(SPECS["esm2"], tokens)).max() < 2e-5
    with pytest.raises(RecordTooLongError, match="record 2 of 3 has 900 tokens"):
        encoder.embed(tokens_of([10, 900, 10]))


def test_padding_never_reaches_a_result():
    encoder = encoder_of(SPECS["esm2"])
    tokens = tokens_of([40, 41])
    first = encoder.embed(tokens)
    with torch.inference_mode():
        encoder._work.x_TD.fill_(float("nan"))
        encoder._work.a_TD.fill_(float("nan"))
    assert np.array_equal(encoder.embed(tokens), first)
    encoder._engine.padding_id = 7
    assert np.array_equal(encoder.embed(tokens), first)


def test_batches_are_full_and_rows_few():
    lengths = np.random.default_rng(0).integers(3, 300, 5000)
    batches = fill(lengths, token_budget=32768, most_records=2048)
    assert sorted(np.concatenate([b.records for b in batches])) == list(range(5000))
    assert all(32768 - 3 < batch.tokens <= 32768 for batch in batches[:-1])
    assert {padded_rows(batch.tokens, token_budget=32768) for batch in batches[:-1]} == {32768}
    for tokens in (1, 15, 16, 17, 2048, 2049, 32768, 40000):
        rows = padded_rows(tokens, token_budget=32768)
        assert tokens <= rows < tokens + 2048
        assert rows % 16 == 0


def test_tiles_cover_every_query_once():
    lengths = [3, 64, 65, 200, 256, 257, 300, 512, 513, 1000]
    layout = layout_of(lengths, 3136)
    covered = []
    for part in layout.parts:
        for start, length, first, last in layout.tiles[part.start : part.stop].tolist():
            covered += range(start + first, start + last)
            assert first % BLOCK_KEYS == 0
            assert last - first <= TILE_ROWS
            blocks = -(-length // BLOCK_KEYS)
            assert part.blocks == (blocks if blocks <= MOST_BLOCKS else 0)
    assert covered == list(range(sum(lengths)))
    queries = [last - first for _, length, first, last in layout.tiles.tolist() if length == 300]
    assert queries == [192, 108]  # five blocks: three and two


def test_products_that_do_not_work_here_are_replaced_aloud(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caplog.set_level("INFO", logger="vnp.inference.kernels")
    placement = Placement(torch.device("cuda", 1), "test device", "bfloat16", 1, 1024, "by a test")
    spec, warned, devices = registry.model("esm2_3b"), [], []

    @contextlib.contextmanager
    def current(device):
        devices.append(device)
        yield
        devices.append(None)

    monkeypatch.setattr(torch.cuda, "device", current)

    def of(capability, spec=spec, precision="bfloat16"):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        there = dataclasses.replace(placement, precision=precision)
        fused, word = kernels.hopper_kernels(spec, there, warn=warned.append)
        assert (fused is None) == (word != "products fused")
        return word

    assert "no kernels for compute capability 8.0" in of((8, 0))
    assert "no kernels for compute capability 10.0" in of((10, 0))
    assert of((8, 0), precision="int8").startswith("products by Triton (no kernels")
    assert of((9, 0), precision="float16") == "products by cuBLAS"
    assert not warned  # as on every such device
    assert not caplog.messages
    tried = []
    hopper = SimpleNamespace(fits=PLAIN_FUSED.fits)
    monkeypatch.setitem(sys.modules, "vnp.inference.ops.hopper", hopper)
    monkeypatch.setattr(
        kernels,
        "check_products",
        lambda _, device, *, narrow, activation: tried.append(
            (device, narrow or activation, devices[-1])
        ),
    )
    for precision in ("bfloat16", "fp8", "int8"):
        assert of((9, 0), precision=precision) == "products fused"
    # Triton launches on the current device: it has to be the worker's own.
    assert tried == [
        (placement.device, narrow, placement.device) for narrow in ("gelu", FP8, torch.int8)
    ]
    assert "half a minute" in caplog.messages[0]
    assert not warned
    assert of((9, 0)) == "products fused"
    assert len(tried) == 3  # and not again on such a machine
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(kernels, "check_products", lambda *_, **__: 1 / 0)
    assert of((9, 0)) == "products by cuBLAS (ZeroDivisionError: division by zero)"
    assert "the kernels for Hopper do not work here (ZeroDivisionError" in warned[0]
    hopper.fits = lambda *_, **__: False
    assert "no kernels for these widths" in of((9, 0), spec=registry.model("demo_esm2"))
    assert len(warned) == 1


@pytest.mark.parametrize("narrow", [None, FP8, torch.int8], ids=["bfloat16", "fp8", "int8"])
def test_the_self_test_passes_right_products_and_refuses_wrong_ones(narrow):
    cpu = torch.device("cpu")
    check_products(PLAIN_FUSED, cpu, narrow=narrow)
    if narrow is None:
        check_products(PLAIN_FUSED, cpu, narrow=None, activation="geglu")
        check_products(PLAIN_FUSED, cpu, narrow=None, activation="swiglu")

    def but(**wrong):
        return SimpleNamespace(**(vars(PLAIN_FUSED) | wrong))

    def wrong_projection(a, weight, out, **options):
        plain.project(a, weight, out, **options)
        out[-40:, -300:] = out[-41, -300:]  # a few rows of the last tile are another's

    with pytest.raises(RuntimeError, match="a fused kernel is off by"):
        check_products(but(project=wrong_projection), cpu, narrow=narrow)

    def wrong_product(a, weight, out, **options):
        plain.multiply(a, weight, out, **options)
        out[:40] = 0

    def product_that_is_not_added(a, weight, out, *, add, **options):
        plain.multiply(a, weight, out, **options)

    if narrow is not None:
        for multiply in (wrong_product, product_that_is_not_added):
            with pytest.raises(RuntimeError, match="a fused kernel is off by"):
                check_products(but(multiply=multiply), cpu, narrow=narrow)

    def wrong_attention(qkv, out, layout, **options):
        plain.attend(qkv, out, layout, **options)
        out[28] = 0  # within the records of three tokens

    def leaking_attention(qkv, out, layout, **options):
        plain.attend(qkv, out, layout, **options)
        out[:1] = qkv[-1:, : out.shape[1]].to(out.dtype)

    with pytest.raises(RuntimeError, match="a fused kernel is off by"):
        check_products(but(attend=wrong_attention), cpu, narrow=narrow)
    with pytest.raises(RuntimeError, match="a fused kernel is off by nan"):
        check_products(but(attend=leaking_attention), cpu, narrow=narrow)


def test_rows_of_weights_still_sum_to_zero_when_they_are_rounded():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((64, 2560), generator=generator) / 2560**0.5
    weight[:, 7] *= 40  # one large weight may not upset the rest
    weight -= weight.mean(dim=1, keepdim=True)
    weight[3, 5] = 0.0
    one_by_one, found = weight.to(torch.bfloat16).float(), balanced(weight)
    assert torch.equal(found, found.to(torch.bfloat16).float())
    before, after = (x.double().sum(dim=1).abs() for x in (one_by_one, found))
    assert float(after.max()) < float(before.median()) / 10
    assert float((found - weight).norm() / (one_by_one - weight).norm()) < 1.02
    assert torch.equal(balanced(torch.zeros(2, 16)), torch.zeros(2, 16))


@pytest.mark.parametrize("fused", [None, PLAIN_FUSED], ids=["apart", "fused"])
def test_a_mean_of_the_stream_is_taken_away_exactly_enough(fused):
    spec, tokens = tiny("esm2", dim=512, layers=4, heads=8), tokens_of(LENGTHS)
    state = random_state(spec)
    name = next(name for name in state if name.endswith("word_embeddings.weight"))
    state[name] = state[name] + 5.0
    expected = reference(spec, tokens, state=state)
    theirs = reference(spec, tokens, state=state, precision="bfloat16")
    ours = encoder_of(spec, precision="bfloat16", fused=fused, state=state).embed(tokens)
    our_error, their_error = (
        np.linalg.norm(rows - expected, axis=1) / np.linalg.norm(expected, axis=1)
        for rows in (ours, theirs)
    )
    assert np.median(our_error / their_error) < 1.1  # without `balanced` 2.1 where products fuse


def test_no_standardised_row_passes_the_bound_of_fp8():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((32, 256), generator=generator)
    scale = bound_scale(weight)
    # The row that projects furthest on each output, of the length that standardised rows have.
    worst = weight / weight.norm(dim=1, keepdim=True) * 256**0.5
    product = Fp8Product(weight, input_scale=FP8_MOST / 256**0.5)
    found = torch.empty(32, 32)
    product((worst * (FP8_MOST / 256**0.5)).to(FP8), found)
    most = float((found.diagonal() * scale).max())
    assert 0.8 * FP8_MOST < most <= FP8_MOST


def test_records_longer_than_the_first_tables_of_angles():
    spec, tokens = SPECS["esm2"], tokens_of([1100, 40, 2100])
    for fused in (None, PLAIN_FUSED):
        rows = encoder_of(spec, precision="bfloat16", fused=fused, token_budget=4096).embed(tokens)
        assert cosines(rows, reference(spec, tokens)).min() > 0.999
    rows = encoder_of(spec, token_budget=4096).embed(tokens)
    assert np.abs(rows - reference(spec, tokens)).max() < 2e-5


def test_quality_is_refused_below_the_bound():
    a = np.random.default_rng(0).standard_normal((50, 64)).astype(np.float32)
    compare(a, a * 2, precision="fp8").require("esm2_3b")
    worse = a.copy()
    worse[3] += 0.2 * np.roll(a[3], 1)
    with pytest.raises(QualityError, match="use --precision bfloat16"):
        compare(a, worse, precision="fp8").require("esm2_3b")
    with pytest.raises(QualityError):
        Quality("fp8", 1, float("nan"), float("nan")).require("esm2_3b")


def test_short_ids_are_gathered_in_order():
    tokens = Tokens(np.arange(9, dtype=np.int32), np.array([4, 5]))
    assert tokens.collect(np.array([1, 0])).tolist() == [4, 5, 6, 7, 8, 0, 1, 2, 3]
