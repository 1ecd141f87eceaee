"""Mutants that the simulation cannot kill, each with the reason.

The rule is either implied by others, so that nothing depends on it alone, or it is about
something that a schedule does not show.  The gate says so when one of them dies.
"""

SURVIVORS: dict[str, str] = {
    "late tombstones take the clock": (
        "Not needed for convergence: worked out again after a crash, the stamp only rises, and"
        " whatever it takes has a record. It is needed for fairness (a delete beats what stood"
        " before it, not what another region wrote until the tailer came) and so that it comes"
        " round as a duplicate; tests/unit/core/test_mend.py holds the stamp."
    ),
    "a losing delete leaves no tombstone": (
        "The row that the delete lost to stands above it, and when that row goes, by whatever way,"
        " its tombstone is above the row. Only between a delete that no trigger saw and its late"
        " tombstone is the key open to older versions, which the late tombstone takes back, with"
        " a record. Kept: it costs nothing, and tombstones are then the same in all regions."
    ),
    "a duplicate is decided by the version": (
        "It differs only where an upsert has exactly the stamp of a tombstone and there is no row."
        " No such upsert is published: one that is equal to the version replaced is lifted (the"
        " mutant of that rule dies). Kept as the second line; tests/unit/core/test_resolve.py"
        " shows it."
    ),
    "at a tie the delete wins": (
        "For the same reason: of one region's stamps no upsert is equal to a tombstone of its key,"
        " and stamps of two regions never are. tests/unit/core/test_resolve.py shows the tie."
    ),
}

UNSHOWN: dict[str, str] = {
    "parked rows do not hold tombstones": (
        "Not met within 500 schedules: an upsert must be parked, its key deleted and that tombstone"
        " be collected elsewhere before the replay."
        " tests/integration/test_parking.py::test_a_parked_row_holds_tombstones_of_its_time shows"
        " the rule on real servers."
    ),
    "what a held version replaced is forgotten": (
        "Not met within 500 schedules: a row whose lift was held back must be written over by a"
        " write that is above it and below what it had replaced."
    ),
    "rows below a held late tombstone stay there": (
        "Not met within 500 schedules: an insert must be examined between a late tombstone that"
        " met a lock and the resolver's next try."
    ),
    "late tombstones do not count for what follows": (
        "Rare: seen once at schedule 70 of the aim `cascade`, not within 500 later."
    ),
}
"""Mutants that nobody has seen die in as many schedules as the tests run, and that are not known
to be harmless either: holes of the simulation until a sharper schedule is found."""
