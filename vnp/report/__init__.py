"""The report: one page that shows what a store holds, how it was made and what was called.

::

    store, scores --collect--> ReportData --page------> one HTML file
                                         --multiqc---> *_mqc.json

Everything in `vnp.report.data.ReportData` is bounded, for a store of any size: what there
is more of is sampled with a fixed seed, binned, or counted, and the page says so.
"""
