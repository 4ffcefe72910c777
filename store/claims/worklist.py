"""The order in which a worker takes the open blocks of one model: plan, try, plan again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from store.claims.claims import Claim, Claims
from store.claims.plan import ClaimPlan, as_blocks

# Candidates in a row that others took since the plan was made, after which a new plan is cheaper:
# a miss costs a look at one name, a plan lists the whole directory.
PATIENCE = 64
# After a few of them most of the plan is taken. Then so many at random are looked at concurrently,
# which costs no more time than one and counts as several.
_FEW, _LOOKS, _COUNTS = 4, 32, 5


class WorkList:
    """Hands out claims on open blocks until nothing is left to take.

    A worker begins at ``start``, by default the first open block, or if others hold blocks a place
    drawn from its id; it continues from its last block, so its blocks are adjacent. Ascending,
    blocks come after those whose rows they repeat. Where it meets another worker it continues
    elsewhere. ``open_blocks`` is called once per plan and returns the blocks with unfilled rows: a
    bool array over all blocks, or ascending block numbers. ``n_open`` and ``n_held`` are the open
    blocks when the last plan was made, and how many of them others held.
    """

    def __init__(
        self,
        claims: Claims,
        *,
        model: str,
        open_blocks: Callable[[], NDArray[Any]],
        start: int | None = None,
        patience: int = PATIENCE,
    ) -> None:
        self.n_open = 0
        self.n_held = 0
        self._claims = claims
        self._model = model
        self._open_blocks = open_blocks
        self._start = start
        self._patience = patience
        self._plan: ClaimPlan | None = None
        self._random = random.Random(claims.worker)  # noqa: S311 - spreads workers, no secret

    def next(self) -> Claim | None:
        """Claim the next block; None when there is none to take now.

        Look again whether the block is filled. After None, ``n_open`` of 0 means that all blocks
        are filled; otherwise others hold the rest: ask again later, some of them may die.
        """
        while True:
            fresh = self._plan is None
            plan = self._plan if self._plan is not None else self._make_plan()
            misses = 0
            while misses < self._patience and (candidate := plan.next()) is not None:
                claim = self._claims.try_claim(self._model, candidate.block, seen=candidate.epoch)
                if claim is not None:
                    self._plan = plan
                    self._start = claim.block + 1
                    return claim
                misses += 1
                if misses < _FEW or not self._look_ahead(plan):
                    # Following another worker would cost a miss for each of its blocks.
                    plan.rotate(self._random.random())
                    misses += _COUNTS * (misses >= _FEW)
            self._plan = None
            if fresh and not len(plan):
                return None

    @property
    def left(self) -> int:
        """Blocks of the last plan that were not tried yet; others may have taken some since."""
        return 0 if self._plan is None else len(self._plan)

    def look(self) -> int:
        """Make a new plan and return how many blocks could be taken now."""
        self._plan = self._make_plan()
        return len(self._plan)

    def _look_ahead(self, plan: ClaimPlan) -> bool:
        """Look at candidates here and there; go on where one is not taken, if there is one."""
        chosen = plan.some(self._random.random() for _ in range(min(_LOOKS, len(plan))))
        unchanged = self._claims.unchanged(self._model, list(chosen.values()))
        here = [at for at, still in zip(chosen, unchanged, strict=True) if still]
        gone = [at for at, still in zip(chosen, unchanged, strict=True) if not still]
        plan.drop(gone, go_on_at=self._random.choice(here) if here else None)
        return bool(here)

    def _make_plan(self) -> ClaimPlan:
        scan = self._claims.scan(self._model)  # before open_blocks: see Claims.scan
        blocks = as_blocks(self._open_blocks())
        takeable = self._claims.takeable(self._model, scan=scan, open_blocks=blocks)
        plan = ClaimPlan(blocks, scan=scan, takeable=takeable, start=self._start or 0)
        if self._start is None and plan.n_held:
            self._start = int(self._claims.worker[:8], 16) % (int(blocks[-1]) + 1)
            plan = ClaimPlan(blocks, scan=scan, takeable=takeable, start=self._start)
        self.n_open, self.n_held = plan.n_open, plan.n_held
        return plan
