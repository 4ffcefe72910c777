"""int8 on a CPU: against the same operations in plain torch, and the engine against float32."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from store.open import open_store
from tests.vnp.inference.engine_setup import cosines, placed, reference, tokens_of
from tests.vnp.inference.test_int8 import LENGTHS, SPEC, calibrated, planted
from tests.vnp.models.checkpoints import random_state
from vnp.cli.main import main
from vnp.inference import load
from vnp.inference.batch_layout import Rotary
from vnp.inference.calibrated import Int8Encoder
from vnp.inference.calibration import Calibration
from vnp.inference.ops import cpu, cpu_int8, torch_int8
from vnp.inference.ops import torch as plain
from vnp.models.errors import DeviceError

pytestmark = [
    pytest.mark.slow,  # it compiles
    pytest.mark.skipif(
        cpu_int8.obstacle() is not None or cpu.obstacle(torch.bfloat16) is not None,
        reason="the processor has no products of integers",
    ),
]

EXAMPLE = Path(__file__).parents[3] / "vnp/data/lambda_phage.fa.gz"


def random_products(rows=130, inputs=96, outputs=160, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a_TI = torch.randint(-128, 128, (rows, inputs), generator=generator, dtype=torch.int8)
    weight_OI = torch.randint(-127, 128, (outputs, inputs), generator=generator, dtype=torch.int8)
    return a_TI, weight_OI, torch.rand(outputs, generator=generator) * 1e-4


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["norm_rows", "quantise_rows"])
def test_rows_are_quantised_as_in_plain_torch(name, threads):
    generator = torch.Generator().manual_seed(0)
    x_TD = 3 * torch.randn(150, 72, generator=generator)
    x_TD[7] = 0
    options = {}
    if name == "norm_rows":
        options = {
            "eps": 1e-5,
            "delta_TD": torch.randn(150, 72, generator=generator),
            "shift_D": torch.randn(72, generator=generator),
            "factor_D": torch.rand(72, generator=generator) + 0.5,
        }
    found = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for ops in (cpu_int8, torch_int8):
            stream_TD, out_TD, scale_T = (
                x_TD.clone(),
                torch.empty(150, 72).to(torch.int8),
                torch.empty(150),
            )
            getattr(ops, name)(stream_TD, out_TD, scale_T, **options)
            found.append((out_TD.float(), scale_T, stream_TD))
    finally:
        torch.set_num_threads(before)
    (ours, scale, stream), (theirs, expected, added) = found
    assert (ours - theirs).abs().max() <= 1, "but for ties"
    assert (ours != theirs).float().mean() < 0.001
    torch.testing.assert_close(scale, expected, rtol=1e-6, atol=0)
    assert torch.equal(stream, added)


def test_a_row_with_nan_has_no_scale():
    x_TD = torch.ones(3, 40)
    x_TD[1, 5] = float("nan")
    scale_T = torch.empty(3)
    cpu_int8.quantise_rows(x_TD, torch.empty(3, 40, dtype=torch.int8), scale_T)
    assert scale_T.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("rows", [1, 3, 130])
def test_products_are_exact(rows):
    a_TI, weight_OI, scale_O = random_products(rows)
    row_scale_T = torch.rand(rows)
    exact = a_TI.double() @ weight_OI.double().t() * scale_O
    out_TO = torch.empty(exact.shape)
    cpu_int8.multiply(a_TI, weight_OI, out_TO, weight_scale_O=scale_O)
    torch.testing.assert_close(out_TO, exact.float(), rtol=1e-6, atol=1e-6)
    cpu_int8.multiply(a_TI, weight_OI, out_TO, weight_scale_O=scale_O, row_scale_T=row_scale_T)
    torch.testing.assert_close(out_TO, (exact * row_scale_T[:, None]).float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16])
def test_gelu_follows(dtype):
    a_TI, weight_OI, scale_O = random_products()
    bias_O, row_scale_T = torch.randn(160), torch.rand(130)
    per_step_O = 10 + 50 * torch.rand(160) if dtype == torch.int8 else None
    value = (a_TI.double() @ weight_OI.double().t()).float() * scale_O * row_scale_T[:, None]
    expected = torch.empty(130, 160, dtype=dtype)
    torch_int8.write(torch.nn.functional.gelu(value + bias_O), expected, per_step_O)
    out_TO = torch.empty(130, 160, dtype=dtype)
    cpu_int8.project(
        a_TI, weight_OI, out_TO, bias_O=bias_O, weight_scale_O=scale_O, row_scale_T=row_scale_T,
        scale_O=per_step_O,
    )  # fmt: skip
    off = (out_TO.float() - expected.float()).abs()
    if dtype == torch.int8:
        assert off.max() <= 1
        assert (off > 0).float().mean() < 0.001
    else:
        torch.testing.assert_close(out_TO, expected)


def test_rotary_follows():
    a_TI, weight_OI, scale_O = random_products()
    bias_O, row_scale_T = torch.randn(160), torch.rand(130)
    bias_O[128:] = 0
    angles = torch.rand(130, 8)
    tables = (angles.cos(), angles.sin())
    rotary = Rotary(tables, torch.arange(130), 128, neighbours=True)
    expected = (a_TI.double() @ weight_OI.double().t()).float() * scale_O * row_scale_T[:, None]
    expected += bias_O
    plain.rotary(expected, dataclasses.replace(rotary, kept={}), bias_E=None)
    out_TO = torch.empty(130, 160)
    cpu_int8.project(
        a_TI, weight_OI, out_TO, bias_O=bias_O, weight_scale_O=scale_O, row_scale_T=row_scale_T,
        rotary=rotary,
    )  # fmt: skip
    torch.testing.assert_close(out_TO, expected, rtol=1e-5, atol=1e-5)


def encoder(state, calibration):
    made = load.encoder_of(
        SPEC, state, None, placement=placed("cpu", "int8"), token_budget=None,
        identity={"precision": "int8"}, environment={}, warn=print,
    )  # fmt: skip
    assert isinstance(made, Int8Encoder)
    assert made.environment["engine"] == "oneDNN, weights packed, integers by VNNI"
    made.calibrate(calibration)
    return made


@pytest.mark.parametrize("kept", ["", "qkv", "out", "up", "down", "up down", "qkv out up down"])
@pytest.mark.parametrize("outliers", [False, True], ids=["random", "planted"])
def test_the_engine_is_near(kept, outliers):
    state, tokens = random_state(SPEC), tokens_of(LENGTHS)
    if outliers:
        state = planted(state)
    calibration = calibrated(state, tokens_of(LENGTHS, seed=1))
    layers = list(calibration.layers)
    layers[0] = dataclasses.replace(layers[0], kept=frozenset(kept.split()))
    made = encoder(state, Calibration(tuple(layers)))
    rows = made.embed(tokens)
    assert cosines(rows, reference(SPEC, tokens, state=state)).min() > 0.998
    assert np.array_equal(made.embed(tokens), rows)


@pytest.mark.parametrize("kept", ["", "qkv out up down"])
def test_large_biases_are_not_lost(kept):
    state, tokens = random_state(SPEC), tokens_of(LENGTHS)
    for name in state:
        if ".layer." in name and name.endswith("bias"):
            state[name] = 20 * state[name]
    calibration = calibrated(state, tokens)
    layers = [
        dataclasses.replace(layer, kept=frozenset(kept.split())) for layer in calibration.layers
    ]
    rows = encoder(state, Calibration(tuple(layers))).embed(tokens)
    near = cosines(rows, reference(SPEC, tokens, state=state)).min()
    assert near > (0.9999 if kept else 0.998)


def test_a_processor_without_the_instructions_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with pytest.raises(DeviceError, match=r"cannot compute int8: .*neither VNNI nor AMX.*bfloat16"):
        encoder(random_state(SPEC), calibrated(random_state(SPEC), tokens_of([9])))


def test_it_proves_itself_on_the_records_of_a_store(tmp_path):
    path = tmp_path / "run.zarr"
    assert main(["init", str(path), "--recipe", "demo", "--block-rows", "24"]) == 0
    assert main(["append", str(path), str(EXAMPLE)]) == 0
    made = load.load_encoder("demo_esm2", device="cpu", precision="int8", threads=1)
    assert isinstance(made, Int8Encoder)
    made.qualify(open_store(path), "demo_esm2")
    told = made.provenance()
    assert told.identity["precision"] == "int8"
    assert told.identity["calibration"]
    assert float(told.environment["int8_cosine_lowest"]) > 0.999
    again = load.load_encoder("demo_esm2", device="cpu", precision="int8", threads=1)
    open_store(path).pin_provenance("demo_esm2", told.as_dict())
    again.qualify(open_store(path), "demo_esm2")  # the scales that are pinned
    assert again.provenance().identity == told.identity
