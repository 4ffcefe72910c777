"""Verifying with the claims in view, and making what is damaged open again.

Repair looks again at each thing under the lock that belongs to it, so it touches nothing that an
appender or a worker has repaired meanwhile, and no block that a living worker holds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator

from store.claims.claims import APPEND, Claims
from store.claims.participant import Participant
from store.errors import BusyError
from store.findings import Finding, Kind, Remedy
from store.store import Store


def verify_store(store: Store) -> Iterator[Finding]:
    """Re-read the store, then the directory beside it.

    Yields damage, orphans, files of unfinished blocks; then claims of dead workers on open blocks,
    and temporary files that no living process can be writing.
    """
    findings = list(store.verify())
    if findings and store.refresh():  # rows were appended meanwhile: what was said may be wrong
        findings = list(store.verify())
    yield from findings
    sidecar = store.sidecar
    claims = Participant(sidecar.path).claims
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
    """Do what each finding's remedy says; return what was done, one line each."""
    findings = list(findings)
    done: list[str] = []
    if any(finding.remedy is Remedy.REWRITE for finding in findings):
        store.rewrite_metadata()
        done.append("metadata was written again")
    for finding in findings:
        if finding.remedy is Remedy.REPIN and finding.model:
            store.drop_provenance(finding.model)
            done.append(f"{finding.model}: its next worker records its provenance again")
    blocks = {
        (finding.model, finding.block)
        for finding in findings
        if finding.remedy is Remedy.REOPEN and finding.model and finding.block is not None
    }
    with Participant(store.sidecar.make().path) as participant:
        for model, block in sorted(blocks):
            done.append(reopen_damaged(store, model=model, block=block, claims=participant.claims))
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
            return f"{model} block {block} has been repaired meanwhile"
        store.reopen(model, block)
    return f"{model} block {block} is open again: {damage[0].detail}"


def _remove_leftovers(store: Store, findings: list[Finding]) -> list[str]:
    """Remove files, under the appender's lock: until it is ours they may be an append's."""
    with Participant(store.sidecar.path) as participant:
        try:
            lock = participant.claims.acquire(APPEND)
        except BusyError as error:
            return [f"nothing was removed: {error}"]
        with lock:
            store.refresh()
            still = {found.path for found in store.verify() if found.remedy is Remedy.REMOVE}
            beside = store.sidecar.path.name + "/"
            done = []
            for finding in findings:
                path = store.sidecar.path / finding.path.removeprefix(beside)
                if not finding.path.startswith(beside):
                    if finding.path not in still:
                        continue
                    store.remove_orphan(finding.path)
                elif path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                done.append(f"removed {finding.path}")
            return done
