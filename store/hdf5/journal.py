"""How a transaction becomes the committed state: a journal, then the patches.

The order of writes, from data to the removed journal::

    data beyond the end  --fsync-->  journal/growth  --linked: the commit-->
    signature blanked  --fsync-->  patches  --fsync-->  signature  --fsync-->  journal removed

Killed before the link, nothing has happened; killed after it, the next process that opens the file
applies the patches again. Meanwhile the file has no HDF5 signature, and readers are refused.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from store.errors import DamageError
from store.hdf5.overlay import write_all
from store.io.files import make_dir, publish_new, remove_durable
from store.io.regular import read_regular

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BLANK = b"vnp\0"  # and the journal's checksum: in the signature's place while it is applied
_MAGIC = b"vnp journal 1\n"
_CRC_BYTES = 4
_LONGEST = 1 << 32  # bytes of a journal; a longer one is not ours


@dataclass(frozen=True, slots=True)
class Journal:
    """A transaction that is complete but for its patches."""

    record_at: int  # offset of the commit record
    before: bytes  # the commit record the patches start from
    after: bytes  # the one they lead to
    end: int  # bytes of the grown file
    patches: tuple[tuple[int, bytes], ...]  # offset and bytes

    def to_bytes(self) -> bytes:
        """Return the journal file's content."""
        parts = [self.before, self.after, *(data for _, data in self.patches)]
        header = json.dumps(
            {
                "record_at": self.record_at,
                "end": self.end,
                "lengths": [len(part) for part in parts],
                "offsets": [offset for offset, _ in self.patches],
            }
        ).encode()
        body = b"".join([_MAGIC, len(header).to_bytes(8, "little"), header, *parts])
        crc: int = google_crc32c.value(body)
        return body + crc.to_bytes(_CRC_BYTES, "little")

    @classmethod
    def from_bytes(cls, raw: bytes) -> Journal:
        """Read a journal back: DamageError if it is damaged."""
        body, crc = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
        if not body.startswith(_MAGIC) or google_crc32c.value(body) != int.from_bytes(
            crc, "little"
        ):
            raise DamageError("journal does not match its checksum")
        start = len(_MAGIC) + 8
        stop = start + int.from_bytes(body[len(_MAGIC) : start], "little")
        header = json.loads(body[start:stop])
        parts = []
        for length in header["lengths"]:
            parts.append(body[stop : stop + length])
            stop += length
        return cls(
            record_at=header["record_at"],
            before=parts[0],
            after=parts[1],
            end=header["end"],
            patches=tuple(zip(header["offsets"], parts[2:], strict=True)),
        )


def journal_path(sidecar: Path) -> Path:
    """Where the journal of a store is."""
    return sidecar / "journal" / "growth"


def write_journal(sidecar: Path, journal: Journal) -> None:
    """Make the journal durable under its name: the commit."""
    path = journal_path(sidecar)
    make_dir(path.parent)
    if not publish_new(sidecar / "tmp", path, [journal.to_bytes()]):
        raise DamageError(f"{path} exists: a transaction before this one was not finished")


def is_journal(sidecar: Path, journal: Journal) -> bool:
    """Whether this journal lies under its name, and will be applied."""
    try:
        return read_regular(journal_path(sidecar), most=_LONGEST) == journal.to_bytes()
    except (OSError, DamageError):
        return False


def apply_journal(fd: int, sidecar: Path, journal: Journal) -> None:
    """Apply the patches of a journal, durably, and remove it."""
    write_all(fd, _BLANK + _tag(journal), 0)
    os.fsync(fd)
    for offset, data in journal.patches:
        skip = max(len(SIGNATURE) - offset, 0)
        write_all(fd, data[skip:], offset + skip)
    os.fsync(fd)
    write_all(fd, SIGNATURE, 0)
    os.fsync(fd)
    remove_durable(journal_path(sidecar))


def recover(fd: int, sidecar: Path) -> bool:
    """Finish the transaction that a killed appender left, if it left one: whether it did.

    The caller holds the appender's lock. DamageError if the journal is damaged or of another file.
    """
    path = journal_path(sidecar)
    try:
        journal = Journal.from_bytes(read_regular(path, most=_LONGEST, follow=False))
    except FileNotFoundError:
        return False
    except DamageError as error:
        raise DamageError(f"{path}: {error}") from None
    head = os.pread(fd, len(SIGNATURE), 0)
    record = os.pread(fd, len(journal.before), journal.record_at)
    halves = head[:4] in (_BLANK, SIGNATURE[:4]), head[4:] in (_tag(journal), SIGNATURE[4:])
    begun = head != SIGNATURE and all(halves)  # either write may have been cut in two
    ours = begun or (head == SIGNATURE and record in (journal.before, journal.after))
    if ours and os.fstat(fd).st_size >= journal.end:
        apply_journal(fd, sidecar, journal)
    elif head != SIGNATURE:
        raise DamageError(f"{path} does not belong to the file beside it")
    else:  # the file was replaced by another; the journal says nothing about that one
        remove_durable(path)
    return True


def has_signature(fd: int) -> bool:
    """Whether the file begins as an HDF5 file does."""
    return os.pread(fd, len(SIGNATURE), 0) == SIGNATURE


def is_blanked(fd: int) -> bool:
    """Whether patches are (or were, when their appender was killed) being written."""
    head = os.pread(fd, len(SIGNATURE), 0)
    return head != SIGNATURE and head[:4] in (_BLANK, SIGNATURE[:4])


def _tag(journal: Journal) -> bytes:
    """Return what tells this journal from others: its checksum."""
    return journal.to_bytes()[-_CRC_BYTES:]
