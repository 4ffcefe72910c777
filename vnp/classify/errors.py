"""What can go wrong with a classifier, grouped by what the caller would do about it.

UsageError
└── FeaturesError          the store's models do not give what the classifier takes: say which
DataError
├── ClassifierError        the file is no classifier, or is damaged: take another
│   └── UnsafeClassifierError  the file holds more than a classifier and was not executed
├── LabelsError            the table of labels, or what it asks for, is wrong: correct it
└── DatasetError           the input files do not give the training set asked for: add files
"""

from store.errors import DataError, UsageError


class FeaturesError(UsageError):
    """The models chosen do not give the numbers that the classifier takes."""


class ClassifierError(DataError):
    """The file does not hold a classifier of VirNucPro's form."""


class UnsafeClassifierError(ClassifierError):
    """The file names something other than the parts of a classifier."""


class LabelsError(DataError):
    """The labels do not fit the store, or do not allow a training run."""


class DatasetError(DataError):
    """The input does not give the training set that was asked for."""
