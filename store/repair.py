"""Verifying with the claims in view, and making what is damaged open again.

Repair looks again at each thing under the lock that belongs to it, so it touches nothing that an
appender or a worker has repaired meanwhile, and no block that a living worker holds. It removes
only what vnp itself writes, told by exact names; what it cannot do, it says, and goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from store.claims.claims import APPEND, Claims
from store.claims.participant import Participant
from store.errors import BusyError, StoreError
from store.findings import Finding, Kind, Remedy
from store.store import Store


def verify_store(store: Store, *, threads: int | None = None) -> Iterator[Finding]:
    """Re-read the store, ``threads`` blocks at a time, then the directory beside it.

    Yields damage, orphans, files of unfinished blocks; then claims of dead workers on open blocks,
    temporary files that no living process can be writing, and what is not vnp's.
    """
    findings = list(store.verify(threads=threads))
    if findings and store.refresh():  # rows were appended meanwhile: what was said may be wrong
        findings = list(store.verify(threads=threads))
    yield from findings
    sidecar = store.sidecar
    claims = Participant(sidecar.room).claims
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
                    f"{sidecar.name}/claims/{model}/{state.block}.{state.epoch}",
                    f"block {state.block} of {model} was claimed by {state.identity}, "
                    f"which is {state.verdict.value}",
                    Remedy.NOTHING,
                    model,
                    state.block,
                )
    if not live:
        for path in sidecar.temporaries():
            detail = "temporary file of a process that is gone"
            name = f"{_temporaries(store)}{path.name}"
            yield Finding(Kind.ORPHAN, name, detail, Remedy.REMOVE)
    for name in sidecar.foreign():
        detail = "not vnp's; it is left alone"
        yield Finding(Kind.FOREIGN, f"{sidecar.name}/{name}", detail, Remedy.NOTHING)


def repair(store: Store, findings: Iterable[Finding]) -> list[str]:
    """Do what each finding's remedy says; return what was done, or could not be, one line each."""
    findings = list(findings)
    done: list[str] = []

    def attempt(what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, StoreError) as error:
            what = f"NOT done: {what}: {error}"
        done.append(what)

    for finding in [found for found in findings if found.remedy is Remedy.REWRITE][:1]:
        store.rewrite(finding)  # all metadata, whichever of them was found
        done.append("metadata was written again")
    for finding in findings:
        if finding.remedy is Remedy.REPIN and finding.model:
            what = f"{finding.model}: its next worker records its provenance again"
            attempt(what, partial(store.drop_provenance, finding.model))
    blocks = {
        (finding.model, finding.block)
        for finding in findings
        if finding.remedy is Remedy.REOPEN and finding.model and finding.block is not None
    }
    with Participant(store.sidecar.make().room) as participant:
        for model, block in sorted(blocks):
            try:
                said = reopen_damaged(store, model=model, block=block, claims=participant.claims)
            except (OSError, StoreError) as error:
                said = f"NOT done: {model} block {block} is open again: {error}"
            done.append(said)
    removed = [finding for finding in findings if finding.remedy is Remedy.REMOVE]
    if removed:
        done += _remove_leftovers(store, removed)
    return done


def reopen_damaged(store: Store, *, model: str, block: int, claims: Claims) -> str:
    """Make a block open again if, under its claim, it still is damaged; say what was done."""
    claim = claims.try_claim(model, block)
    if claim is None:
        return f"{model} block {block} is left to the worker that holds it"
    with claim:
        damage = [found for found in store.verify_block(model, block) if found.is_damage]
        if not damage:
            return f"{model} block {block} is sound, or was repaired meanwhile"
        store.reopen(model, block)
    return f"{model} block {block} is open again: {damage[0].detail}"


def _remove_leftovers(store: Store, findings: list[Finding]) -> list[str]:
    """Remove files, under the appender's lock: until it is ours they may be an append's."""
    with Participant(store.sidecar.room) as participant:
        try:
            lock = participant.claims.acquire(APPEND)
        except BusyError as error:
            return [f"nothing was removed: {error}"]
        with lock:
            store.refresh()
            still = {found.path for found in store.verify() if found.remedy is Remedy.REMOVE}
            folder = _temporaries(store)
            still |= {f"{folder}{path.name}" for path in store.sidecar.temporaries()}
            done = []
            for finding in findings:
                if (path := finding.path) not in still:
                    continue
                try:
                    if path.startswith(folder):
                        _remove_temporary(store.sidecar.tmp / path.removeprefix(folder))
                    else:
                        store.remove(finding)
                except (OSError, StoreError) as error:
                    done.append(f"NOT done: removed {path}: {error}")
                else:
                    done.append(f"removed {path}")
            return done


def _temporaries(store: Store) -> str:
    """Where temporary files lie, as findings name it."""
    return "/".join((store.sidecar.name, "tmp", ""))


def _remove_temporary(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
