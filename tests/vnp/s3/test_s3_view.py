"""``vnp view`` of a store in a bucket."""

from __future__ import annotations

import pytest

from store.location import S3Location
from tests.vnp.view.stores import TOKEN, make_store, parts_of, served, until
from vnp.view.live import LiveStore

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("moto")]


def test_a_store_in_a_bucket_is_shown(place: S3Location) -> None:
    store = make_store(place)
    with served(LiveStore(store, umap=False)) as browser:
        assert browser.get(f"/?token={TOKEN}").status == 200
        until(lambda: browser.get("/api/overview").json()["classifier"], "the calls")
        assert browser.get("/api/contigs").json()["total"] == 20
        track = browser.get("/api/track", {"sample": "first", "contig": "contig_3"}).json()
        assert track["end"] == [500, 1000, 1500, 2000, 2500]
        until(lambda: not browser.get("/api/map").json()["pending"], "the map")
        assert len(parts_of(browser.get("/api/neighbours", {"row": 3}))[-1]["records"]) == 20
