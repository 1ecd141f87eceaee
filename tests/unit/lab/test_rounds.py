"""What a pulse says of its region."""

from meshnode.lab.rounds import Pulse


def pulse(**body) -> Pulse:
    return Pulse(1, 2, 0, body, {})


def test_lifts_are_zero_before_the_first_body():
    assert pulse().lifts == 0
    assert pulse(counts={"lifts": 4}).lifts == 4


def test_troubles_name_what_does_not_run():
    actors = [
        {"name": "heart", "state": "running", "reason": ""},
        {"name": "applier oregon", "state": "halted", "reason": "gap"},
        {"name": "tailer", "state": "starting", "reason": ""},
    ]
    assert pulse(actors=actors).troubles() == ["applier oregon halted: gap", "tailer starting"]
