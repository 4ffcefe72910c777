"""To whom the server answers, and to nobody else."""

from __future__ import annotations

import pytest

from store.store import Store
from tests.vnp.view.stores import (
    TOKEN,
    Browser,
    served,
)
from vnp.view.live import LiveStore


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
