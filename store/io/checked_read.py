"""Part of a file straight into memory, with the CRC-32C of the whole: no byte is copied twice."""

from __future__ import annotations

import os

import google_crc32c
import numpy as np
from numpy.typing import NDArray

# Large enough that threads seldom wait for the interpreter, which a checksum does not give away;
# small enough that a piece is still in the processor's cache when its checksum is computed.
_PIECE = 4 << 20


def read_checked(
    fd: int, *, offset: int, size: int, out: NDArray[np.uint8], skip: int
) -> int | None:
    """Read ``size`` bytes from ``offset`` on; those after the first ``skip`` go into ``out``.

    Returns the CRC-32C of all of them; None if the file ends before.
    """
    around = np.empty(min(max(skip, size - skip - len(out)), _PIECE), np.uint8)
    crc, done, end = 0, 0, skip + len(out)
    while done < size:
        if skip <= done < end:
            piece = out[done - skip :][:_PIECE]
        else:
            piece = around[: (skip if done < skip else size) - done]
        piece = piece[: os.preadv(fd, [piece.data], offset + done)]
        if not len(piece):
            return None
        crc = google_crc32c.extend(crc, piece)
        done += len(piece)
    return crc
