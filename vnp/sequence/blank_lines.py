"""FASTQ files with blank lines between records, which dnaio takes for broken records."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class WithoutBlankLines(io.RawIOBase):
    r"""FASTQ text without blank lines before a header or at the end, which dnaio refuses.

    A read of length 0 is written with blank lines too. Those stay, so that it is seen as what it
    is: ``\n\n+\n\n``, no sequence and no qualities.
    """

    _EXTRA = rb"(?<!\n\n\+)(?<!\n\r\n\+)(?<!\n\r\n\+\r)(\r?\n)(?:\r?\n)+"
    _BEFORE_HEADER = re.compile(_EXTRA + b"(?=@)")
    _AT_END = re.compile(_EXTRA + rb"\Z")
    _THREE_OR_MORE = re.compile(rb"((?:\r?\n){2})(?:\r?\n)+")
    _LONGEST_HELD = 16  # two line ends, a plus and two line ends are 9 bytes

    def __init__(self, source: io.BufferedIOBase) -> None:
        self._source = source
        self._held = b""  # line ends whose sequel is not known yet
        self.removed = False  # whether line numbers are off by now

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read tightened text into a buffer."""
        view = memoryview(buffer)
        text = b""
        while not text:
            block = self._source.read(len(view) - self._LONGEST_HELD)
            if not block:
                text, self._held = self._AT_END.sub(rb"\1", self._held), b""
                break
            text = self._tightened(self._held + block)
            body = text.rstrip(b"\r\n")
            if body.endswith(b"\n+"):
                body = body[:-1].rstrip(b"\r\n")
            # Of three line ends or more two are enough to see that there are too many.
            held = self._THREE_OR_MORE.sub(rb"\1", text[len(body) :])
            if len(held) > self._LONGEST_HELD:
                body, held = text, b""  # carriage returns: for dnaio to refuse
            text, self._held = body, held
        view[: len(text)] = text
        return len(text)

    def _tightened(self, text: bytes) -> bytes:
        line_end = np.frombuffer(text, np.uint8) == ord("\n")
        if (line_end[1:] & line_end[:-1]).any() or (b"\r" in text and b"\n\r\n" in text):
            tight = self._BEFORE_HEADER.sub(rb"\1", text)
            self.removed |= len(tight) < len(text)
            return tight
        return text
