"""The worker that runs in the process that called, instead of in one of its own."""

from __future__ import annotations

import threading
from typing import Any

from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.report import described
from vnp.embed.status import watching


class InProcess:
    """One worker in this process and thread, with the interface of a team of worker processes."""

    def __init__(self) -> None:
        self.codes: list[int] = []  # what keeps this worker from working is raised
        self._stop = threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self, _number: int, _frame: object) -> None:
        """Have the worker release what it holds and end. The second time, do not wait for it."""
        if self.stopping:
            raise KeyboardInterrupt
        self._stop.set()

    def work(
        self, store: Store, configs: tuple[WorkerConfig, ...], reports: list[dict[str, Any]]
    ) -> list[str]:
        """Run the worker until it ends; return what it could not fill.

        Raises
        ------
        StoreError
            If the store, the weights or the disk keep it from working.
        """
        from vnp.embed.worker import Worker

        [config] = configs
        with watching(store, models=config.models):
            report = Worker(store.path, config=config, stop=self._stop).run().to_json()
        reports.append(report)
        return [described(failure) for failure in report["failures"]]
