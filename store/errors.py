"""What can go wrong with a store, grouped by what the caller would do about it.

StoreError
├── UsageError            the call itself is wrong: fix the call           (exit code 2)
│   └── NoRoomError       an HDF5 file was made without a place for this
├── DataError             the input or the store's content is wrong        (exit code 1)
│   ├── NotAStoreError    the path is not a vnp store, or one made by a newer vnp
│   ├── SampleExistsError the sample (by name or by content) is there already
│   └── DamageError       bytes on disk do not match their checksum
├── AfterCommitError      the change is made, and something failed after it (exit code 1)
├── BusyError             someone else holds the lock: wait or try again   (exit code 1)
└── ClaimLostError        another worker owns the block by now: drop it, carry on
"""


class StoreError(Exception):
    """Base of everything the package raises on purpose."""


class UsageError(StoreError):
    """The call cannot be carried out as written."""


class NoRoomError(UsageError):
    """An HDF5 file was made without room for what is to be recorded."""


class DataError(StoreError):
    """The input, or what the store holds, is not what it must be."""


class NotAStoreError(DataError):
    """The path is not a vnp store, or one this version cannot read."""


class SampleExistsError(DataError):
    """The store holds this sample already, by name or by content."""


class DamageError(DataError):
    """Bytes on disk do not match their checksum or their expected size."""


class AfterCommitError(StoreError):
    """The change is in the store; something failed after it was committed."""

    def __init__(self, what: str, error: BaseException) -> None:
        super().__init__(f"{what} is committed: do not repeat it. After that failed: {error}")


class BusyError(StoreError):
    """Another process holds the appender's lock."""


class ClaimLostError(StoreError):
    """A higher epoch exists: another worker owns the block now."""
