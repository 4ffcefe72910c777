"""What vnp says beside its results: log records, as plain lines on standard error and in a file."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from pathlib import Path

from vnp.embed.progress import WARNING_PREFIX, show_progress

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


class _LogFile(logging.FileHandler):
    """Writes to the file that the user named; if that fails, says so once."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - logging's name
        if self._failed:
            return
        self._failed = True
        with contextlib.suppress(OSError, ValueError):
            said = f"{self.baseFilename} lacks messages: {sys.exc_info()[1]}"
            print(f"vnp: {WARNING_PREFIX}{said}", file=sys.stderr)

    def close(self) -> None:
        """Close the file; what could not be written has been said."""
        with contextlib.suppress(OSError):
            super().close()


def configure(options: argparse.Namespace) -> None:
    """Send the log of both packages to standard error, and to a file if one is named."""
    level = logging.DEBUG if getattr(options, "verbose", False) else logging.INFO
    quiet = getattr(options, "quiet", False)
    show_progress(not quiet)
    shown = _StandardError(logging.WARNING if quiet else level)
    handlers: list[logging.Handler] = [shown]
    log_file: Path | None = getattr(options, "log_file", None)
    if log_file is not None:
        from store.io.replace import refuse_shared, refuse_store

        if log_file.is_file() or not log_file.exists():  # not a pipe or terminal
            refuse_store(log_file)
        refuse_shared([log_file], _files_of(options))
        file = _LogFile(log_file, encoding="utf-8")
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


def _files_of(options: argparse.Namespace) -> list[Path]:
    """All files that the other options name and that are there."""
    named = [value for name, value in vars(options).items() if name != "log_file"]
    each = [one for value in named for one in (value if isinstance(value, list) else [value])]
    return [Path(one) for one in each if isinstance(one, str | Path) and _is_file(one)]


def _is_file(name: str | Path) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # a word too long to be a name
        return False


def complain(command: str, error: BaseException) -> None:
    """Print the one message of a command that an error ended."""
    from store.io.files import explained

    said = str(error)
    if isinstance(error, OSError):
        said = explained(error)
    elif isinstance(error, MemoryError):
        said = f"there is not enough memory ({said or 'none is left'})"
    with contextlib.suppress(OSError):  # the exit code still tells
        print(f"vnp {command}: error: {said}", file=sys.stderr)
