"""How fast and how hot a GPU ran while something was measured on it, as nvidia-smi tells.

A card in a badly cooled place slows itself down, by a few per cent or to a quarter, and says so
only there: a rate without this line may be that of the room.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
from types import TracebackType
from typing import IO

import torch

_QUERY = "clocks.sm,temperature.gpu,power.draw,clocks_event_reasons.active"
_REASONS = len("0x0000000000000000")
_HEAT = 0x20 | 0x40  # the driver's and the board's thermal slowdown among the reasons
_INTERVAL_MS = 500


class Heat:
    """Watches the first CUDA device while its ``with`` block runs; ``str`` of it is then a line."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the exit
        self._lines: list[str] = []

    def __enter__(self) -> Heat:
        """Start to watch."""
        program = shutil.which("nvidia-smi")
        if program is not None and torch.cuda.is_available():
            self._process = subprocess.Popen(
                [
                    program, "-i", f"GPU-{torch.cuda.get_device_properties(0).uuid}",
                    f"--query-gpu={_QUERY}",
                    "--format=csv,noheader,nounits", "-lms", str(_INTERVAL_MS),
                ],
                stdout=self._file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._file.seek(0)
        self._lines = self._file.read().decode(errors="replace").splitlines()
        self._file.close()

    def __str__(self) -> str:
        """Clock, power and temperature, and the share of the time that heat slowed it down."""
        return describe(self._lines)


def describe(lines: list[str]) -> str:
    """Put lines of nvidia-smi in words; a last one that was cut short is left out."""
    clocks, degrees, watts, slowed = [], [], [], []
    for line in lines:
        fields = line.split(", ")
        if len(fields) != 4 or len(fields[3]) != _REASONS:
            continue
        try:
            numbers = [float(field) for field in fields[:3]]
            reasons = int(fields[3], 16)
        except ValueError:
            continue
        for values, number in zip((clocks, degrees, watts), numbers, strict=True):
            values.append(number)
        slowed.append(bool(reasons & _HEAT))
    if not slowed:
        return f"clock and temperature not known (nvidia-smi: {'; '.join(lines[:2]) or 'nothing'})"
    return (
        f"SM clock {statistics.median(clocks):,.0f} MHz (lowest {min(clocks):,.0f}), "
        f"{statistics.median(watts):.0f} W, {max(degrees):.0f} degrees C at most, slowed by heat "
        f"{statistics.mean(slowed):.0%} of the time"
    )
