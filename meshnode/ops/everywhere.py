"""Ask several regions the same thing; one that is away keeps nobody else's answer back."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from meshnode.errors import MeshError

Row = TypeVar("Row")


@dataclass(slots=True)
class Answers(Generic[Row]):
    """What the regions that could be asked have said; ``away`` says of the others why not."""

    found: list[Row] = field(default_factory=list)
    away: dict[str, MeshError] = field(default_factory=dict)


async def ask(regions: Sequence[str], one: Callable[[str], Awaitable[list[Row]]]) -> Answers[Row]:
    """The answers of ``regions`` in their order, asked at once.

    Where none can be asked, the error of the first is raised: there is nothing to show.
    """
    results = await asyncio.gather(*(one(name) for name in regions), return_exceptions=True)
    answers: Answers[Row] = Answers()
    for name, result in zip(regions, results, strict=True):
        if isinstance(result, MeshError):
            answers.away[name] = result
        elif isinstance(result, BaseException):
            raise result
        else:
            answers.found += result
    if answers.away and len(answers.away) == len(regions):
        raise next(iter(answers.away.values()))
    return answers
