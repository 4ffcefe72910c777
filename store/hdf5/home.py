"""The store's own objects in a file that other programs write to, and what these added.

AnnData's ``write()`` deletes ``obs``, ``obsm`` and ``uns`` and makes them again. The store's stay
in the file all the same, and are put back by the next commit with what was added to them.
"""

from __future__ import annotations

import logging
from typing import Any

import h5py
import numpy as np

from store.layout import all_columns
from store.schema import Schema

log = logging.getLogger(__name__)

COMMIT = "obs/vnp/commit"  # checksummed record of the last commit
MERGED = "obsm/X_merged"
GROUPS = ("obs", "obsm", "uns")  # that another program may replace
_REFERENCES = "vnp_groups"  # attribute of the root: object references to them


class Home:
    """The store's own objects by path, also where another program put its own in their place.

    The groups are found by reference, and stay in the file because they count as linked twice
    (`transaction.write_commit`).
    """

    def __init__(self, tree: h5py.File) -> None:
        self.attrs = tree.attrs
        self._tree = tree
        self._groups: dict[str, h5py.Group] = {}
        try:
            found = [tree[reference] for reference in tree.attrs.get(_REFERENCES, ())]
            if found and _relative(COMMIT) in found[0]:
                self._groups = dict(zip(GROUPS, found, strict=True))
        except (OSError, RuntimeError, ValueError, KeyError, TypeError):
            pass  # of another file: it was copied object by object

    def __contains__(self, path: str) -> bool:
        group = self._groups.get(path.partition("/")[0])
        return path in self._tree if group is None else _relative(path) in group

    def __getitem__(self, path: str) -> Any:
        group = self._groups.get(path.partition("/")[0])
        return self._tree[path] if group is None else group[_relative(path)]

    def take_back(self, schema: Schema) -> None:
        """Put the groups in the place of those that another program wrote.

        What the program added to them stays, as it wrote it last.
        """
        tree, own = self._tree, _members(schema)
        for name, ours in self._groups.items():
            theirs = tree.get(name)
            if theirs is not None and theirs == ours:
                continue
            if isinstance(theirs, h5py.Group):
                added = [member for member in theirs if f"{name}/{member}" not in own]
                for member in added:
                    if member in ours:
                        del ours[member]
                    ours[member] = theirs[member]
                if name == "obs":
                    order = list(dict.fromkeys([*ours.attrs["column-order"], *added]))
                    ours.attrs["column-order"] = np.array(order, dtype=h5py.string_dtype())
            if theirs is not None:
                del tree[name]
            tree[name] = ours


def _relative(path: str) -> str:
    return path.partition("/")[2]


def _members(schema: Schema) -> set[str]:
    """Members of the groups that are the store's own."""
    paths = [COMMIT, MERGED, *(column.path for column in all_columns(schema))]
    return {"/".join(path.split("/")[:2]) for path in paths}


def length_of(group: h5py.Group, name: str) -> int | None:
    """Values of a column, or rows of an array, in AnnData's encoding; None if it is neither."""
    node = group.get(name)
    if isinstance(node, h5py.Group) and "shape" in node.attrs:  # sparse
        return int(node.attrs["shape"][0])
    if isinstance(node, h5py.Group) and "_index" in node.attrs:  # a data frame
        node = node.get(node.attrs["_index"])
    if isinstance(node, h5py.Group):  # categories, or values and a mask
        node = node.get("codes", node.get("values"))
    return int(node.shape[0]) if isinstance(node, h5py.Dataset) and node.shape else None


def set_aside(tree: h5py.File, schema: Schema) -> None:
    """Move arrays that others added away if they have not a row for each row of the store.

    AnnData would not open the file. Their new place is ``obs/vnp/obsm_of_fewer_rows``, or that of
    ``layers`` or ``obsp``.
    """
    ours = _members(schema)
    for group in ("obsm", "layers", "obsp"):
        members = tree.get(group)
        for name in list(members) if isinstance(members, h5py.Group) else ():
            path, place = f"{group}/{name}", f"obs/vnp/{group}_of_fewer_rows/{name}"
            if path not in ours and length_of(members, name) != schema.n_rows:
                if place in tree:
                    del tree[place]
                tree.move(path, place)
                log.warning(
                    "%s, which another program added, has no row for new records: it is in %s now",
                    path,
                    place,
                )


def refer(tree: h5py.File) -> None:
    """Keep references to the store's groups at the root."""
    references = np.array([tree[name].ref for name in GROUPS], dtype=h5py.ref_dtype)
    tree.attrs.create(_REFERENCES, references, dtype=h5py.ref_dtype)
