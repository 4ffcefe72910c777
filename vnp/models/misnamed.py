"""Files that are not what their names promise, told from their first bytes."""

from __future__ import annotations

from pathlib import Path


def kind_of_other(path: Path) -> str | None:
    """Say what a file is that is not what its name promises, and what to do; None if it may be."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return None  # whoever reads it says so
    if not head:
        return "empty: its download did not finish; get it again"
    if head.startswith(b"version https://git-lfs"):
        return (
            "a Git LFS pointer and not the file itself: run 'git lfs pull' in its repository, or "
            "get it with 'hf download'"
        )
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "an HTML page, of an error or a login perhaps, saved in its place: get it again"
    return None
