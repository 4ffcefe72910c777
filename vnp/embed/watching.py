"""Progress of a whole store while others, or threads of this process, fill it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from store.errors import StoreError
from store.store import Store
from vnp.embed.progress import Progress
from vnp.embed.status import read_status

_LOOK = 0.5  # seconds between two looks at the store


@contextmanager
def watching(store: Store, *, models: tuple[str, ...]) -> Iterator[Progress]:
    """Show how far a store is filled, its rate and the time left, while the body runs.

    Parameters
    ----------
    store
        The store; rows appended meanwhile are taken into account.
    models
        Which of its models count; none for all.
    """
    over = threading.Event()
    status = read_status(store, models=models)
    with Progress(
        "embed", total=status.rows_wanted, unit="records", already=status.rows_done
    ) as progress:

        def look() -> None:
            newest = store.snapshot()
            seen = read_status(newest, models=models)
            progress.update(seen.rows_done + seen.rows_in_hand, total=seen.rows_wanted)

        def watch() -> None:
            while not over.wait(_LOOK):
                try:
                    look()
                except (StoreError, OSError) as error:
                    progress.say(f"progress cannot be read at the moment: {error}")
                    over.wait(60 * _LOOK)

        watcher = threading.Thread(target=watch, name="progress", daemon=True)
        watcher.start()
        try:
            yield progress
        finally:
            over.set()
            watcher.join()
        status = read_status(store.snapshot(), models=models)
        progress.update(status.rows_done, total=status.rows_wanted)
