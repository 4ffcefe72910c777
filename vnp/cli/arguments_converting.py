"""The command that turns a store of one kind into one of the other."""

from __future__ import annotations

from pathlib import Path

from vnp.cli.options import Commands, command, json_flag, store


def add(commands: Commands) -> None:
    """Add the command."""
    convert = command(commands, "convert", "copy a store to the other kind: .zarr to .h5 or back")
    store(convert)
    convert.add_argument(
        "target",
        metavar="TARGET",
        type=Path,
        help="the copy, e.g. run.h5; run the command again to carry on with one that was cut short",
    )
    convert.add_argument(
        "--only-certified",
        action="store_true",
        help="leave out rows that are not certified for every model (default: they come, open)",
    )
    json_flag(convert)
