"""``vnp view``: the report's page, live, from a store of any size.

::

    browser --GET--> server --> answers --> store        rows, as they are asked for
                       |           +------> contigs      the index of contigs, made once
                       |           +------> picture      overview and map, made once
                       +-- events <-- watch <-- store    one poller for all browsers

The server listens on this machine alone, to who has its token, and reads.
"""
