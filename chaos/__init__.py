"""Chaos: fault plans drawn from a seed, performed on real servers under load, and judged.

    python -m chaos list
    python -m chaos run C3 --seed 7
    python -m chaos all

Reading order: `plan` (what is to happen), `mesh` (where), `faults` and `workloads` (what
does it), `runner` (in which order), `judge` (what must hold), `report` (what is left behind).
"""
