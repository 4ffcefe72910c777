"""Encoders as data: which there are, how their weights are found and read, and what goes in.

Reading order: ``registry`` (what exists) -> ``files``, ``weights`` and ``torch_files`` (where it
comes from) -> ``tokens`` and ``packing`` (what goes in). What is computed is in
``vnp.inference``.

Importing this package imports neither torch nor numpy-heavy code; only ``weights``,
``torch_files`` and ``demo`` need torch.
"""
