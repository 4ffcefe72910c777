"""What others read a store in S3 with, while it is half filled; and what vnp gives readers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from store.errors import NotAStoreError, UsageError
from store.io.files import WriteError
from store.location import S3Location, beside, location
from store.open import create_store, open_store
from store.s3.objects import Objects
from store.store import Store
from tests.processes import in_another_process
from tests.rows import MODELS, append, expected, publish
from tests.store.s3 import servers


@pytest.fixture
def half(moto: str, place: S3Location) -> Store:
    """Two samples; of the first model block 1 is filled, and the tail as it was before."""
    store = create_store(place, models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 36)
    publish(store, "small", 1)
    publish(store, "small", 2)
    append(store, "b", 10)
    return store


OBSTORE = """
from zarr.storage import ObjectStore
from obstore.store import S3Store
options = {"allow_http": True}
files = ObjectStore(S3Store(bucket, prefix=key, client_options=options), read_only=True)
"""
S3FS = """
import os, s3fs
from zarr.storage import FsspecStore
system = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], asynchronous=True)
files = FsspecStore(system, read_only=True, path=f"{bucket}/{key}")
"""
READ = """
import anndata, numpy, sys, xarray, zarr
tree = zarr.open_group(files, mode="r")
data = anndata.read_zarr(tree)
dataset = xarray.open_zarr(files, group="obsm", consolidated=False)
numpy.savez(
    out,
    zarr=tree["obsm/X_small"][:],
    anndata=data.obsm["X_small"],
    xarray=dataset["X_small"].to_numpy(),
    filled=data.obs["filled_small"].to_numpy(),
    sample=data.obs["sample"].astype(str).to_numpy(str),
    names=data.obs_names.to_numpy(str),
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("through", [OBSTORE, S3FS], ids=["obstore", "s3fs"])
def test_anndata_zarr_and_xarray_read_a_half_filled_store(
    half: Store, through: str, tmp_path: Path
) -> None:
    place = half.path
    assert isinstance(place, S3Location)
    out = tmp_path / "read.npz"
    script = f"bucket, key, out = {place.bucket!r}, {place.key!r}, {str(out)!r}{through}{READ}"
    # With none of vnp's code in the process; libraries may warn about themselves there.
    subprocess.run([sys.executable, "-P", "-W", "ignore", "-c", script], check=True, timeout=120)
    read = np.load(out)
    filled = half.filled("small")
    assert filled.sum() == 20
    for library in ("zarr", "anndata", "xarray"):
        assert read[library].shape == (46, 8)
        np.testing.assert_array_equal(read[library][filled], expected(half, "small")[filled])
    np.testing.assert_array_equal(read["filled"], filled)
    assert read["sample"].tolist() == ["a"] * 36 + ["b"] * 10
    assert read["names"][:2].tolist() == ["a_0_chunk_1F1", "a_1_chunk_1F1"]


def small_rows(store: Store) -> NDArray[np.float16]:
    rows: NDArray[np.float16] = store["small"][16:36]
    return rows


def test_the_readers_of_the_store_read_it(half: Store) -> None:
    store = half
    for found in (small_rows(half), in_another_process(small_rows, half)):
        np.testing.assert_array_equal(found, expected(half, "small")[16:36])
    assert np.isnan(store.merged()[0:16]).all()
    assert store.obs["contig"].tolist()[:2] == ["a_0", "a_1"]
    lazy = store.to_anndata()
    np.testing.assert_array_equal(
        np.asarray(lazy.obsm["X_small"])[16:32], expected(half, "small")[16:32]
    )


def test_keys_are_in_nothing_that_is_kept(half: Store) -> None:
    assert isinstance(half.path, S3Location)
    kept = pickle.dumps(half) + repr(half).encode()
    for place in (half.path, half.path.with_name("run.zarr.vnp")):
        objects = Objects(place)
        names = objects.names("")
        assert names
        for name in names:
            found = objects.get(name)
            assert found is not None
            kept += found.content + name.encode()
    assert servers.SECRET.encode() not in kept
    assert servers.KEY_ID.encode() not in kept


@pytest.mark.slow
def test_what_is_public_is_read_without_keys(
    seaweed: str, monkeypatch: pytest.MonkeyPatch, place: S3Location
) -> None:
    place = S3Location("public", place.key)
    store = create_store(place, models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 20)
    publish(store, "small", 0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    anonymous = open_store(place)
    np.testing.assert_array_equal(anonymous.read("small", 0, 16), expected(store, "small")[:16])
    assert list(anonymous.verify()) == []
    with pytest.raises(WriteError, match="403"):
        append(anonymous, "b", 3)


def test_a_directory_that_was_copied_there_is_not_worked_on(moto: str, place: S3Location) -> None:
    from store.schema import Schema
    from store.zarr.metadata import documents

    for name, content in documents(Schema(block_rows=4, segment_length=500)).items():
        Objects(place).put(name, content)
    with pytest.raises(NotAStoreError, match="vnp convert"):
        open_store(place)


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3://b/run.zarr",
        "s3://bucket//run.zarr",
        "s3://bucket/../run.zarr",
        "s3://bucket/a?x=1/run.zarr",
        "s3://bucket/a%2Fb/run.zarr",
        "s3://bucket/a\nb/run.zarr",
        "s3://user:secret@bucket/run.zarr",
    ],
)
def test_a_location_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        location(text)
    assert "user:secret" not in str(caught.value)


def test_a_location_is_read_from_text_and_from_a_path_made_of_it() -> None:
    place = S3Location("bucket", "a b/run.zarr")
    assert location("s3://bucket/a b/run.zarr/") == place == location(Path(str(place)))
    assert str(place) == "s3://bucket/a b/run.zarr"
    assert (place.name, place.suffix) == ("run.zarr", ".zarr")
    assert str(place.with_name("x")) == "s3://bucket/a b/x"
    assert beside(place, ".report.html") == Path("run.zarr.report.html")
    assert location("run.zarr") == Path("run.zarr")


@pytest.mark.parametrize("name", ["run.h5", "run.hdf5", "run"])
def test_other_kinds_of_store_are_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(UsageError, match=r"vnp convert|ends in \.zarr"):
        open_store(S3Location("bucket", name))
