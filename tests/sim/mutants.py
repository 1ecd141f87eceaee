"""Mutants: the mesh with one of its rules switched off.

A simulation that passes proves little until it is known what it would have seen.
So every rule has a mutant: the real code of ``meshnode.core``, or
the model's actor where the rule lives in an actor, with that rule off and all
else as it is.  :mod:`.gate` runs the schedules of a mutant until the oracle
rejects one; a mutant that survives its budget is a hole in the model, or a rule
that is not needed, and then stands in ``SURVIVORS`` with the reason.

``aims`` are schedules that favour what the rule is for; each passes with all
rules on, or a kill would mean nothing.  ``shown`` names the test on real servers
that shows the same rule.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

BUDGET = 20_000
"""Schedules in which a mutant must die, unless it names its own number."""


@dataclass(frozen=True)
class Mutant:
    """A rule switched off.

    ``rule`` says what the rule is about, and the rule, in words; ``off`` switches it off for
    as long as the context is open; ``aims`` are taken in turn, one seed each.
    """

    name: str
    rule: str
    off: Callable[[], AbstractContextManager[None]]
    aims: tuple[str, ...] = ("",)
    budget: int = BUDGET
    shown: str = ""


MUTANTS: dict[str, Mutant] = {}
"""All mutants by name."""


def mutant(
    rule: str,
    aims: tuple[str, ...] = ("",),
    budget: int = BUDGET,
    shown: str = "",
) -> Callable[[Callable[[], Iterator[None]]], Callable]:
    """Register the generator below as a mutant, named after it."""

    def register(function: Callable[[], Iterator[None]]) -> Callable:
        name = function.__name__.replace("_", " ")
        assert name not in MUTANTS, name
        MUTANTS[name] = Mutant(name, rule, contextmanager(function), aims, budget, shown)
        return function

    return register


def rules_of(what: str, test: str) -> str:
    """The name of the test that shows a rule on real servers, with the rule on and with it off."""
    return f"tests/integration/test_rules_of_{what}.py::{test}"


@contextmanager
def replaced(owner: Any, name: str, make: Callable[[Callable], Callable]) -> Iterator[None]:
    """``owner.name`` replaced by what ``make`` makes of it.

    A method is replaced in the class that defines it, for all that inherit it.
    """
    if isinstance(owner, type):
        owner = next(each for each in owner.__mro__ if name in vars(each))
    kept = vars(owner)[name]
    assert callable(kept), f"{owner}.{name} is no function"
    setattr(owner, name, make(kept))
    try:
        yield
    finally:
        setattr(owner, name, kept)


@contextmanager
def constant(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """A constant of a module, or the module's own name of it, with another value."""
    kept = getattr(module, name)
    assert kept != value, f"{module.__name__}.{name} is {value} as it is"
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, kept)


@contextmanager
def everywhere(function: Callable, make: Callable[[Callable], Callable]) -> Iterator[None]:
    """A function replaced in every module of meshnode and of the model that has it."""
    own = __package__ or ""
    places = [
        (module, name)
        for title, module in list(sys.modules.items())
        if title.startswith(("meshnode.", f"{own}.")) and not title.startswith(f"{own}.mutants")
        for name, value in list(vars(module).items())
        if value is function
    ]
    assert places, f"nobody has {function}"
    other = make(function)
    for module, name in places:
        setattr(module, name, other)
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, function)
