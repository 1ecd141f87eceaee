"""What one node says of itself: whether it is ready, and its own part of ``meshnode status``.

Everything here is on the node's board already: nothing is asked of a server, so it is
true also when the server is away.  Names are those of ``meshnode status --json``
(:mod:`meshnode.ops.verdict`) wherever the meaning is the same.

*Ready* is about this region alone: it is claimed, its heart beats in its MySQL,
and its own transactions are published.  A peer's stream that is halted or paused
makes no node unready: taking the region's clients away would not help it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from meshnode import __version__, limits
from meshnode.actors.board import Board, PeerProgress
from meshnode.actors.kernel import Actor, State
from meshnode.actors.watcher import View
from meshnode.core.frontier import gc_limit
from meshnode.ops.verdict import (
    STANDING,
    ActorStatus,
    Letters,
    PairStatus,
    Paused,
    RegionStatus,
)
from meshnode.topology import Region

LEAST_SILENCE_SECONDS = 5.0
"""The heart is silent when its last beat is older than this and than three beats."""

MOMENT_SECONDS = 1.0
"""A heart that retries for less does not count, nor does a tailer that was halted before it."""

PARKED = "parked rows"
"""What holds tombstones back when it is no region."""


@dataclass(frozen=True)
class NodeStatus:
    """The node of ``region``: its actors, and what they share."""

    region: Region
    view: View
    board: Board
    actors: Sequence[Actor]

    def reasons(self) -> list[str]:
        """Why the node is not ready; empty when it is."""
        states = {actor.name: actor.state for actor in self.actors}
        if not self.board.is_claimed:
            tailer = states.get("tailer")
            because = (
                f": tailer {tailer.state}: {tailer.reason}" if tailer and tailer.reason else ""
            )
            return [f"the region is not claimed yet{because}"]
        tailer, heart = states["tailer"], states["heart"]
        found = _standing(tailer)
        hold = self.board.hold
        if hold.closed:
            why = hold.reason or f"the settings of the MySQL at {self.region.mysql} are not known"
            found.append(f"nothing is published: {why}")
        if heart.state != "running" and _age(heart) > MOMENT_SECONDS:
            found.append(f"heart {heart.state}" + (f": {heart.reason}" if heart.reason else ""))
            return found
        age = self.beat_age
        pulse = self.view.now.limits.heartbeat_seconds
        allowed = max(LEAST_SILENCE_SECONDS, limits.BEATS_MISSED * pulse)
        if age is None:
            found.append("no heartbeat has been written yet")
        elif age > allowed:
            found.append(
                f"no heartbeat could be written for {age:.0f} s: "
                f"the MySQL at {self.region.mysql} does not answer"
            )
        return found

    @property
    def beat_age(self) -> float | None:
        """Seconds since the newest own heartbeat that is committed; None before the first."""
        board = self.board
        return (board.now_us() - board.beat_us) / 1e6 if board.beat_us else None

    def gc(self) -> tuple[int, str] | None:
        """The limit below which tombstones may go, and who holds it back; None while unknown."""
        board, peers = self.board, self.view.now.peers(self.region.name)
        bounds = {peer.name: self.progress(peer).frontier for peer in peers}
        bounds[self.region.name] = board.tail.frontier
        parked = [] if board.census.parked_ts is None else [board.census.parked_ts]
        limit = gc_limit(bounds.values(), board.tail.frontier, parked)
        if not limit:
            return None
        return limit, min(bounds, key=bounds.__getitem__) if limit in bounds.values() else PARKED

    def progress(self, peer: Region) -> PeerProgress:
        """How far ``peer`` is applied here; all zero before its applier started."""
        return self.board.peers.get(peer.id) or PeerProgress()

    def lag(self, peer: Region) -> float | None:
        """Age of the newest heartbeat of ``peer`` that is applied here; None before the first."""
        heard = self.progress(peer).heard_us
        return (self.board.now_us() - heard) / 1e6 if heard else None

    def as_json(self) -> dict[str, Any]:
        """What ``/status`` shows."""
        board, topology = self.board, self.view.now
        reasons = self.reasons()
        gc = self.gc()
        shown = RegionStatus(
            self.region.name, self.region.id, str(self.region.mysql),
            now_us=board.now_us(), wall_us=board.beat_us, frontier_us=board.promised,
            epoch=board.epoch, published_seq=board.tail.seq, gc_limit=gc[0] if gc else 0,
            node=__version__, digest=topology.digest, counts=dict(board.counts),
            letters=Letters(**(board.census.letters or {})), mend=board.census.mend or 0,
            actors=[
                ActorStatus(
                    each.name, each.state, each.reason, each.remedy, each.since, each.restarts
                )
                for each in (actor.state for actor in self.actors)
            ],
        )  # fmt: skip
        told = msgspec.to_builtins(shown)
        # Rates need two looks, and the others are known to the servers alone: not here.
        for name in ("beat", "error", "remedy", "rates", "unreplicated", "unnamed", "unsettled"):
            del told[name]
        told["beat_age"] = self.beat_age
        told["gc_held_back_by"] = gc[1] if gc else None
        return {
            "mesh": topology.mesh,
            "at": board.now_us() / 1e6,
            "ready": not reasons,
            "reasons": reasons,
            "region": told,
            "pairs": [self._pair(peer) for peer in topology.peers(self.region.name)],
        }

    def _pair(self, peer: Region) -> dict[str, Any]:
        progress, pause = self.progress(peer), self.board.pauses.now.get(peer.id)
        told: dict[str, Any] = msgspec.to_builtins(
            PairStatus(
                origin=peer.name,
                region=self.region.name,
                seq=progress.seq,
                lag=self.lag(peer),
                frontier_us=progress.frontier,
                commit_us=progress.commit_us,
                now_us=self.board.now_us(),
                paused=pause and Paused(pause.since, pause.reason),
            )
        )
        # Only the peer's own server knows how much it has published.
        for name in ("behind", "beats", "heard_us", "heard_beat"):
            del told[name]
        told["clock_ahead"] = progress.ahead.value()
        told["retention_left"] = progress.retention_left
        return told


def _standing(tailer: State) -> list[str]:
    """Why nothing is published; a halted tailer is tried again every few seconds."""
    if tailer.state in STANDING:
        return [f"tailer {tailer.state}: {tailer.reason}"]
    if tailer.former in STANDING and _age(tailer) < MOMENT_SECONDS:
        return [f"tailer {tailer.former} a moment ago, and tried again"]
    return []


def _age(state: State) -> float:
    """Seconds that the actor has been in its state."""
    return time.time() - state.since
