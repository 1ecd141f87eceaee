"""The commands of ``meshnode``, one module per group; :mod:`meshnode.cli` puts them together."""
