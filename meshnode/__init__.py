"""meshnode: many writable MySQL regions, one replicated data set.

``docs/ARCHITECTURE.md`` has the path of a row, the order in which to read the code, and a glossary.
"""

__version__ = "0.1.0"
