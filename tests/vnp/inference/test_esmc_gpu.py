"""ESM-C on a GPU: its kernels against plain torch, and the engine against float32 on the CPU."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tests.vnp.inference.engine_setup import cosines, encoder_of, layout_of, tokens_of
from tests.vnp.models.checkpoints import random_state
from vnp.inference.batch_layout import Rotary
from vnp.inference.ops import torch as plain
from vnp.inference.selftest import check_products
from vnp.models import registry
from vnp.models.tokens import Tokens

if not torch.cuda.is_available():
    pytest.skip("no CUDA device: ESM-C is not tested on one", allow_module_level=True)
kernels = pytest.importorskip("vnp.inference.ops.triton", reason="Triton is not installed")

pytestmark = pytest.mark.gpu

SIZES = [(960, 15, 2560), (1152, 18, 3072), (2560, 40, 6912)]  # dim, heads, inner width
ROWS = 512
SPEC = replace(registry.MODELS["esmc_300m"], name="some_esmc", layers=4)
LENGTHS = [3, 5, 52, 52, 168, 100, 64, 65, 300, 420, 1100]


def difference(ours: torch.Tensor, reference: torch.Tensor) -> float:
    a, b = ours.double(), reference.double()
    assert bool(a.isfinite().all())
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(("dim", "heads", "ffn"), SIZES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_kernels(dim: int, heads: int, ffn: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    half = dim // heads // 2
    layout = layout_of([52, 168, 230], ROWS, device="cuda")
    angles = torch.arange(1024.0)[:, None] * 10000.0 ** (-torch.arange(half) / half)
    tables = (angles.cos().cuda(), angles.sin().cuda())
    how = Rotary(tables, layout.positions, 2 * dim)
    ours = torch.randn(ROWS, 3 * dim, device="cuda").to(dtype)
    theirs = ours.clone()
    weight = torch.randn(2 * dim, device="cuda")
    for part in (ours, theirs):
        heads_of_part = part[:, : 2 * dim].view(ROWS, 2, dim)
        heads_of_part -= heads_of_part.float().mean(dim=2, keepdim=True).to(dtype)
    kernels.qk_norm(ours, how, weight_2D=weight, eps=1e-5)
    plain.qk_norm(theirs, how, weight_2D=weight, eps=1e-5)
    assert difference(ours, theirs) < 4e-3
    assert torch.equal(ours[:, 2 * dim :], theirs[:, 2 * dim :])
    squares = torch.rand(4 * heads, ROWS, device="cuda")
    found, expected = (torch.zeros(2, ROWS, device="cuda") for _ in range(2))
    kernels.qk_rstd(squares, found, eps=1e-5, dim=dim)
    plain.qk_rstd(squares, expected, eps=1e-5, dim=dim)
    torch.testing.assert_close(found, expected)
    if dtype == torch.bfloat16:
        contexts = [torch.zeros(ROWS, dim, device="cuda", dtype=dtype) for _ in range(2)]
        kernels.attend(ours, contexts[0], layout, heads=heads, rstd_2T=found / 32)
        factor = kernels.QUERY_FACTOR  # the softmax of plain torch takes e to the power of a score
        theirs[:, :dim] = (ours[:, :dim].float() / factor).to(dtype)
        plain.attend(theirs, contexts[1], layout, heads=heads, rstd_2T=found / 32)
        assert difference(*contexts) < 8e-3
    u = torch.randn(ROWS, 2 * ffn, device="cuda").to(dtype) * 2
    bias = torch.randn(2 * ffn, device="cuda")
    for rstd in (None, torch.rand(ROWS, device="cuda")):
        found, expected = (torch.empty(ROWS, ffn, device="cuda", dtype=dtype) for _ in range(2))
        kernels.swiglu(u, found, bias_2F=bias, rstd_T=rstd)
        plain.swiglu(u, expected, bias_2F=bias, rstd_T=rstd)
        assert difference(found, expected) < 4e-3


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_near_float32_on_the_cpu_whoever_the_neighbours_are(precision: str) -> None:
    state = random_state(SPEC)
    tokens = tokens_of(LENGTHS)
    exact = encoder_of(SPEC, state=state).embed(tokens)
    encoder = encoder_of(
        SPEC, device="cuda", precision=precision, ops=kernels, state=state, token_budget=4096
    )
    found = encoder.embed(tokens)
    lowest = cosines(found, exact).min()
    print(f"\nESM-C {precision}: lowest cosine with float32 {lowest:.6f}")
    assert lowest > 0.9995
    order = np.random.default_rng(1).permutation(len(LENGTHS))
    shuffled = Tokens(tokens.collect(order), tokens.lengths[order])
    np.testing.assert_array_equal(encoder.embed(shuffled), found[order])


@pytest.mark.skipif(
    torch.cuda.get_device_capability()[0] != 9, reason="its products are written for Hopper"
)
def test_products_that_gate_themselves() -> None:
    hopper = pytest.importorskip("vnp.inference.ops.hopper")
    with torch.cuda.device(0):
        check_products(hopper, torch.device("cuda", 0), narrow=None, activation="swiglu")
    bfloat16 = torch.bfloat16
    fits = partial(hopper.fits, activation="swiglu")
    assert all(fits(dim, ffn, head=64, dtype=bfloat16) for dim, _, ffn in SIZES)
    assert not fits(960, 2560, head=64, dtype=torch.float16)
    assert not fits(960, 2560, head=48, dtype=bfloat16)
    state, tokens = random_state(SPEC), tokens_of(LENGTHS)
    exact = encoder_of(SPEC, state=state).embed(tokens)
    apart, fused = (
        1 - cosines(
            exact,
            encoder_of(
                SPEC, device="cuda", precision="bfloat16", ops=kernels, fused=products, state=state,
                token_budget=4096,
            ).embed(tokens),
        )
        for products in (None, hopper)
    )  # fmt: skip
    print(f"\nESM-C, 1 - cosine with float32: apart {apart}, fused {fused}")
    assert fused.max() < 2e-4
    assert np.median(fused) < 1.25 * np.median(apart)
