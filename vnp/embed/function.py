"""``vnp embed`` as a function, ``vnp.embed``: for scripts and notebooks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from store.errors import UsageError
from store.location import location
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.fill import EmbedReport, certify_store
from vnp.embed.keywords import named_in_python
from vnp.embed.supervisor import embed_store

if TYPE_CHECKING:
    from vnp.inference.encoder import Precision


@named_in_python
def embed(
    store: str | os.PathLike[str] | Store,
    *,
    workers: int | None = None,
    in_process: bool = False,
    models: str | Sequence[str] = (),
    device: str = "auto",
    precision: Precision = "default",
    precision_bound: float = 0.9995,
    weights: str | os.PathLike[str] | None = None,
    plugins: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    dedup: bool = True,
    token_budget: int | None = None,
    check_threads: int | None = None,
    certify: bool = False,
) -> EmbedReport:
    """Fill and certify a store, as ``vnp embed`` does; it resumes where the last run stopped.

    Progress is a bar in a notebook and on a terminal, and a line now and then elsewhere.

    Parameters
    ----------
    store
        Its path, or an open one.
    workers
        Worker processes to start; by default one per GPU, or one.
    in_process
        Be the one worker instead, in this process and thread: it starts at once and can be
        debugged, and torch and the models take memory here, and its number of threads is set here.
    models
        Names of the models to fill; by default all of the store.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    precision
        Of the layers. Where the store was not begun in one, ``default`` is what suits the device,
        and ``auto`` the fastest of int8, fp8 and that whose check on the store's records passes;
        `vnp.precisions` shows what each changes.
    precision_bound
        With ``auto``: least cosine with bfloat16, of the worst record that is checked.
    weights
        Folder with model files, searched first.
    plugins
        Python files that describe models; they are run, here or by every worker.
    dedup
        Whether the embeddings of identical records are copied instead of computed again.
    token_budget
        Most tokens in a batch; by default what suits the device.
    check_threads
        Threads that certify blocks; by default as many as the file system's latency asks for.
    certify
        Start no worker: certify what others filled.

    Returns
    -------
    EmbedReport
        Look at ``complete``: whether every row is certified; ``problems`` says why not.

    Raises
    ------
    KeyboardInterrupt
        If it was interrupted by Ctrl-C, a notebook's stop button or SIGTERM: once the workers have
        released what they held and have ended. Everything published by then is in the store, and
        the same call again carries on. A second interrupt does not wait for the current batch.
    UsageError
        If the model or the device does not exist, or torch is not installed.
    StoreError
        If the store does not exist; with ``in_process`` also if it, the weights or the disk keep
        the worker from working.
    """
    scripts = (plugins,) if isinstance(plugins, str | os.PathLike) else plugins
    config = WorkerConfig(
        models=(models,) if isinstance(models, str) else tuple(models),
        device=device,
        precision=precision,
        precision_bound=precision_bound,
        weights_dir=None if weights is None else Path(weights),
        plugins=tuple(map(Path, scripts)),
        dedup=dedup,
        token_budget=token_budget,
    )
    path = store.path if isinstance(store, Store) else location(store)
    if certify:
        if workers is not None or in_process:
            raise UsageError("--certify starts no workers: leave workers and in_process out")
        return certify_store(path, models=config.models, check_threads=check_threads)
    report = embed_store(
        path,
        config=config,
        workers=workers,
        in_process=in_process,
        check_threads=check_threads,
    )
    if report.interrupted:
        raise KeyboardInterrupt(
            f"vnp.embed stopped in order; the same call again carries on with {path}"
        )
    return report
