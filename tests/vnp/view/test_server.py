"""What the server answers, to whom, and to nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.errors import StoreError
from store.open import create_store, open_store
from store.store import Store
from tests import rows
from tests.vnp.view.stores import (
    HOSTILE,
    TOKEN,
    Browser,
    append,
    keep_scores,
    make_store,
    served,
    until,
)
from vnp.report.calls import saved_scores
from vnp.report.collect import collect
from vnp.report.overview import overview
from vnp.view import live as live_module
from vnp.view.index import ContigIndex
from vnp.view.live import LiveStore
from vnp.view.page import live_page
from vnp.view.picture import Picture, filled_of
from vnp.view.search import Cancelled, neighbours


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that no test changes."""
    return make_store(tmp_path_factory.mktemp("shared") / "run.zarr")


@pytest.fixture(scope="module")
def client(shared: Store) -> Iterator[Browser]:
    """A browser that opened the address of the shared store, whose contigs are indexed."""
    with opened(shared) as browser:
        until(lambda: browser.get("/api/overview").json()["classifier"], "the calls")
        yield browser


@pytest.fixture
def stranger(client: Browser) -> Browser:
    """A browser that has been nowhere yet."""
    return Browser(client.port)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "run.zarr")


@contextlib.contextmanager
def opened(store: Store) -> Iterator[Browser]:
    """A browser that opened the address of another store."""
    with served(LiveStore(store, umap=False)) as browser:
        assert browser.get(f"/?token={TOKEN}").status == 200
        yield browser


def map_of(client: Browser) -> Any:
    def made() -> Any:
        found = client.get("/api/map").json()
        return None if found["pending"] else found

    return until(made, "the map")["map"]


# -- who may ask ---------------------------------------------------------------------------------


def test_the_address_with_the_token_gives_a_cookie_that_no_script_can_read(
    stranger: Browser,
) -> None:
    client = stranger
    assert client.get("/").status == 403
    assert client.get("/api/overview").status == 403
    answer = client.get(f"/?token={TOKEN}")
    assert answer.status == 200
    kept = answer.headers["set-cookie"]
    assert "HttpOnly" in kept
    assert "SameSite=Strict" in kept
    assert "Domain" not in kept
    assert client.get("/").status == 200
    assert client.get("/api/overview").status == 200


@pytest.mark.parametrize(
    "address",
    ["/?token=", "/?token=wrong", f"/?token={TOKEN[:-1]}", f"/?token={TOKEN}&token={TOKEN}",
     f"/?token={TOKEN}%00", "/?token=%C3%A9", "/?token", f"/?Token={TOKEN}", f"/x?token={TOKEN}",
     f"/api/overview?token={TOKEN}", f"//?token={TOKEN}", "/?token=" + "9" * 10_000],
)  # fmt: skip
def test_another_address_gives_nothing(stranger: Browser, address: str) -> None:
    answer = stranger.get(address)
    assert answer.status in (403, 404)
    assert "set-cookie" not in answer.headers
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8470", "127.0.0.1.evil.example", "localhost.evil.example:1",
     "127.0.0.2", "0.0.0.0", "[::2]:8470", "evil@127.0.0.1", "127.0.0.1:8470x", ""],
)  # fmt: skip
def test_another_host_is_refused_also_with_the_token(client: Browser, host: str) -> None:
    for path in ("/", f"/?token={TOKEN}", "/api/overview"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status == 421
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:9000", "LOCALHOST:80", "[::1]:9000", "[::1]"]
)
def test_this_machine_has_several_names_and_any_port(client: Browser, host: str) -> None:
    assert client.get("/api/overview", headers={"Host": host}).status == 200


def test_another_site_or_port_is_refused(client: Browser) -> None:
    for site in ("cross-site", "same-site"):
        answer = client.get("/api/overview", headers={"sec-fetch-site": site})
        assert answer.status == 403
    for origin in ("http://127.0.0.1:9999", "http://evil.example", "null"):
        answer = client.get("/api/overview", headers={"origin": origin})
        assert answer.status == 403
        assert not any(name.startswith("access-control") for name in answer.headers)
    own = {"sec-fetch-site": "same-origin", "origin": f"http://127.0.0.1:{client.port}"}
    assert client.get("/api/overview", headers=own).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"])
def test_only_get_is_answered(client: Browser, method: str) -> None:
    for path in ("/", "/api/contigs", "/api/events", f"/?token={TOKEN}"):
        answer = client.get(path, method=method)
        assert answer.status == 405
        assert "set-cookie" not in answer.headers
        assert answer.headers["allow"] == "GET"


def test_every_answer_tells_the_browser_to_run_and_frame_nothing_else(client: Browser) -> None:
    for path in ("/", "/api/overview", "/api/nothing", "/api/contigs?limit=x"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
        assert TOKEN not in client.get(path).text


def test_two_servers_of_one_machine_keep_their_cookies_apart(store: Store) -> None:
    with (
        served(LiveStore(store), token="a") as first,
        served(LiveStore(store), token="b") as second,
    ):
        first.get("/?token=a")
        second.cookies = first.cookies  # a browser sends them to every port
        assert second.get("/").status == 403
        second.get("/?token=b")
        assert len(first.cookies) == 2
        assert first.get("/").status == second.get("/").status == 200


@pytest.mark.parametrize(
    "other",
    ['theme={"dark":true}', "a=b c", "x", "tk=a[1]", "bad key=1", "a=\x01", "[x]=1", "=", "",
     'name="2|1:0|10:1733|x=="', "café=1"],
)  # fmt: skip
def test_cookies_of_other_programs_lock_nobody_out(client: Browser, other: str) -> None:
    [own] = [f"{name}={value}" for name, value in client.cookies.items()]
    for given in (f"{other}; {own}", f"{own};{other}", f"{other};{own}; {other}"):
        answer = Browser(client.port).get("/api/overview", headers={"Cookie": given})
        assert answer.status == 200
    assert Browser(client.port).get("/", headers={"Cookie": f"{own}x; {other}"}).status == 403


# -- what is answered ----------------------------------------------------------------------------


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
    assert found["score"] == pytest.approx([0.2] * 5, abs=0.001)
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


def test_neighbours_are_those_of_the_search_of_the_store(client: Browser, shared: Store) -> None:
    found = client.get("/api/neighbours", {"row": 42}).json()
    hits = shared.search(shared.merged()[42], 21)
    expected = [row for row in hits.rows[0].tolist() if row != 42][:20]
    assert [each["row"] for each in found] == expected
    assert found[0]["id"] == shared.column("id").decode()[expected[0]]
    assert found[0]["sample"] == ("first" if expected[0] < 70 else "second")


def test_records_without_an_embedding_have_no_neighbours(store: Store) -> None:
    append(store, "third", 40)
    with opened(store) as client:
        for row in (store.n_rows - 1, store.n_rows, 2**53):
            assert client.get("/api/neighbours", {"row": row}).status == 404
        assert client.get("/api/neighbours").status == 400


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


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_an_appended_sample_and_new_scores_are_seen(tmp_path: Path, kind: str) -> None:
    store = make_store(tmp_path / f"run.{kind}")
    with opened(open_store(store.path)) as client:

        def asked(**given: str) -> Any:
            client.get("/api/overview")  # has it look
            return client.get(
                "/api/contigs", {**given, "sort": "score", "descending": "true"}
            ).json()

        until(lambda: asked()["total"] == 20, "the index")
        append(store, "third", 40, contig="later")
        found = until(lambda: (each := asked(text="later"))["total"] and each, "its contigs")
        assert found["total"] == 8
        assert {row["score"] for row in found["rows"]} == {None}, "nothing scored them"
        keep_scores(store)
        found = until(lambda: (each := asked(text="later"))["rows"][0]["score"] and each, "scores")
        assert found["rows"][0]["score"] == pytest.approx(0.9)
        assert client.get("/api/track", {"sample": "third", "contig": "later_7"}).json()["score"]


def test_a_browser_that_leaves_ends_its_search(
    client: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = threading.Event(), threading.Event()

    def endless(*_: Any, stop: threading.Event, **__: Any) -> Any:
        began.set()
        assert stop.wait(60)
        ended.set()
        raise Cancelled

    monkeypatch.setattr(live_module, "neighbours", endless)
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    asked = f"GET /api/neighbours?row=1 HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(asked.encode())
        assert began.wait(60)
    assert ended.wait(60)
    monkeypatch.undo()
    assert client.get("/api/neighbours", {"row": 1}).status == 200, "the next one has its turn"


def test_a_search_that_nobody_waits_for_is_given_up(shared: Store) -> None:
    gone = threading.Event()
    gone.set()
    with pytest.raises(Cancelled):
        neighbours(shared, 1, scores=None, stop=gone)


def test_a_store_that_vanishes_is_told_and_does_not_end_the_server(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(store) as client:
        until(lambda: client.get("/api/contigs").json()["complete"], "the index")
        store.path.rename(store.path.with_name("moved.zarr"))
        until(
            lambda: client.get("/api/overview") and "cannot be looked at" in caplog.text, "a word"
        )
        assert "cannot be read any more" in client.get("/api/overview").json()["trouble"]
        assert client.get("/api/contigs").json()["total"] == 20, "the index still answers"
        answer = client.get("/api/track", {"sample": "first", "contig": "contig_1"})
        assert answer.status == 500
        assert str(store.path) not in answer.text


def remade(store: Store) -> Store:
    """Another store with fewer samples and without scores in the place of one."""
    for path in (store.path, store.path.with_name(f"{store.path.name}.vnp")):
        shutil.rmtree(path)
    made = create_store(store.path, models=rows.MODELS[:1], segment_length=500, block_rows=16)
    append(made, "other", 10)
    return made


def test_a_store_made_anew_while_it_is_open_is_shown_as_it_is(store: Store) -> None:
    with opened(store) as client:
        until(lambda: client.get("/api/overview").json()["classifier"], "the calls")
        until(lambda: client.get("/api/overview").json()["distributions"], "the distributions")
        remade(store)

        def overview() -> Any:
            found = client.get("/api/overview").json()
            return found if found["total"]["records"] == 10 else None

        assert until(overview, "the other store")["classifier"] is None
        until(lambda: client.get("/api/contigs").json()["total"] == 2, "its contigs")
        assert client.get("/api/overview").json()["store"]["models"] == ["small"]


def test_nothing_of_another_store_is_shown_of_one(store: Store, tmp_path: Path) -> None:
    picture = Picture(store, title=None)
    filled = filled_of(store)
    picture.look(store, filled)
    picture.read(store, filled)
    source = saved_scores(store)
    index = ContigIndex(threading.Event())
    assert [indexed.complete for indexed in index.extend(store, source)] == [True]
    picture.called(store, source, index.tally, index.scored)
    assert picture.overview()["classifier"]
    other = create_store(
        tmp_path / "other.zarr", models=rows.MODELS, segment_length=500, block_rows=16
    )
    append(other, "first", 10)
    picture.look(other, filled_of(other))
    found = picture.overview()
    assert found["total"]["records"] == 10
    assert found["classifier"] is None
    assert found["distributions"] is None
    picture.called(store, source, index.tally, index.scored)  # it was under way
    assert picture.overview()["classifier"] is None
    assert not index.goes_on_with(other, source)
    index.close()


def test_what_fails_unforeseen_ends_neither_thread(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_module, "_SLOWEST_SECONDS", 0.01)
    failing = ["looked", "caught up"]

    def once(what: str, real: Any) -> Any:
        def call(*given: Any) -> Any:
            if what in failing:
                failing.remove(what)
                raise IndexError(what)
            return real(*given)

        return call

    monkeypatch.setattr(LiveStore, "_looked", once("looked", LiveStore._looked))
    monkeypatch.setattr(LiveStore, "_catch_up", once("caught up", LiveStore._catch_up))
    with opened(store) as client:
        until(lambda: client.get("/api/overview") and not failing, "both")
        until(lambda: client.get("/api/overview").json()["classifier"], "the calls")
        append(store, "third", 5)
        until(lambda: client.get("/api/overview").json()["total"]["records"] == 105, "a look")
    assert caplog.text.count("Traceback") == 2


def drawing(given: list[Any], failing: list[Any]) -> Any:
    """What stands for the making of a map: keeps the scores, and fails while it should."""

    def draw(store: Store, table: Any, *, scores: str | None, **_: Any) -> Any:
        given.append((len(table), scores))
        if failing:
            raise StoreError(f"the map cannot be made in {store.path}")
        return {"of": store.n_rows, "score": scores}

    return draw


def test_the_map_is_made_anew_for_scores_that_come_later_and_for_another_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(live_module, "draw_map", drawing(given, []))
    store = create_store(tmp_path / "run.zarr", models=rows.MODELS, segment_length=500)
    append(store, "first", 20)
    for model in rows.MODELS:
        rows.publish(store, model.name, 0)
    with opened(store) as client:

        def shown(score: str | None, of: int) -> Any:
            client.get("/api/overview")  # has it look
            found = client.get("/api/map").json()
            return found["map"] == {"of": of, "score": score} and found["number"]

        until(lambda: shown(None, 20), "the first map")
        keep_scores(store, "later")
        assert until(lambda: shown("later", 20), "the scores") == 2
        for path in (store.path, store.path.with_name("run.zarr.vnp")):
            shutil.rmtree(path)
        other = create_store(store.path, models=rows.MODELS, segment_length=500)
        append(other, "other", 20)
        for model in rows.MODELS:
            rows.publish(other, model.name, 0)
        until(lambda: shown(None, 20), "the map of the other store")
        assert given == [(4, None), (4, "later"), (4, None)], "each once"


def test_a_map_that_cannot_be_made_is_told_and_not_tried_at_each_question(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[Any] = []
    failing = [True]
    monkeypatch.setattr(live_module, "draw_map", drawing(given, failing))
    with opened(store) as client:
        found = until(
            lambda: not (each := client.get("/api/map").json())["pending"] and each, "a word"
        )
        assert found["map"] is None
        assert found["trouble"].startswith("The map cannot be made")
        assert str(store.path) not in found["trouble"]
        assert str(store.path) in caplog.text, "the terminal says why"
        for _ in range(3):
            assert client.get("/api/map").json() == found
        failing.clear()
        append(store, "third", 5)  # the questions have been answered when this is indexed
        until(
            lambda: (
                client.get("/api/overview") and client.get("/api/contigs").json()["total"] == 21
            ),
            "the sample",
        )
        assert len(given) == 1
        keep_scores(store, "other")
        until(lambda: client.get("/api/overview") and client.get("/api/map").json()["map"], "it")


def test_contigs_that_cannot_be_read_are_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "_SLOWEST_SECONDS", 0.01)

    def fail(*_: Any) -> Any:
        raise StoreError(f"{store.path} is damaged")

    with monkeypatch.context() as failing:
        failing.setattr(LiveStore, "_catch_up", fail)
        live = LiveStore(store, umap=False)
        with served(live) as client:
            client.get(f"/?token={TOKEN}")
            until(lambda: client.get("/api/overview").json()["trouble"], "a word")
            answer = client.get("/api/map").json()
            assert not answer["pending"]
            assert answer["trouble"] == client.get("/api/contigs").json()["trouble"]
            assert answer["trouble"].startswith("The contigs cannot be read")
            failing.undo()
            until(lambda: not client.get("/api/overview").json()["trouble"], "the end of it")
            assert client.get("/api/contigs").json()["complete"]
