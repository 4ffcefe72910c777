"""An encoder in int8: its scales come from the store that it fills, or are measured for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn, Unpack

from torch import Tensor

from store.errors import DamageError, UsageError
from store.store import Store
from vnp.inference.batch_layout import BatchLayout
from vnp.inference.calibration import Calibration
from vnp.inference.encoder import Provenance
from vnp.inference.loop import Engine, Settings
from vnp.inference.pipeline import EngineEncoder
from vnp.inference.quality import sample
from vnp.models.spec import ModelSpec
from vnp.models.tokens import Tokenise, Tokens


class _Uncalibrated:
    """Stands where the engine will be."""

    padding_id = 0

    def workspace(self, rows: int) -> NoReturn:  # noqa: ARG002
        raise UsageError(
            "int8 needs scales that are measured on the records of a store: this asks for "
            "embeddings without one; use --precision bfloat16"
        )

    def __call__(self, layout: BatchLayout, work: object, out_nD: Tensor) -> None:
        """Not reached: ``workspace`` raises."""

    def states(self, layout: BatchLayout, work: object) -> Tensor:
        """Not reached: ``workspace`` raises."""
        raise NotImplementedError


class Int8Encoder(EngineEncoder):
    """An encoder whose engine is made when its scales are known."""

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: Tokenise,
        *,
        build: Callable[[Calibration], Engine],
        measure: Callable[[Tokens], Calibration],
        **settings: Unpack[Settings],
    ) -> None:
        """Make an encoder that is to be calibrated.

        Parameters
        ----------
        spec, tokenizer, settings
            See ``EngineEncoder``.
        build
            Makes the engine.
        measure
            Chooses scales from records.
        """
        super().__init__(spec, _Uncalibrated(), tokenizer, spans=True, **settings)
        self._build, self.measure = build, measure
        self._calibration: Calibration | None = None

    def provenance(self) -> Provenance:
        """Say what makes the embeddings: the scales too."""
        found = self._calibration
        return replace(super().provenance(), calibration=None if found is None else found.as_dict())

    def qualify(self, store: Store, model: str) -> None:
        """Take the store's scales, or measure some; then see ``EngineEncoder.qualify``."""
        if store.n_rows:
            self.take_scales(store, model)
            super().qualify(store, model)

    def take_scales(self, store: Store, model: str) -> None:
        """Take a store's scales, or measure some on its records; nothing is recorded or checked."""
        recorded, spec = store.provenance(model) or {}, self.spec
        identity = recorded.get("identity")
        digest = identity.get("calibration") if isinstance(identity, dict) else None
        if digest is None:
            self.calibrate(self.measure(self.tokenise(*sample(store))))
            return
        content = recorded.get("calibration")
        found = Calibration.from_dict(
            content if isinstance(content, dict) else {},
            layers=range(spec.layer or spec.layers, spec.layers + 1), dim=spec.dim, ffn=spec.ffn,
        )  # fmt: skip
        if found.digest() != digest:
            raise DamageError(f"the scales of {model} for int8 are not those that were recorded")
        self.calibrate(found)

    def calibrate(self, calibration: Calibration) -> None:
        """Make the engine with these scales."""
        self._calibration = calibration
        self._identity["calibration"] = calibration.digest()
        kept = calibration.kept
        self.environment["int8_kept_in_bfloat16"] = " ".join(kept) or "none"
        if kept:
            self._warn(
                f"{self.spec.name} in int8: {len(kept)} of {4 * len(calibration.layers)} products "
                "stay in bfloat16, as eight bits would spoil them; slower by as much"
            )
        self._engine, self._work = self._build(calibration), None
