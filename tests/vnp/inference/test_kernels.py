"""The Triton kernels against the same operations in plain torch, on a GPU."""

import pytest
import torch

from tests.vnp.inference.engine_setup import layout_of
from vnp.inference.batch_layout import Rotary
from vnp.inference.linear import FP8
from vnp.inference.ops import torch as plain
from vnp.inference.ops import torch_int8 as plain_int8
from vnp.inference.selftest import check_products

if not torch.cuda.is_available():
    pytest.skip("no CUDA device: Triton kernels are not tested", allow_module_level=True)
kernels = pytest.importorskip("vnp.inference.ops.triton", reason="Triton is not installed")
kernels_int8 = pytest.importorskip("vnp.inference.ops.triton_int8")

pytestmark = pytest.mark.gpu

ROWS = 1024
LENGTHS = [3, 4, 9, 52, 64, 65, 128, 168, 230, 300]  # every number of blocks and a long one
SHAPES = [(2560, 40), (1280, 20), (768, 12), (480, 20), (320, 20)]
# Rounding to bfloat16 differs where sums are taken in another order; float32 is for the pool.
TOLERANCE = {torch.bfloat16: 4e-3, torch.float16: 6e-4, FP8: 3e-2, torch.float32: 1e-6}

# GELU in int8 is off by up to 3e-4, and steps in these tests are of a twentieth to an eightieth.
GELU_STEPS_OFF = 0.02


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, device="cuda").to(dtype)


def assert_near(ours, reference):
    a, b = ours.double(), reference.double()
    assert bool(a.isfinite().all())
    assert float((a - b).norm() / b.norm()) < TOLERANCE[ours.dtype]


def outputs(*shape, dtype):
    return [torch.full(shape, float("nan"), device="cuda").to(dtype) for _ in range(2)]


@pytest.mark.parametrize("dim", [2560, 768, 480, 320])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norm(dim, dtype):
    x, delta, shift = random(ROWS, dim, dtype=dtype), random(ROWS, dim, dtype=dtype), random(dim)
    affine = (random(dim), random(dim))
    for options, out_dtype in (
        ({}, dtype),
        ({"delta_TD": delta, "shift_D": shift}, dtype),
        ({"shift_D": shift, "affine": affine}, dtype),
        ({"delta_TD": delta, "scale": 8.0}, FP8),
    ):
        ours, theirs = outputs(ROWS, dim, dtype=out_dtype)
        x_ours, x_theirs = x.clone(), x.clone()
        kernels.norm(x_ours, ours, eps=1e-5, **options)
        plain.norm(x_theirs, theirs, eps=1e-5, **options)
        assert_near(ours, theirs)
        assert torch.equal(x_ours, x_theirs)


def test_gelu_is_the_exact_one():
    u = torch.linspace(-12, 12, 1024 * 128, device="cuda").view(128, 1024)
    ours = torch.empty_like(u)
    kernels.gelu(u, ours, bias_F=torch.zeros(1024, device="cuda"))
    exact = torch.nn.functional.gelu(u.double())
    assert float((ours - exact).abs().max()) < 3e-5
    near = u.abs() < 4.25
    assert float(((ours - exact) / exact.abs().clamp(min=1e-30))[near].abs().max()) < 2e-4


@pytest.mark.parametrize("dim", [2560, 768, 480, 320])
def test_deviation_and_gelu_of_a_raw_stream(dim):
    x, shift = random(ROWS, dim, dtype=torch.bfloat16), random(dim)
    ours, theirs = outputs(ROWS, dtype=torch.float32)
    kernels.rstd(x, ours, eps=1e-5, shift_D=shift)
    plain.rstd(x, theirs, eps=1e-5, shift_D=shift)
    assert_near(ours, theirs)
    standard, bias = (theirs, random(4 * dim)), random(4 * dim)
    u = random(ROWS, 4 * dim, dtype=torch.bfloat16)
    ours, theirs = outputs(ROWS, 4 * dim, dtype=torch.bfloat16)
    kernels.gelu(u, ours, bias_F=bias, standard=standard)
    plain.gelu(u, theirs, bias_F=bias, standard=standard)
    assert_near(ours, theirs)


@pytest.mark.parametrize("width", [10240, 3072, 1920])
def test_gelu_and_gated_gelu(width):
    u, bias = random(ROWS, width, dtype=torch.bfloat16) * 2, random(width)
    for scale, dtype in ((None, torch.bfloat16), (torch.rand(width, device="cuda") + 4, FP8)):
        ours, theirs = outputs(ROWS, width, dtype=dtype)
        kernels.gelu(u, ours, bias_F=bias, scale_F=scale)
        plain.gelu(u, theirs, bias_F=bias, scale_F=scale)
        assert_near(ours, theirs)
    ours, theirs = outputs(ROWS, width // 2, dtype=torch.bfloat16)
    kernels.geglu(u, ours)
    plain.geglu(u, theirs)
    assert_near(ours, theirs)


def assert_attends(module, dim, heads, kind, lengths):
    """What it writes, and what it leaves alone."""
    layout = layout_of(lengths, ROWS, device="cuda")
    qkv = random(ROWS, 3 * dim, dtype=torch.bfloat16)
    qkv[:, :dim] *= (dim // heads) ** -0.5
    used = sum(lengths)
    qkv[used:] = float("nan")  # padding may hold anything
    options = {}
    if kind == "alibi":
        options = {"slopes": torch.rand(heads, device="cuda")}
    elif kind == "fp8":
        options = {"scale_D": torch.rand(dim, device="cuda") * 50 + 20}
    dtype = FP8 if kind == "fp8" else torch.bfloat16
    ours, theirs = outputs(ROWS, dim, dtype=dtype)
    module.attend(qkv, ours, layout, heads=heads, **options)
    ready = qkv.float()
    ready[:, :dim] *= plain.QUERY_FACTOR / module.QUERY_FACTOR
    plain.attend(ready, theirs, layout, heads=heads, **options)
    assert_near(ours[:used], theirs[:used])
    assert bool(ours[used:].float().isnan().all())


@pytest.mark.parametrize(("dim", "heads"), SHAPES)
@pytest.mark.parametrize("kind", ["plain", "alibi", "fp8"])
@pytest.mark.parametrize("lengths", [LENGTHS, [512, 400]], ids=["short", "long"])
def test_attention(dim, heads, kind, lengths):
    assert_attends(kernels, dim, heads, kind, lengths)


@pytest.mark.skipif(torch.cuda.get_device_capability()[0] != 9, reason="the kernels are Hopper's")
@pytest.mark.parametrize(("dim", "heads"), [(2560, 40), (1280, 20), (768, 12)])
@pytest.mark.parametrize("kind", ["plain", "alibi", "fp8"])
@pytest.mark.parametrize("lengths", [LENGTHS, [512, 400], [257], [1]], ids=str)
def test_attention_on_hopper(dim, heads, kind, lengths):
    hopper = pytest.importorskip("vnp.inference.ops.hopper")
    assert_attends(hopper, dim, heads, kind, lengths)


@pytest.mark.skipif(torch.cuda.get_device_capability()[0] != 9, reason="the kernels are Hopper's")
@pytest.mark.parametrize("length", [1, 33, 64, 65, 100, 128, 150, 192, 200, 256, 257, 300, 700])
def test_attention_of_a_record_does_not_depend_on_its_neighbours(length):
    hopper = pytest.importorskip("vnp.inference.ops.hopper")
    heads, dim, count = 12, 768, 300  # more than a program of each kernel keeps in flight
    qkv = random(count * length, 3 * dim, dtype=torch.bfloat16)
    layout = layout_of([length] * count, count * length, device="cuda")
    whole = torch.empty((count * length, dim), dtype=torch.bfloat16, device="cuda")
    hopper.attend(qkv, whole, layout, heads=heads)
    assert bool(whole.isfinite().all())
    for number in (0, 1, 150, count - 1):
        rows = slice(number * length, (number + 1) * length)
        alone = torch.empty((length, dim), dtype=torch.bfloat16, device="cuda")
        hopper.attend(
            qkv[rows].contiguous(), alone, layout_of([length], length, device="cuda"), heads=heads
        )
        assert torch.equal(alone, whole[rows])
        others = torch.full_like(qkv, float("nan"))
        others[rows] = qkv[rows]
        among = torch.empty_like(whole)
        hopper.attend(others, among, layout, heads=heads)
        assert torch.equal(among[rows], whole[rows])


def rotary_of(dim, heads, *, dtype=torch.float16):
    half = dim // heads // 2
    angles = torch.arange(1024)[:, None] * (1 / 10000 ** (torch.arange(half) / half))
    positions = torch.arange(ROWS, dtype=torch.int32, device="cuda") % 300
    return Rotary(
        (angles.cos().cuda().to(dtype), angles.sin().cuda().to(dtype)), positions, 2 * dim
    )


@pytest.mark.parametrize(("dim", "heads"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_rotary(dim, heads, dtype):
    qkv, bias = random(ROWS, 3 * dim, dtype=torch.bfloat16), random(3 * dim)
    ours, theirs = qkv.clone(), qkv.clone()
    kernels.rotary(ours, rotary_of(dim, heads, dtype=dtype), bias_E=bias)
    plain.rotary(theirs, rotary_of(dim, heads, dtype=dtype), bias_E=bias)
    assert_near(ours, theirs)
    assert torch.equal(ours[:, 2 * dim :], qkv[:, 2 * dim :])


def integers(*shape):
    return torch.randint(-127, 128, shape, dtype=torch.int8, device="cuda")


def assert_same_steps(ours, theirs, *, most=1e-3):
    """A rounding may fall the other way, by one step and seldom."""
    off = (ours.int() - theirs.int()).abs()
    assert int(off.max()) <= 1
    assert float(off.float().mean()) < most


@pytest.mark.parametrize("dim", [2560, 768, 480, 320])
def test_rows_in_eight_bits(dim):
    x, delta = random(ROWS, dim, dtype=torch.bfloat16), random(ROWS, dim, dtype=torch.bfloat16)
    shift, factor = random(dim), torch.rand(dim, device="cuda") + 0.5
    x[3] = 0.0
    for delta_TD in (delta, None):
        ours, theirs = (torch.zeros((ROWS, dim), dtype=torch.int8, device="cuda") for _ in "12")
        scales, x_ours, x_theirs = outputs(ROWS, dtype=torch.float32), x.clone(), x.clone()
        for module, x_TD, out, scale in (
            (kernels_int8, x_ours, ours, scales[0]),
            (plain_int8, x_theirs, theirs, scales[1]),
        ):
            module.norm_rows(
                x_TD, out, scale, eps=1e-5, delta_TD=delta_TD, shift_D=shift, factor_D=factor
            )
        assert torch.equal(x_ours, x_theirs)
        assert torch.allclose(*scales, rtol=1e-5)
        assert_same_steps(ours, theirs)
    for module, out, scale in ((kernels_int8, ours, scales[0]), (plain_int8, theirs, scales[1])):
        module.quantise_rows(x, out, scale)
    assert torch.allclose(*scales, rtol=1e-6)
    assert_same_steps(ours, theirs)
    assert int(ours[3].abs().max()) == 0


@pytest.mark.parametrize("width", [10240, 1920])
def test_gelu_in_steps(width):
    u, bias = random(ROWS, width, dtype=torch.bfloat16) * 2, random(width)
    per_step = torch.rand(width, device="cuda") * 40 + 20  # the largest are beyond the range
    ours, theirs = (torch.zeros((ROWS, width), dtype=torch.int8, device="cuda") for _ in "12")
    kernels.gelu(u, ours, bias_F=bias, scale_F=per_step)
    plain.gelu(u, theirs, bias_F=bias, scale_F=per_step)
    assert_same_steps(ours, theirs, most=GELU_STEPS_OFF)
    assert int(ours.min()) == -128
    assert int(ours.max()) == 127


@pytest.mark.parametrize("rows", [16, 200, ROWS])
@pytest.mark.parametrize(("inner", "width"), [(2560, 7680), (10240, 2560), (320, 960), (480, 1440)])
def test_products_of_integers(rows, inner, width):
    a, weight = integers(rows, inner), integers(width, inner)
    scale, row_scale = torch.rand(width, device="cuda"), torch.rand(rows, device="cuda")
    modules = [kernels_int8]
    if torch.cuda.get_device_capability()[0] == 9 and not width % 256 and not inner % 128:
        modules.append(pytest.importorskip("vnp.inference.ops.hopper"))
    for row_scale_T in (row_scale, None):
        options = {"weight_scale_O": scale, "row_scale_T": row_scale_T}
        theirs = torch.empty((rows, width), dtype=torch.bfloat16, device="cuda")
        plain_int8.multiply(a, weight, theirs, **options)
        for module in modules:
            ours = outputs(rows + 1, width, dtype=torch.bfloat16)[0]
            module.multiply(a, weight, ours[:rows], **options)
            assert_near(ours[:rows], theirs)
            same = (ours[:rows] == theirs).float().mean()
            assert float(same) > 0.99  # sums are exact; scales are multiplied in another order
            assert bool(ours[rows:].isnan().all())


@pytest.mark.skipif(torch.cuda.get_device_capability()[0] != 9, reason="the products are Hopper's")
@pytest.mark.parametrize("rows", [16, 200, ROWS])
@pytest.mark.parametrize(("dim", "heads"), [(2560, 40), (1280, 20)])
def test_products_of_integers_that_do_what_follows(rows, dim, heads):
    hopper = pytest.importorskip("vnp.inference.ops.hopper")
    rotary = rotary_of(dim, heads)
    rotary = Rotary(rotary.tables, rotary.positions[:rows], rotary.columns)
    for width, how, dtype in (
        (3 * dim, rotary, torch.bfloat16), (4 * dim, None, torch.int8),
        (4 * dim, None, torch.bfloat16),
    ):  # fmt: skip
        a, weight = integers(rows, dim), integers(width, dim)
        options = {
            "bias_O": random(width), "rotary": how,
            "weight_scale_O": torch.rand(width, device="cuda") / dim**0.5 / 5000,
            "row_scale_T": torch.rand(rows, device="cuda") + 0.5,
            "scale_O": torch.rand(width, device="cuda") + 70 if dtype == torch.int8 else None,
        }  # fmt: skip
        ours, theirs = (torch.full((rows + 1, width), 7, device="cuda").to(dtype) for _ in "12")
        hopper.project(a, weight, ours[:rows], **options)
        plain.project(a, weight, theirs[:rows], **options)
        if dtype == torch.int8:
            assert_same_steps(ours[:rows], theirs[:rows], most=GELU_STEPS_OFF)
        else:
            assert_near(ours[:rows], theirs[:rows])
        assert bool((ours[rows:] == 7).all())


@pytest.mark.skipif(torch.cuda.get_device_capability()[0] != 9, reason="the products are Hopper's")
@pytest.mark.parametrize("rows", [16, 200, ROWS])
@pytest.mark.parametrize(("dim", "heads"), [(2560, 40), (1280, 20)])
@pytest.mark.parametrize("fp8", [False, True], ids=["bfloat16", "fp8"])
def test_products_that_do_what_follows(rows, dim, heads, fp8):
    hopper = pytest.importorskip("vnp.inference.ops.hopper")
    dtype = FP8 if fp8 else torch.bfloat16
    rotary = rotary_of(dim, heads)
    rotary = Rotary(rotary.tables, rotary.positions[:rows], rotary.columns)
    for width, how in ((3 * dim, rotary), (4 * dim, None)):
        a, weight = random(rows, dim, dtype=dtype), random(width, dim, dtype=dtype)
        options, out_dtype = {"bias_O": random(width), "rotary": how}, torch.bfloat16
        if fp8:
            options["weight_scale_O"] = torch.rand(width, device="cuda") / dim**0.5
            if how is None:
                options["scale_O"], out_dtype = torch.rand(width, device="cuda") + 4, FP8
        else:
            options["standard"] = (torch.rand(rows, device="cuda") / dim**0.5, random(width))
        # A row more than there are: nothing may be written there.
        ours, theirs = outputs(rows + 1, width, dtype=out_dtype)
        hopper.project(a, weight, ours[:rows], **options)
        plain.project(a, weight, theirs[:rows], **options)
        assert_near(ours[:rows], theirs[:rows])
        assert bool(ours[rows:].float().isnan().all())
        again = torch.empty_like(ours)
        for _ in range(3):
            hopper.project(a, weight, again[:rows], **options)
            assert torch.equal(again[:rows].float(), ours[:rows].float())


@pytest.mark.skipif(torch.cuda.get_device_capability()[0] != 9, reason="the products are Hopper's")
@pytest.mark.parametrize("rows", [16, 200, 20_000])
@pytest.mark.parametrize("dtype", [FP8, torch.int8], ids=["fp8", "int8"])
def test_memory_adds_products_to_the_stream(rows, dtype):
    hopper = pytest.importorskip("vnp.inference.ops.hopper")
    width, inner = 1280, 5120
    make = integers if dtype == torch.int8 else random
    a, weight = make(rows, inner).to(dtype), make(width, inner).to(dtype)
    scales = {"weight_scale_O": torch.rand(width, device="cuda") / inner / 50}
    if dtype == torch.int8:
        scales["row_scale_T"] = torch.rand(rows, device="cuda")
    product = torch.empty((rows, width), dtype=torch.bfloat16, device="cuda")
    hopper.multiply(a, weight, product, **scales)
    stream = random(rows + 1, width, dtype=torch.bfloat16)
    expected = (stream[:rows].float() + product.float()).bfloat16()
    beyond = stream[rows:].clone()
    hopper.multiply(a, weight, stream[:rows], **scales, add=True)
    assert torch.equal(stream[:rows], expected)
    assert torch.equal(stream[rows:], beyond)


@pytest.mark.skipif(torch.cuda.get_device_capability()[0] != 9, reason="the products are Hopper's")
def test_a_row_of_a_fused_product_depends_on_itself_alone():
    hopper = pytest.importorskip("vnp.inference.ops.hopper")
    rows, dim = 2500, 1280  # more tiles down than are taken before the next column
    a, weight = random(rows, dim, dtype=torch.bfloat16), random(4 * dim, dim, dtype=torch.bfloat16)
    bias, lead = random(4 * dim), random(4 * dim)
    rstd = torch.rand(rows, device="cuda") / dim**0.5

    def of(order):
        out = torch.empty((len(order), 4 * dim), dtype=torch.bfloat16, device="cuda")
        standard = (rstd[order].contiguous(), lead)
        hopper.project(a[order].contiguous(), weight, out, bias_O=bias, standard=standard)
        return out

    numbers = torch.arange(rows, device="cuda")
    whole = of(numbers)
    for shift in (1, 64, 128, 1000):
        order = numbers.roll(shift)
        assert torch.equal(of(order), whole[order])
    for count in (1, 200, 1234):
        assert torch.equal(of(numbers[:count]), whole[:count])


@pytest.mark.skipif(torch.cuda.get_device_capability()[0] != 9, reason="the products are Hopper's")
def test_fused_products_are_tried_and_shapes_refused():
    hopper = pytest.importorskip("vnp.inference.ops.hopper")
    for narrow in (None, FP8, torch.int8):
        check_products(hopper, torch.device("cuda", 0), narrow=narrow)
    check_products(hopper, torch.device("cuda", 0), narrow=None, activation="geglu")
    assert hopper.fits(768, 3072, head=64, dtype=torch.bfloat16, activation="geglu")
    assert not hopper.fits(768, 3072, head=32, dtype=torch.bfloat16, activation="geglu")
    assert not hopper.fits(384, 1536, head=64, dtype=torch.bfloat16, activation="geglu")
    assert not hopper.fits(768, 3072, head=64, dtype=FP8, activation="geglu")
    assert hopper.fits(2560, 10240, head=64, dtype=FP8)
    assert hopper.fits(1280, 5120, head=64, dtype=torch.bfloat16)
    assert not hopper.fits(320, 1280, head=16, dtype=torch.bfloat16)
    assert not hopper.fits(640, 2560, head=32, dtype=torch.bfloat16)
    assert not hopper.fits(1280, 5120, head=64, dtype=torch.float16)


@pytest.mark.parametrize("dim", [2560, 768, 320])
def test_pool(dim):
    layout = layout_of(LENGTHS, ROWS, device="cuda")
    x = random(ROWS, dim, dtype=torch.bfloat16)
    normed = {"eps": 1e-5, "shift_D": random(dim), "affine": (random(dim), random(dim))}
    for options in ({}, normed):
        ours, theirs = outputs(len(LENGTHS), dim, dtype=torch.float32)
        kernels.pool(x, ours, layout, **options)
        plain.pool(x, theirs, layout, **options)
        assert_near(ours, theirs)
