"""Models of others: an installed package, scripts, and workers that lack them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

from store.open import open_store
from store.store import Store
from vnp import api
from vnp.embed.function import embed
from vnp.models.plugins import PluginError
from vnp.models.registry import load_plugins

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "tests" / "data" / "example_plugin"
EXAMPLE = ROOT / "vnp" / "data" / "lambda_phage.fa.gz"


def vnp(*words: object, python: object = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", "vnp", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def shares(store: Store) -> np.ndarray:
    sequences = [item.decode() for item in store.column("nucleotide").tolist()]
    rows = [[each.count(base) / len(each) for base in "ACGT"] for each in sequences]
    return np.array(rows, np.float32).astype(np.float16)


def test_the_example_is_short() -> None:
    files = [path for path in PACKAGE.iterdir() if path.is_file()]  # not what Python compiled
    lines = [line for path in files for line in path.read_text().splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 30


def test_an_installed_package_adds_a_model_and_a_recipe(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    [site] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # What this environment has, the new one has too; only the package is its own.
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    source = shutil.copytree(PACKAGE, tmp_path / "package")
    install = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([python, *install, source], check=True, capture_output=True)
    listed = vnp("models", python=python)
    assert "share of each base" in listed.stdout
    assert "recipe composition_and_demo: composition + demo_esm2" in listed.stdout
    path = tmp_path / "run.zarr"
    made = vnp("init", path, "--recipe", "composition_and_demo", python=python)
    assert made.returncode == 0, made.stderr
    assert vnp("append", path, EXAMPLE, python=python).returncode == 0

    without = vnp("embed", path, "--device", "cpu")
    assert without.returncode == 3, without.stderr
    assert without.stderr.count("unknown model 'composition'") == 1
    assert without.stdout.count("unknown model 'composition'") == 1
    store = open_store(path)
    assert store.certify("demo_esm2").complete
    assert not store.filled("composition").any()

    with_it = vnp("embed", path, "--device", "cpu", python=python)
    assert with_it.returncode == 0, with_it.stderr
    np.testing.assert_array_equal(store.read("composition"), shares(store))
    provenance = store.provenance("composition")
    assert provenance is not None
    assert provenance["identity"]["plugin"] == "vnp-composition"
    assert provenance["environment"]["plugin"] == "vnp-composition 1.0"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return shutil.copy(PACKAGE / "vnp_composition.py", tmp_path / "mine.py")


def begun(tmp_path: Path, script: Path) -> Path:
    path = tmp_path / "run.zarr"
    made = vnp("init", path, "--model", "composition", "--plugin", script)
    assert made.returncode == 0, made.stderr
    assert vnp("append", path, EXAMPLE).returncode == 0
    return path


def test_a_script_is_passed_to_every_worker_and_its_hash_is_recorded(
    tmp_path: Path, script: Path
) -> None:
    path = begun(tmp_path, script)
    done = vnp("embed", path, "--plugin", script, "--workers", 2, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    store = open_store(path)
    np.testing.assert_array_equal(store.read("composition"), shares(store))
    provenance = store.provenance("composition")
    assert provenance is not None
    assert provenance["identity"]["plugin"].startswith("sha256:")
    store.reopen("composition", 0)
    script.write_text(script.read_text() + "# changed\n")
    other = vnp("worker", path, "--plugin", script, "--device", "cpu")
    assert other.returncode == 1
    old = provenance["identity"]["plugin"]
    new = hashlib.sha256(script.read_bytes()).hexdigest()
    assert f"sha256:{new} now, {old} recorded" in other.stderr
    assert "vnp models --add" in other.stderr


def test_a_changed_script_costs_its_model_alone_and_no_second_worker(
    tmp_path: Path, script: Path
) -> None:
    path = begun(tmp_path, script)
    assert vnp("embed", path, "--plugin", script, "--device", "cpu").returncode == 0
    assert vnp("models", "--add", "demo_esm2", path).returncode == 0
    store = open_store(path)
    store.reopen("composition", 0)
    script.write_text(script.read_text() + "# changed\n")
    done = vnp("embed", path, "--plugin", script, "--device", "cpu", "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert report["certified"] == {"composition": 0, "demo_esm2": 45}
    [worker] = report["workers"]
    assert worker["failures"][0]["model"] == "composition"
    [problem] = report["problems"]
    assert "Changed code is another model" in problem
    # As the docs say to go on.
    script.write_text(script.read_text().replace('"composition"', '"composition_2"'))
    added = vnp("models", "--add", "composition_2", path, "--plugin", script)
    assert added.returncode == 0, added.stderr
    rest = ("--model", "composition_2", "--plugin", script, "--device", "cpu")
    assert vnp("embed", path, *rest).returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_there", "cannot be run: ModuleNotFoundError"),
        ("x = 1", "describes no model"),
        ("def", "cannot be run: SyntaxError"),
        ("from vnp.models.plugins import model\n@model('esm2_3b', input='protein', dim=3)\n"
         "def load(**_): ...", "the model name esm2_3b is taken"),
        ("from vnp.models.plugins import model\n@model('m', input='rna', dim=3)\n"
         "def load(**_): ...", "input is 'rna'"),
        ("import sys\nsys.exit(0)", "cannot be run: SystemExit"),
        ("from vnp.models.plugins import model\n"
         "@model('m', input='protein', dim=3)\ndef load(**_): ...\n"
         "@model('m', input='protein', dim=4)\ndef other(**_): ...", "two models called m"),
    ],
)  # fmt: skip
def test_a_script_that_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(text)
    found = vnp("models", "--plugin", path)
    assert found.returncode in (1, 2)
    assert said in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [[1.0] * 3 for each in sequences]", "gave an array of shape"),
        ("return [['a'] * 4 for each in sequences]", "gave no array"),
        ("return [[float('nan')] * 4 for each in sequences]", "NaN"),
        ("raise RuntimeError('no luck')", "no luck"),
        ("return __import__('numpy').ones((len(sequences), 4)) * 1j", "complex"),
    ],
)
def test_rows_that_are_wrong_fill_nothing(
    tmp_path: Path, script: Path, body: str, said: str
) -> None:
    text = script.read_text()
    start = text.index("        return [[each")
    script.write_text(text[:start] + f"        {body}\n\n    return embed\n")
    path = begun(tmp_path, script)
    done = vnp("embed", path, "--plugin", script, "--device", "cpu")
    assert done.returncode in (1, 3)
    assert said in done.stdout + done.stderr
    assert not open_store(path).filled("composition").any()


def test_both_sequences_of_a_record(tmp_path: Path) -> None:
    script = tmp_path / "both.py"
    script.write_text(
        "from vnp.models.plugins import model\n"
        "@model('lengths', input='both', dim=2)\n"
        "def load(**_):\n"
        "    return lambda records: [[len(dna), len(protein)] for dna, protein in records]\n"
    )
    path = tmp_path / "run.h5"
    assert vnp("init", path, "--model", "lengths", "--plugin", script).returncode == 0
    assert vnp("append", path, EXAMPLE).returncode == 0
    done = vnp("embed", path, "--plugin", script, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    store = open_store(path)
    lengths = [store.column(name).lengths for name in ("nucleotide", "protein")]
    np.testing.assert_array_equal(store.read("lengths"), np.stack(lengths, 1).astype(np.float16))


def test_every_function_that_names_models_takes_scripts(tmp_path: Path, script: Path) -> None:
    text = script.read_text().replace("composition", "everywhere")
    text += "from vnp.models.plugins import recipe\nrecipe('two', ('everywhere', 'demo_esm2'))\n"
    script.write_text(text)
    path, code = tmp_path / "run.zarr", (
        "import sys, vnp\n"
        "path, example, script, to = sys.argv[1:]\n"
        "vnp.append(path, example, create=True, recipe='two', plugins=script)\n"
        "assert vnp.embed(path, plugins=script, in_process=True, device='cpu').complete\n"
        "try:\n"
        "    vnp.residues(path, to, model='everywhere', rows=[0], plugins=script, device='cpu')\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )  # fmt: skip
    words = [sys.executable, "-c", code, path, EXAMPLE, script, tmp_path / "out.h5"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "everywhere is a plug-in's, which gives rows and no hidden states" in done.stdout
    assert [each.name for each in open_store(path).schema.models] == ["everywhere", "demo_esm2"]


def test_a_recipe_of_a_script_tells_the_models_of_a_classifier(
    tmp_path: Path, script: Path
) -> None:
    from vnp.classify.features import choose_models
    from vnp.classify.files import Card

    text = script.read_text().replace("composition", "ahead")
    text += "from vnp.models.plugins import recipe\nrecipe('ahead', ('ahead', 'demo_esm2'))\n"
    script.write_text(text)
    load_plugins([script])
    api.create(tmp_path / "run.zarr", models=["demo_esm2", "demo_dnabert_s", "ahead"])
    store = open_store(tmp_path / "run.zarr")
    assert choose_models(store, Card(132, 8, "")) == ("ahead", "demo_esm2")


def test_numbers_beyond_float16_are_told_as_such(tmp_path: Path) -> None:
    script = tmp_path / "large.py"
    script.write_text(
        "from vnp.models.plugins import model\n"
        "@model('large', input='protein', dim=2)\n"
        "def load(**_):\n"
        "    return lambda sequences: [[1.0, 70123.0 if i == 2 else 3.0] "
        "for i in range(len(sequences))]\n"
    )
    path = tmp_path / "run.zarr"
    api.create(path, models="large", plugins=script)
    api.append(path, EXAMPLE)
    report = embed(path, plugins=script, in_process=True, device="cpu")
    assert not report.complete
    [problem] = report.problems
    assert (
        "beyond float16's range in 1 row, the first is row 2, the largest number 70,123" in problem
    )
    assert "at most 65,504" in problem
    assert "another layer or pooling" in problem


def test_no_name_of_a_script_is_kept_in_a_store(tmp_path: Path, script: Path) -> None:
    path = begun(tmp_path, script)
    assert os.fsencode(str(script)) not in (path / "zarr.json").read_bytes()


def test_a_script_edited_in_a_session_is_run_again(tmp_path: Path, script: Path) -> None:
    # In this process, as in a notebook: its rows and the hash recorded are those of the new text.
    text = script.read_text().replace("composition", "edited")
    script.write_text(text)
    path = tmp_path / "run.zarr"
    load_plugins([script])
    api.create(path, models="edited", plugins=script)
    api.append(path, EXAMPLE)
    script.write_text(text + "raise ValueError('half way')\n")
    with pytest.raises(PluginError, match="half way"):
        load_plugins([script])
    changed = text.replace('"ACGT"', '"TGCA"')
    assert changed != text
    script.write_text(changed)
    assert embed(path, in_process=True, device="cpu", plugins=[script]).complete
    store = open_store(path)
    provenance = store.provenance("edited")
    assert provenance is not None
    sha256 = hashlib.sha256(changed.encode()).hexdigest()
    assert provenance["identity"]["plugin"] == f"sha256:{sha256}"
    np.testing.assert_array_equal(store.read("edited"), shares(store)[:, ::-1])


def test_a_script_describes_a_recipe(tmp_path: Path, script: Path) -> None:
    text = script.read_text().replace("import model", "import model, recipe")
    script.write_text(text + "\n\nrecipe('mine', ('composition', 'demo_esm2'))\n")
    path = tmp_path / "run.zarr"
    made = vnp("init", path, "--recipe", "mine", "--plugin", script)
    assert made.returncode == 0, made.stderr
    names = [model.name for model in open_store(path).schema.models]
    assert names == ["composition", "demo_esm2"]
