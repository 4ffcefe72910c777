"""What vnp says beside its results: log records, as plain lines on standard error and in a file."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from vnp.embed.progress import WARNING_PREFIX

_PACKAGES = ("vnp", "store")
_OURS = "vnp.cli"  # name of the handlers that `configure` installs


class _StandardError(logging.Handler):
    """Writes to standard error, above a progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        warning = WARNING_PREFIX if record.levelno >= logging.WARNING else ""
        line = f"vnp: {warning}{self.format(record)}"
        tqdm = sys.modules.get("tqdm")  # imported only where a bar is shown
        try:
            if tqdm is None:
                print(line, file=sys.stderr, flush=True)
            else:
                tqdm.tqdm.write(line, file=sys.stderr)
        except (OSError, ValueError):
            pass  # standard error is closed: there is nobody to tell


def configure(options: argparse.Namespace) -> None:
    """Send the log of both packages to standard error, and to a file if one is named."""
    level = logging.DEBUG if getattr(options, "verbose", False) else logging.INFO
    shown = _StandardError(logging.WARNING if getattr(options, "quiet", False) else level)
    handlers: list[logging.Handler] = [shown]
    log_file: Path | None = getattr(options, "log_file", None)
    if log_file is not None:
        file = logging.FileHandler(log_file, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(file)
        level = logging.DEBUG
    for name in _PACKAGES:
        logger = logging.getLogger(name)
        for old in [handler for handler in logger.handlers if handler.name == _OURS]:
            logger.removeHandler(old)
            old.close()
        logger.setLevel(level)
        for handler in handlers:
            handler.name = _OURS
            logger.addHandler(handler)
