"""Every ``zarr.json`` of a store as a function of its schema.

Growing the store writes ``documents(new schema)``, the root last; verifying compares with
``documents(schema)``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from store.io.json import parse_json
from store.layout import Column, all_columns, listed_columns
from store.schema import Schema, to_attribute

ROOT_DOCUMENT = "zarr.json"  # renaming, or swapping, it is the commit
STAMP = "vnp_commit"


def documents(schema: Schema, *, stamp: Mapping[str, Any] | None = None) -> dict[str, bytes]:
    """Every ``zarr.json`` of the store by its path, the root last: a valid AnnData.

    AnnData skips the columns of ``obs`` that ``column-order`` does not list. ``stamp`` is one more
    attribute of the root, `STAMP`.
    """
    listed = listed_columns(schema)
    nodes: dict[str, dict[str, Any]] = {
        "obs": _group("dataframe", "0.2.0", {"_index": "_index", "column-order": listed}),
        "obs/sample": _group("categorical", "0.2.0", {"ordered": False}),
        "obsm": _group("dict", "0.1.0", {}),
        "uns": _group("dict", "0.1.0", {}),
        "uns/vnp": _group("dict", "0.1.0", {}),
        "var": _group("dataframe", "0.2.0", {"_index": "_index", "column-order": []}),
        "var/_index": _array(Column("var/_index", "string", (0,), (1,), "", ("variable",))),
    }
    for column in all_columns(schema):
        nodes[column.path] = _array(column)
    # zarr groups consolidated nodes by adjacent equal parents, so order by depth, then by path.
    nodes = dict(sorted(nodes.items(), key=lambda item: (item[0].count("/"), item[0])))
    attributes = {"vnp": to_attribute(schema)}
    if stamp is not None:
        attributes[STAMP] = dict(stamp)
    root = _group("anndata", "0.1.0", attributes)
    consolidated = {"kind": "inline", "must_understand": False, "metadata": nodes}
    root["consolidated_metadata"] = consolidated
    files = {f"{path}/zarr.json": _dump(node) for path, node in nodes.items()}
    files[ROOT_DOCUMENT] = _dump(root)
    return files


def attributes_of(node: object) -> dict[str, Any]:
    """Attributes in a ``zarr.json``; none if it has none."""
    attributes = node.get("attributes") if isinstance(node, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def array_document(column: Column) -> bytes:
    """Return the ``zarr.json`` of a column."""
    return _dump(_array(column))


def is_of_a_commit(found: bytes, wanted: bytes) -> bool:
    """Whether metadata differ at most in what commits change: the number of items, obs columns."""
    try:
        node = parse_json(found)
    except ValueError:
        return False
    ours = json.loads(wanted)
    if not isinstance(node, dict) or not isinstance(node.get("attributes"), dict):
        return False
    if "shape" in ours:
        shape = node.get("shape")
        if not isinstance(shape, list) or any(type(size) is not int for size in shape):
            return False
        node = {**node, "shape": [*ours["shape"][:1], *shape[1:]]}
    elif "column-order" in ours["attributes"]:
        columns = {"column-order": ours["attributes"]["column-order"]}
        node = {**node, "attributes": {**node["attributes"], **columns}}
    return _dump(node) == wanted


def _group(kind: str, version: str, attributes: dict[str, Any]) -> dict[str, Any]:
    encoding = {"encoding-type": kind, "encoding-version": version}
    return {"attributes": {**encoding, **attributes}, "zarr_format": 3, "node_type": "group"}


def _array(column: Column) -> dict[str, Any]:
    if column.dtype == "string":
        codecs: list[dict[str, Any]] = [{"name": "vlen-utf8"}]
    elif column.dtype in ("bool", "int8"):
        codecs = [{"name": "bytes"}]
    else:
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if column.compressed:
        codecs.append({"name": "zstd", "configuration": {"level": 1, "checksum": False}})
    codecs.append({"name": "crc32c"})
    if not column.shape and column.dtype == "string":
        encoding = "string"
    else:
        encoding = "string-array" if column.dtype == "string" else "array"
    return {
        "shape": list(column.shape),
        "data_type": column.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(column.chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": column.fill,
        "codecs": codecs,
        "attributes": {"encoding-type": encoding, "encoding-version": "0.2.0"},
        "dimension_names": list(column.dimensions),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _dump(node: dict[str, Any]) -> bytes:
    return json.dumps(node, separators=(",", ":")).encode()
