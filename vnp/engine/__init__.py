"""The GPU engine: packed tokens, fused operations, three streams.

Reading order: ``spans`` (where records lie on the device) -> ``plain`` and ``kernels`` (the fused
operations, in torch and in Triton) -> ``products`` (matrix products in bfloat16 and fp8) ->
``esm2`` and ``mosaicbert`` (the models) -> ``pipeline`` (batches in flight) -> ``quality`` (is fp8
good enough for this store).

``vnp.models`` holds the plain modules that say what the engine must compute.
"""
