"""Encoders: which models there are, how their weights are found and read, and how they run.

Reading order: ``registry`` (what exists) -> ``files`` and ``weights`` (where it comes from) ->
``tokens`` and ``packing`` (what goes in) -> ``attention``, ``esm2``, ``mosaicbert`` and
``pooling`` (what is computed) -> ``encoder`` (the interface the workers use).

Importing this package imports neither torch nor numpy-heavy code; only ``weights``,
``attention``, ``esm2``, ``mosaicbert``, ``pooling``, ``demo`` and ``torch_encoder`` need torch.
"""
