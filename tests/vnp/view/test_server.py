"""What the server answers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from store.open import create_store
from store.store import Store
from tests import rows
from tests.vnp.view.stores import (
    HOSTILE,
    TOKEN,
    Browser,
    append,
    map_of,
    opened,
    served,
    until,
)
from vnp.report.calls import saved_scores
from vnp.report.collect import collect
from vnp.report.overview import overview
from vnp.view.live import LiveStore
from vnp.view.page import live_page


def test_contigs_of_the_store_are_listed_with_their_calls(client: Browser) -> None:
    found = client.get("/api/contigs").json()
    assert (found["total"], found["of"], found["complete"]) == (20, 20, True)
    assert [row["viral"] for row in found["rows"]] == [True] * 10 + [False] * 10
    first = found["rows"][0]
    assert first == {
        "sample": "first", "contig": "contig_0", "bases": 2500, "segments": 5, "records": 5,
        "viral_segments": 5, "score": pytest.approx(0.9), "viral": True,
    }  # fmt: skip
    given = {"sample": "second", "text": "SCRIPT", "viral": "true", "sort": "contig", "limit": "2"}
    found = client.get("/api/contigs", given).json()
    assert found["total"] == 3
    assert [row["contig"] for row in found["rows"]] == [f"{HOSTILE}_0", f"{HOSTILE}_2"]


def test_a_contig_has_a_track_whatever_it_is_called(client: Browser) -> None:
    given = {"sample": "second", "contig": f"{HOSTILE}_1"}
    found = client.get("/api/track", given).json()
    assert found["start"] == [0, 500, 1000, 1500, 2000]
    assert found["end"] == [500, 1000, 1500, 2000, 2500]
    assert found["consensus"] == pytest.approx([0.2] * 5, abs=0.001)
    assert [set(each) for each in found["frames"]] == [{"frame", "start", "end"}] * 5
    for sample, contig in (
        ("first", HOSTILE),
        ("../second", f"{HOSTILE}_1"),
        ("", ""),
        ("second", "\0"),
    ):
        answer = client.get("/api/track", {"sample": sample, "contig": contig})
        assert answer.json() is None, "there is no such contig"


@pytest.mark.slow
def test_the_overview_counts_what_the_report_counts(client: Browser, shared: Store) -> None:

    expected = overview(collect(shared, scores=saved_scores(shared), umap=False), live=True)
    until(lambda: client.get("/api/overview").json()["distributions"], "the distributions")
    found = client.get("/api/overview").json()
    del found["made"], expected["made"]
    assert found.pop("trouble") == ""
    assert found == json.loads(json.dumps(expected))


@pytest.mark.slow
def test_the_map_is_made_when_it_is_asked_for(client: Browser, shared: Store) -> None:
    shown = map_of(client)
    assert shown["of"] == shared.n_rows == len(shown["row"])
    expected = [0.9 if row // 5 % 2 == 0 else 0.2 for row in shown["row"]]
    assert shown["score"] == pytest.approx(expected)
    assert set(shown["length"]) == {2500}


@pytest.mark.parametrize("models", [(), rows.MODELS])
def test_a_store_without_rows_scores_or_models_is_shown(tmp_path: Path, models: Any) -> None:
    store = create_store(tmp_path / "run.zarr", models=models, segment_length=500)
    with opened(store) as client:
        assert map_of(client) is None
        assert client.get("/api/contigs").json()["complete"]
        append(store, "sample", 30)
        until(lambda: client.get("/api/overview").json()["store"]["rows"], "the sample")
        until(lambda: client.get("/api/contigs").json()["total"] == 6, "its contigs")
        assert {row["score"] for row in client.get("/api/contigs").json()["rows"]} == {None}
        assert map_of(client) is None, "nothing is certified"


def test_a_title_and_a_path_need_not_be_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"run\xff.zarr")
    try:
        store = create_store(tmp_path / name, models=rows.MODELS, segment_length=500)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    for title in (None, os.fsdecode(b"title\xff")):
        live = LiveStore(store, title=title, umap=False)
        with served(live, page=live_page(title or name)) as client:
            assert client.get(f"/?token={TOKEN}").status == 200
            assert client.get("/api/overview").json()["store"]


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["offset=-1", "offset=1e3", "offset=99999999999999999999", "limit=-5", "limit=1000000000",
     "limit=0x10", "limit=%D9%A1", "min_length=nan", "min_length=inf", "min_score=NaN",
     "min_score=-inf", "min_score=1_0", "min_score=", "viral=yes", "descending=1", "sort=path",
     "sort=__class__", "text=" + "a" * 201, "sample=" + "a" * 201, "unknown=1", "limit=1&limit=2",
     "Limit=1", "%00=1", "limit=%0a1"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_a_sentence(client: Browser, query: str) -> None:
    answer = client.get(f"/api/contigs?{query}")
    assert answer.status == 400
    assert set(answer.json()) == {"error"}
    assert len(answer.json()["error"]) < 200
    for path in ("overview", "map", "events"):
        assert client.get(f"/api/{path}?{query}").status == 400


@pytest.mark.parametrize(
    "query",
    ["offset=9007199254740992", "limit=0", "text=%00", "text=%FF%FE", "text=%F0%9F%A6%A0",
     "text=..%2F..%2Fetc%2Fpasswd", "text=%27%20OR%201%3D1", "min_length=-5", "min_score=1e300",
     "text=", "sample=..%2F", "sample=%00", "text=%0a", "text=%ED%A0%80"],
)  # fmt: skip
def test_odd_values_are_data(client: Browser, query: str) -> None:
    answer = client.get(f"/api/contigs?{query}")
    assert answer.status == 200
    assert answer.json()["complete"]


@pytest.mark.parametrize(
    "path",
    ["/../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "/api/../../x",
     "/api/track/../x", "/%00", "/api/contigs/", "/api/contigs%2f..%2f", "/static/..;/x", "/api",
     "/vnp/view/live.js", "/<script>alert(1)</script>", "/api/overview%00", "/\\..\\x"],
)  # fmt: skip
def test_there_are_no_other_paths(client: Browser, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 404
    assert answer.json() == {"error": "there is nothing here"}


def test_a_long_address_is_refused(client: Browser) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as endless:
        refused = b""
        with contextlib.suppress(ConnectionError):  # it hangs up while it is written to
            endless.sendall(b"GET /api/contigs?text=" + b"a" * 10_000_000)
        with contextlib.suppress(ConnectionError):
            refused = endless.recv(65536)
    assert refused == b"" or refused.startswith(b"HTTP/1.1 400")
    for query in ("text=" + "a" * 20_000, "a=" * 10_000):
        assert client.get(f"/api/contigs?{query}").status == 414
    assert client.get("/" + "a" * 20_000).status == 414


def test_errors_name_neither_code_nor_paths(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(store) as client:
        until(lambda: client.get("/api/contigs").json()["complete"], "the index")
        (store.path / "obs/start/c.0").write_bytes(b"damaged")
        answer = client.get("/api/track", {"sample": "first", "contig": "contig_1"})
        assert answer.status == 500
        assert str(store.path) not in answer.text
        assert "obs/start" in caplog.text, "the terminal says where"

        def fail(_: LiveStore) -> None:
            raise RuntimeError(f"secret {store.path}")

        monkeypatch.setattr(LiveStore, "overview", fail)
        answer = client.get("/api/overview")
    assert answer.status == 500
    assert answer.json() == {"error": "the server failed: its terminal says why"}
    assert "secret" in caplog.text


@pytest.mark.slow
def test_nothing_of_the_store_is_written(client: Browser, shared: Store) -> None:
    def seen() -> dict[str, tuple[int, int]]:
        paths = [*shared.path.rglob("*"), *shared.path.with_name("run.zarr.vnp").rglob("*")]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}

    before = seen()
    client.get("/api/overview")
    client.get("/api/contigs")
    client.get("/api/track", {"sample": "first", "contig": "contig_1"})
    client.get("/api/neighbours", {"row": 1})
    until(lambda: not client.get("/api/map").json()["pending"], "the map")
    assert seen() == before


# -- a store that changes ------------------------------------------------------------------------
