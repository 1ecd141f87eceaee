"""When a row that is judged again carries just the stamp of its own lift."""

from core_values import OWN, number_table, wire_key

from meshnode.core.mend import Lift, Reason, Restamped
from meshnode.core.stamp import ZERO, Stamp

TABLE = number_table()
SEEN = Stamp(100, OWN)


def lift(key: int, seen: Stamp | None = SEEN) -> Lift:
    return Lift(TABLE, wire_key(key), seen, ZERO, False, Reason.PROMISE, None)


def test_only_the_very_stamp_over_the_very_version_counts():
    done = Restamped()
    done.note(lift(1), Stamp(200, OWN), committed=True)
    assert done.by(lift(1), Stamp(200, OWN))
    assert not done.by(lift(1), Stamp(201, OWN)), "a client has changed it since"
    assert not done.by(lift(1), SEEN), "it was rolled back"
    assert not done.by(lift(1, Stamp(99, OWN)), Stamp(200, OWN)), "another version was seen"
    assert not done.by(lift(1, None), Stamp(200, OWN)), "its version is not known"
    assert not done.by(lift(2), Stamp(200, OWN))


def test_without_an_answer_a_stamp_that_a_trigger_would_give_proves_nothing():
    """The lift may be rolled back; a client's update takes the next one if its clock is behind."""
    done = Restamped()
    next_one = Stamp(SEEN.ts + 1, OWN)
    done.note(lift(1), next_one, committed=False)
    assert not done.by(lift(1), next_one)
    done.note(lift(1), Stamp(SEEN.ts + 2, OWN), committed=False)
    assert done.by(lift(1), Stamp(SEEN.ts + 2, OWN))
    done.note(lift(2), next_one, committed=True)
    assert done.by(lift(2), next_one)


def test_the_newest_lift_of_a_row_counts():
    done = Restamped()
    done.note(lift(1), Stamp(200, OWN), committed=False)
    done.note(lift(1), Stamp(300, OWN), committed=True)
    assert not done.by(lift(1), Stamp(200, OWN))
    assert done.by(lift(1), Stamp(300, OWN))


def test_the_oldest_are_forgotten():
    done = Restamped(capacity=2)
    for key in (1, 2, 3):
        done.note(lift(key), Stamp(200, OWN), committed=True)
    assert [done.by(lift(key), Stamp(200, OWN)) for key in (1, 2, 3)] == [False, True, True]
