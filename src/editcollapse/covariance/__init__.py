"""The second moment C of a layer's keys: sums over a corpus, solves, convergence, files.

The corpus itself is read in ``data.corpora``; which shards make a C is planned in ``study``.
"""
