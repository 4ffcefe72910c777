"""The order in which a worker takes the open blocks of one model: plan, try, plan again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from store.claims.claims import Claim, Claims
from store.claims.plan import ClaimPlan

# Candidates in a row that others took since the plan was made, after which a new plan is cheaper:
# a miss costs a look at one name, a plan lists the whole directory.
PATIENCE = 64
# After a few of them most of the plan is taken. Then some at random are looked at concurrently,
# which costs no more time than one and counts as several.
_FEW, _COUNTS = 4, 5
# Owners of held blocks that one plan judges, the next ones each time. A thousand workers that wait
# for the last thousand blocks would else read a million files each time.
_JUDGED = 64
# Of many workers that find nothing left about so many list at once, and of those that wait about so
# many look for a block each time they are asked.
_LISTERS, _LOOKERS = 64, 128


class WorkList:
    """Hands out claims on open blocks until nothing is left to take.

    A worker begins at ``start``, by default the first open block, or if others hold blocks a place
    drawn from its id; it continues from its last block, so its blocks are adjacent. Ascending,
    blocks come after those whose rows they repeat. Where it meets another worker it continues
    elsewhere. ``open_blocks`` is called once per plan and returns the blocks with unfilled rows: a
    bool array over all blocks, or ascending block numbers. ``n_open`` and ``n_held`` are the open
    blocks when the last plan was made, and how many of them others held.

    Where most of a plan is taken, each of a thousand workers would list all names at the same time,
    which takes a server minutes. So of many (``others`` says about how many there are) a few do it,
    by lot; of the others some look here and there again when they ask again.
    """

    def __init__(
        self,
        claims: Claims,
        *,
        model: str,
        open_blocks: Callable[[], NDArray[Any]],
        start: int | None = None,
        patience: int = PATIENCE,
        others: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.n_open = 0
        self.n_held = 0
        self._claims = claims
        self._model = model
        self._open_blocks = open_blocks
        self._start = start
        self._patience = patience
        self._plan: ClaimPlan | None = None
        self._others = others
        self._waits = False  # whether the plan was exhausted when `next` last looked
        self._judge_from = int(claims.worker[-8:], 16)  # a block, modulo how many there are
        self._random = random.Random(claims.worker)  # noqa: S311 - spreads workers, no secret

    def next(self) -> Claim | None:
        """Claim the next block; None when there is none to take now.

        Look again whether the block is filled. After None, ``n_open`` of 0 means that all blocks
        are filled; otherwise others hold the rest: ask again later, some of them may die.
        """
        lot = self._draw()
        if self._waits and lot >= _LOOKERS:
            return None  # thousands that look each time would hold up those who find something
        while True:
            fresh = self._plan is None
            plan = self._plan if self._plan is not None else self._make_plan()
            misses = self._patience - _COUNTS if self._waits else 0
            while misses < self._patience and (candidate := plan.next()) is not None:
                claim = self._claims.try_claim(self._model, candidate.block, seen=candidate.epoch)
                if claim is not None:
                    self._plan, self._waits = plan, False
                    self._start = claim.block + 1
                    return claim
                misses += 1
                if misses < _FEW or not self._look_ahead(plan):
                    # Following another worker would cost a miss for each of its blocks.
                    plan.rotate(self._random.random())
                    misses += _COUNTS * (misses >= _FEW)
            listing, lot = lot < _LISTERS, self._draw()
            self._plan = None if listing else plan
            self._waits = not listing
            if (fresh and not len(plan)) or not (listing or self._judge_again(plan)):
                return None

    @property
    def left(self) -> int:
        """Blocks of the last plan that were not tried yet; others may have taken some since."""
        return 0 if self._plan is None else len(self._plan)

    def look(self) -> int:
        """Make a new plan and return how many blocks could be taken now."""
        self._plan = self._make_plan()
        return len(self._plan)

    def _draw(self) -> float:
        """Draw a lot: below n for about n of all workers."""
        return self._random.random() * self._others()

    def _look_ahead(self, plan: ClaimPlan) -> bool:
        """Look at candidates here and there; go on where one is not taken, if there is one."""
        looks = min(self._claims.looks, len(plan))
        chosen = plan.some(self._random.random() for _ in range(looks))
        found = self._claims.look_around(self._model, chosen)
        return plan.update(found, fraction=self._random.random())

    def _judge_again(self, plan: ClaimPlan) -> bool:
        """Make candidates of those whose owners are dead by now; return whether there are any."""
        stale = [each for each in plan.held if self._claims.is_takeable(self._model, each)]
        plan.add_stale(stale)
        plan.held = [each for each in plan.held if each not in stale]
        self.n_held = plan.n_held
        return bool(stale)

    def _make_plan(self) -> ClaimPlan:
        scan = self._claims.scan(self._model)  # before open_blocks: see Claims.scan
        plan = ClaimPlan(
            self._open_blocks(),
            scan=scan,
            start=self._start or 0,
            judge_from=self._judge_from,
            most=_JUDGED,
        )
        del scan  # of all blocks; judging the others may take a while
        if plan.held:
            self._judge_from = plan.held[-1].block + 1
        self._judge_again(plan)
        if self._start is None and plan.n_held:
            self._start = int(self._claims.worker[:8], 16) % plan.size
            plan.begin_at(self._start)
        self.n_open, self.n_held = plan.n_open, plan.n_held
        return plan
