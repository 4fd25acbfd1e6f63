"""Data sets and weights that others publish: one file per family, and how any of them is prepared.

`SETS` in sets.py lists them, `prepare` in preparing.py fetches, checks and unpacks one, and
places.py says where configs find it.
"""
