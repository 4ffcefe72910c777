"""Export as HDF5 with one dataset a record, the layout that protspace and its kin read."""

from __future__ import annotations

from pathlib import Path

from store.errors import DataError
from store.io.optional import require
from vnp.exchange.selection import Selection


def escape(record: str) -> str:
    """Spell a record id so that it can be one HDF5 name.

    ``/`` would make groups and a name of dots alone means a group, so they are percent-encoded,
    and ``%`` with them; ``urllib.parse.unquote`` gives the id back.
    """
    name = record.replace("%", "%25").replace("/", "%2F")
    return name if name.strip(".") else name.replace(".", "%2E")


def write_per_record(selection: Selection, path: Path, *, dtype: str) -> int:
    """Write the datasets; return how many ids had to be escaped.

    Raises
    ------
    DataError
        If two records have the same id.
    """
    h5py = require("h5py", for_what="export to HDF5")
    escaped = 0
    with h5py.File(path, "w") as file:
        file.attrs["models"] = [model.name for model in selection.view.models]
        for batch in selection.batches():
            for record, values in zip(batch.ids, batch.values(dtype), strict=True):
                name = escape(record)
                escaped += name != record
                try:
                    file.create_dataset(name, data=values)
                except ValueError:
                    if name not in file:
                        raise
                    raise DataError(
                        f"two of the records to export are called {record}; tell them apart by "
                        "their samples with --ids qualified"
                    ) from None
        if escaped:
            file.attrs["escaped"] = "percent-encoded names: '/' is %2F, '%' is %25"
    return escaped
