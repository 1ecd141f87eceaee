"""When ``verify`` may stop looking: what never changed is told, what changes is moving."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from meshnode.ops import verify
from meshnode.ops.verify_rows import Candidate

KEYS = 3


@dataclass
class SlowComparison:
    """A table whose look takes longer than there is time; ``changing`` keys differ each time."""

    changing: int = 0
    sides: tuple = ()
    rows: int = KEYS
    retired: int = 0
    pending: list = field(default_factory=list)
    candidates: dict[int, Candidate] = field(default_factory=dict)

    async def scan(self, gc_limit: int, progress: Any) -> None:
        self.candidates = {key: Candidate((key,), ()) for key in range(KEYS)}

    async def look(self, gc_limit: int) -> None:
        await asyncio.sleep(0.02)
        for key, candidate in self.candidates.items():
            if key < self.changing:
                candidate.looks = 1
                candidate.changes += 1
            else:
                candidate.looks += 1


@pytest.mark.parametrize("changing", [0, 1, KEYS])
async def test_a_difference_counts_however_long_the_looks_take(changing, monkeypatch) -> None:
    async def no_limit(sides: object) -> int:
        return 0

    monkeypatch.setattr(verify, "_gc_limit", no_limit)
    works = [
        verify._Work(verify.TableResult(name), SlowComparison(changing)) for name in ("a.b", "a.c")
    ]
    settle = 0.01
    await verify._run([], works, settle, lambda line: None)
    for work in works:
        result = await verify._result([], work, settle, listed=20)
        assert (result.differing, result.moving) == (KEYS - changing, changing)
        assert result.identical == (changing == KEYS)
