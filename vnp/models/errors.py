"""What can go wrong with a model, grouped by what the caller would do about it.

UsageError
├── UnknownModelError      no model or recipe of that name: pick one of those listed
└── DeviceError            the device or precision asked for is not there: ask for another
DataError
├── WeightsNotFoundError   the files are not on this machine: get them, or say where they are
├── WeightsError           the files are not those of the model, or are damaged: get them again
│   └── UnsafeWeightsError the file wants to run code or reach outside its folder: do not use it
├── TorchFileError         a file of torch.save cannot be read: get it again
│   └── UnsafeTorchFileError it holds more than tensors, lists and texts: do not use it
└── RecordTooLongError     one record alone exceeds the device's memory: use a larger device
"""

from store.errors import DataError, UsageError


class UnknownModelError(UsageError):
    """The registry has no model or recipe of that name."""


class DeviceError(UsageError):
    """The device or the precision asked for cannot be had on this machine."""


class WeightsNotFoundError(DataError):
    """The model's files are neither in a folder given, nor in the cache, nor on the hub."""


class WeightsError(DataError):
    """The files found do not hold the model that the registry describes."""


class UnsafeWeightsError(WeightsError):
    """A weight file holds more than tensors, or an index points outside its folder."""


class TorchFileError(DataError):
    """A file of ``torch.save`` is not there or cannot be read."""


class UnsafeTorchFileError(TorchFileError):
    """A file of ``torch.save`` names what could run code. Nothing of it was executed."""


class RecordTooLongError(DataError):
    """A batch of a single record ran out of memory."""
