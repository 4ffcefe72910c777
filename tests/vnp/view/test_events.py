"""Events: each page gets the newest of each part; slow ones hold up nobody."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.store import Store
from tests import rows
from tests.vnp.view.stores import TOKEN, Browser, append, listening, make_store, served, until
from vnp.view import events as module
from vnp.view import serve as serve_module
from vnp.view.live import LiveStore

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "run.zarr")


def test_pages_are_told_what_changes(store: Store) -> None:
    live = LiveStore(store, umap=False)
    with served(live) as browser:
        browser.get(f"/?token={TOKEN}")
        with listening(browser) as first, listening(browser) as second:
            first.until(lambda parts: parts["store"]["complete"])
            second.until(lambda parts: parts["workers"] == 0)
            append(store, "third", 16)
            first.until(lambda parts: parts["total"]["records"] == 116)
            first.until(lambda parts: parts["models"][0]["open_blocks"])
            for model in rows.MODELS:
                for block in store.open_blocks(model.name).tolist():
                    rows.publish(store, model.name, block)
            second.until(
                lambda parts: parts["store"]["complete"] and parts["total"]["certified"] == 116
            )
        until(lambda: live.events.pages == 0, "the end of both")
    assert not any(thread.is_alive() for thread in live._threads)


def test_a_page_that_does_not_read_is_given_up_and_holds_up_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOWEST_SECONDS", 0.5)
    live = LiveStore(store, umap=False)
    with served(live) as browser:
        browser.get(f"/?token={TOKEN}")
        with listening(browser) as first, listening(browser):  # the second is never read
            first.until(lambda parts: "store" in parts)
            until(lambda: live.events.pages == 2, "both")
            for number in itertools.count():
                assert number < 1000, "it is still there"
                if live.events.pages == 1:
                    break
                filler = f"{number}" + "x" * 1_000_000
                live.events.publish({"filler": filler})
                first.until(lambda parts: parts.get("filler") == filler)  # noqa: B023 - at once


def test_there_is_room_for_so_many_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAGES", 1)
    with served(LiveStore(store, umap=False)) as browser:
        browser.get(f"/?token={TOKEN}")
        with listening(browser) as page:
            page.until(lambda parts: "store" in parts)
            answer = browser.get("/api/events")
            assert (answer.status, set(answer.json())) == (503, {"error"})


def test_whoever_sends_no_whole_request_is_hung_up_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(LiveStore(store, umap=False)) as browser, contextlib.ExitStack() as stack:
        browser.get(f"/?token={TOKEN}")
        monkeypatch.setattr(serve_module, "_REQUEST_SECONDS", 1.0)
        page = stack.enter_context(listening(browser))
        page.until(lambda parts: "store" in parts)
        address = ("127.0.0.1", browser.port)
        asked = b"GET /favicon.ico HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n", asked + b"GET / "):
            idle = stack.enter_context(socket.create_connection(address, timeout=60))
            idle.sendall(sent)
            with idle.makefile("rb") as answer:
                assert (b"403" in answer.read()) == sent.startswith(asked)
        append(store, "third", 16)
        page.until(lambda parts: parts["total"]["records"] == 116)  # it is still listened to


# -- the command ---------------------------------------------------------------------------------


@contextlib.contextmanager
def command(*words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    run = subprocess.Popen(
        [sys.executable, "-m", "vnp", "view", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_with_open_pages(store: Store, number: signal.Signals) -> None:
    with command(str(store.path), "--port", "0", "--json") as run:
        assert run.stdout is not None
        told = json.loads(run.stdout.readline())
        browser = Browser(told["port"])
        token = told["url"].partition("?token=")[2]
        assert len(token) == 43
        assert browser.get(f"/?token={token}").status == 200
        with listening(browser) as page:
            page.until(lambda parts: "store" in parts)
            run.send_signal(number)
            page.rest()
            _, errors = run.communicate(timeout=60)
        assert run.returncode == 130
        assert errors == "vnp: interrupted\n"


@pytest.mark.slow
def test_the_address_is_printed_for_people_and_a_taken_port_is_told(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with command(str(store.path), "--port", port) as run:
            _, errors = run.communicate(timeout=60)
            assert run.returncode == 2
            assert errors == (
                f"vnp view: error: port {port} is taken; choose another with --port, 0 is any\n"
            )
    with command(str(store.path)) as run:
        assert run.stdout is not None
        lines = [run.stdout.readline() for _ in range(4)]
        assert "http://127.0.0.1:84" in lines[1]
        assert "ssh -L" in lines[2]
    with command(str(store.path), "--scores", "absent") as run:
        assert "no scores 'absent'" in run.communicate(timeout=60)[1]
        assert run.returncode == 2


@pytest.mark.slow
def test_a_browser_is_given_a_file_that_only_its_user_can_read(
    store: Store, tmp_path: Path
) -> None:
    program = tmp_path / "browser"
    program.write_text(
        """#!/bin/sh
cd "$(dirname "$0")"
echo "$@" > given
stat -c %a "${1#file://}" > mode
cat "${1#file://}" > page
mv page shown
"""
    )
    program.chmod(0o755)
    words = (str(store.path), "--port", "0", "--json", "--open")
    with command(*words, BROWSER=f"{program} %s") as run:
        assert run.stdout is not None
        address = json.loads(run.stdout.readline())["url"]
        until((tmp_path / "shown").exists, "the browser")
        run.terminate()
        run.communicate(timeout=60)
    assert address in (tmp_path / "shown").read_text()
    assert (tmp_path / "mode").read_text() == "600\n"
    given = (tmp_path / "given").read_text().strip()
    assert "token" not in given
    assert not Path(given.removeprefix("file://")).exists(), "it is gone with the server"
