"""Whose an epoch is: that of the process that finds it, or that of a successor.

Every claim of a region's stream raises the epoch of the region by one; the first claim of a process
also writes it to the rows of ``applied``, under which its appliers then work.
"""

from collections.abc import Collection


def is_successors(epoch: int, ours: Collection[int], applied: int, applies: int) -> bool:
    """Whether another process has raised the region's ``epoch`` since this one began.

    ``ours`` has the epochs that this process may have set, and those that it found there.
    ``applied`` is the greatest epoch in the rows of ``applied``, ``applies`` the one that this
    process wrote there; before its first claim ``ours`` is empty and ``applies`` 0, and whatever
    stands there is a predecessor's.

    A COMMIT of ours that was lost on its way leaves its number to a successor: then only
    ``applied`` tells whose it is.
    """
    return (bool(ours) and epoch not in ours) or applied > applies > 0
