"""What vnp says beside its results: log records as plain lines on standard error."""

from __future__ import annotations

import logging
import sys

_PACKAGES = ("vnp", "store")


class _StandardError(logging.Handler):
    """Writes ``vnp: message`` to standard error, above a progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            tqdm = sys.modules.get("tqdm")  # imported only where a bar is shown
            if tqdm is None:
                print(line, file=sys.stderr, flush=True)
            else:
                tqdm.tqdm.write(line, file=sys.stderr)
        except (OSError, ValueError):  # standard error is closed: there is nobody to tell
            pass


def configure(level: int = logging.INFO) -> None:
    """Send the log of both packages to standard error, from ``level`` on."""
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("vnp: %(message)s"))
    for name in _PACKAGES:
        logger = logging.getLogger(name)
        for old in [h for h in logger.handlers if isinstance(h, _StandardError)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.setLevel(level)
