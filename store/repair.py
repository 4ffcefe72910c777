"""Verifying with the claims in view, and making what is damaged open again.

Repair never invents data: a damaged block becomes open and is embedded again by the next run,
metadata is written again from the root, orphans are removed. Nothing else is touched, and no
block that a living worker holds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from store.claims import Claims
from store.findings import Finding, Kind, Remedy
from store.heartbeat import Liveness, new_worker
from store.identity import identify
from store.interface import Store
from store.presence import Presence


def verify_store(store: Store) -> Iterator[Finding]:
    """Re-read the store, then look at the directory beside it.

    Yields
    ------
    Finding
        Damage, orphans, files of unfinished blocks; then claims of dead workers on open blocks,
        and temporary files that nobody alive can be writing.
    """
    yield from store.verify()
    sidecar = store.sidecar
    me = identify()
    claims = Claims(
        sidecar.path, worker=new_worker(), identity=me, liveness=Liveness(sidecar.path, identity=me)
    )
    live = False
    for model in claims.models():
        known = any(model == spec.name for spec in store.schema.models)
        open_blocks = store.open_blocks(model) if known else None
        for state in claims.states(model, open_blocks=open_blocks):
            if state.verdict is None or not state.verdict.stale:
                live = True
            elif known:
                yield Finding(
                    Kind.STALE_CLAIM,
                    f"{sidecar.path.name}/claims/{model}/{state.block}.{state.epoch}",
                    f"block {state.block} of {model} was claimed by {state.identity}, "
                    f"which is {state.verdict.value}",
                    Remedy.NOTHING,
                    model,
                    state.block,
                )
    if not live and sidecar.tmp.is_dir():
        for path in sorted(sidecar.tmp.iterdir()):
            yield Finding(
                Kind.ORPHAN,
                f"{sidecar.path.name}/{path.relative_to(sidecar.path)}",
                "temporary file of a process that is gone",
                Remedy.REMOVE,
            )


def repair(store: Store, findings: Iterable[Finding]) -> list[str]:
    """Do what each finding's remedy says.

    Returns
    -------
    list of str
        What was done, one line each.
    """
    done: list[str] = []
    reopen: set[tuple[str, int]] = set()
    rewrite = False
    for finding in findings:
        if finding.remedy is Remedy.REOPEN and finding.model and finding.block is not None:
            reopen.add((finding.model, finding.block))
        elif finding.remedy is Remedy.REOPEN_MODEL and finding.model:
            store.drop_provenance(finding.model)
            done.append(
                f"{finding.model}: its provenance is lost, so all its blocks are open again"
            )
            reopen.update((finding.model, block) for block in range(store.n_blocks))
        elif finding.remedy is Remedy.REWRITE:
            rewrite = True
        elif finding.remedy is Remedy.REMOVE:
            _remove(_path_of(store, finding))
            done.append(f"removed {finding.path}")
    with Presence(store.sidecar.make().path) as presence:
        for model, block in sorted(reopen):
            claim = presence.claims.try_claim(model, block)
            if claim is None:
                done.append(f"{model} block {block} is left to the worker that holds it")
                continue
            with claim:
                store.reopen(model, block)
            done.append(f"{model} block {block} is open again")
    if rewrite:
        store.rewrite_documents()
        done.append("metadata was written again")
    return done


def _path_of(store: Store, finding: Finding) -> Path:
    beside = store.sidecar.path.name + "/"
    if finding.path.startswith(beside):
        return store.sidecar.path / finding.path.removeprefix(beside)
    return store.path / finding.path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
