"""Models of a store go by every name a user has for them; wrong ones never reach the hub."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import vnp
from store.errors import UsageError
from store.open import create_store
from store.schema import Model, Schema
from vnp.classify.features import choose_models
from vnp.classify.files import Card
from vnp.classify.train import TrainSettings, train
from vnp.cli.main import main
from vnp.embed.config import WorkerConfig
from vnp.embed.worker import Worker
from vnp.exchange.compare import compare
from vnp.models import hub, registry
from vnp.models.errors import UnknownModelError
from vnp.models.held import held_model, held_models

SOURCES = (
    "esm2_3b",
    "esm2_3b@layer=24",
    "esm2_650m@layer=30,pooling=mean+max",
    "demo_dnabert_s@pooling=cls",
)


def stored(*sources: str) -> Schema:
    specs = [registry.model(source) for source in sources]
    hubs = (
        Model("hf_org_dna", 8, "hf:ORG/DNA@input=nucleotide"),
        Model("hf_org_dna_v2_layer3", 8, "hf:ORG/DNA@v2,input=nucleotide,layer=3"),
        Model("mine", 8),
    )
    models = (*(Model(each.name, each.embedding_dim, each.source) for each in specs), *hubs)
    return Schema(block_rows=16, segment_length=500, models=models)


@pytest.mark.parametrize("source", SOURCES)
def test_a_name_is_told_as_it_is_made(source: str) -> None:
    spec = registry.model(source)
    assert registry.name_in_store(source) == spec.name
    schema = stored(*SOURCES)
    assert held_models(schema, [source, spec.name]) == (spec.name, spec.name)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("esm2_650m@pooling=mean+max,layer=30", "esm2_650m_layer30_mean_max"),
        ("hf:ORG/DNA", "hf_org_dna"),
        ("hf:ORG/DNA@input=nucleotide", "hf_org_dna"),
        ("hf:ORG/DNA@v2,layer=3", "hf_org_dna_v2_layer3"),
        ("mine", "mine"),
    ],
)
def test_another_spelling_is_the_same_model(
    asked: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "configuration", never)
    assert held_model(stored(*SOURCES), asked) == name


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("esm2_3b@layer=23", "esm2_3b_layer24"),
        ("esm2_3", "esm2_3b"),
        ("mien", "mine"),
        ("hf:ORG/DNA@v3,layer=3", "hf_org_dna_v2_layer3"),
        ("hf:ORG/DNA@input=protein", "hf_org_dna"),
    ],
)
def test_an_unknown_one_names_the_nearest(asked: str, near: str) -> None:
    with pytest.raises(UsageError) as error:
        held_model(stored(*SOURCES), asked)
    assert f"no model {asked!r} (it has: esm2_3b, " in str(error.value)
    assert f"); did you mean {near}?" in str(error.value)


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("the hub was asked")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:ORG/DNA@layer=0", "a layer is a number from 1"),
        ("hf:ORG/DNA@layer=two", "a layer is a number from 1"),
        ("hf:ORG/DNA@pooling=median", "unknown pooling 'median'"),
        ("hf:ORG/DNA@input=rna", "input is nucleotide or protein, not rna"),
        ("hf:ORG/DNA@main,leyer=2", "'leyer=2' is not an option"),
        ("hf:ORG", "not the name of a model of the hub"),
        ("esm2_3b@main", "only models of the hub"),
        ("esm2_3c", r"did you mean esm2_3b\?"),
    ],
)
def test_wrong_options_are_told_before_the_hub_is_asked(
    source: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "configuration", never)
    for ask in (registry.model, registry.name_in_store):
        with pytest.raises((UsageError, UnknownModelError), match=said):
            ask(source)
    with pytest.raises((UsageError, UnknownModelError), match=said):
        registry.check_names(["hf:ORG/OTHER", source])


def test_a_model_named_twice_is_told_before_the_hub_is_asked() -> None:
    with pytest.raises(UsageError, match="named twice: hf_org_dna"):
        registry.check_names(["hf:ORG/DNA", "hf:ORG/DNA@input=protein"])


def test_every_part_takes_a_model_by_what_it_was_asked_for_by(tmp_path: Path) -> None:
    asked = "demo_esm2@layer=1,pooling=max"
    spec = registry.model(asked)
    path = tmp_path / "named.zarr"
    created = create_store(
        path, models=[Model(spec.name, 8, spec.source)], segment_length=500, block_rows=16
    )
    config = WorkerConfig(models=("demo_esm2@pooling=max,layer=1",))
    assert config.for_store(created.schema).models == (spec.name,)
    assert WorkerConfig().for_store(created.schema).models == (spec.name,)
    assert choose_models(created, Card(8, 8, ""), [asked]) == (spec.name,)
    for refused in (
        lambda: choose_models(created, Card(8, 8, ""), ["demo_esm2@layer=2"]),
        lambda: compare(created, [path], models=["demo_esm2@layer=2"]),
        lambda: train(
            created,
            tmp_path / "labels.tsv",
            tmp_path / "x.safetensors",
            settings=TrainSettings(models=("demo_esm2@layer=2",)),
            device=torch.device("cpu"),
        ),
        lambda: Worker(
            path, config=WorkerConfig(models=("demo_esm2@layer=2",)), stop=threading.Event()
        ),
        lambda: vnp.embed(path, models="demo_esm2@layer=2"),
        lambda: vnp.export(path, tmp_path / "x.npy", models="demo_esm2@layer=2"),
    ):
        with pytest.raises(UsageError, match=r"did you mean demo_esm2_layer1_max\?"):
            refused()
    with pytest.raises(SystemExit):
        main(["embed", str(path), "--workers", "0"])
