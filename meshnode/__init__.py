"""meshnode: many writable MySQL regions, one data set.

Reading order: ``docs/ARCHITECTURE.md``, ``core/stamp.py``, ``core/change.py``,
``core/wire.py``, ``actors/tailer.py``, ``actors/applier.py``, ``node.py``.
"""

__version__ = "0.1.0"
