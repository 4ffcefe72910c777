import subprocess
import sys

import pytest

from store.errors import UsageError
from vnp.inference.load import naming_of
from vnp.models import registry
from vnp.models.errors import UnknownModelError

PUBLISHED = {
    "esm2_8m": (320, 6, 20, "facebook/esm2_t6_8M_UR50D"),
    "esm2_35m": (480, 12, 20, "facebook/esm2_t12_35M_UR50D"),
    "esm2_150m": (640, 30, 20, "facebook/esm2_t30_150M_UR50D"),
    "esm2_650m": (1280, 33, 20, "facebook/esm2_t33_650M_UR50D"),
    "esm2_3b": (2560, 36, 40, "facebook/esm2_t36_3B_UR50D"),
    "esm2_15b": (5120, 48, 40, "facebook/esm2_t48_15B_UR50D"),
    "dnabert_s": (768, 12, 12, "zhihan1996/DNABERT-S"),
    "dnabert2": (768, 12, 12, "zhihan1996/DNABERT-2-117M"),
}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:ORG/NAME,input=protein", "options go behind an @: hf:ORG/NAME@input=protein"),
        ("hf:/data/models/mine", "give the folder, or the one that it is in, as weights"),
        ("hf:./mine", "call the model hf:ORG/NAME, as hf:local/mine"),
        ("hf:a/b/mine@layer=2", "--weights DIR"),
        ("hf:mine", "not the name of a model of the hub"),
    ],
)
def test_slips_in_the_name_of_a_model_of_the_hub(source, said):
    with pytest.raises(UsageError, match=said):
        registry.name_in_store(source)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes(name):
    spec = registry.model(name)
    assert (spec.dim, spec.layers, spec.heads, spec.repo) == PUBLISHED[name]


@pytest.mark.parametrize(
    "name", [n for n in registry.MODELS if registry.model(n).layers * registry.model(n).ffn]
)
def test_parameter_count_is_that_of_the_tensors(name):
    spec = registry.model(name)
    assert spec.name == name
    shapes = naming_of(spec).shapes.values()
    total = sum(shape[0] * (shape[1] if len(shape) == 2 else 1) for shape in shapes)
    assert spec.parameters == total


def test_recipes():
    assert [spec.name for spec in registry.recipe("virnucpro")] == ["dnabert_s", "esm2_3b"]
    assert sum(spec.dim for spec in registry.recipe("virnucpro")) == 3328
    assert all(spec.demo for spec in registry.recipe("demo"))


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UnknownModelError, match=r"'esm3'.*esm2_3b"):
        registry.model("esm3")
    with pytest.raises(UnknownModelError, match=r"'best'.*virnucpro"):
        registry.recipe("best")


def test_interface_imports_no_torch():
    code = (
        "import sys, vnp.inference.encoder, vnp.models.files, vnp.models.packing\n"
        "heavy = {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
