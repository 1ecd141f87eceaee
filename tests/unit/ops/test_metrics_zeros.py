"""What has not happened yet is 0 where its labels are known, so that the first is an increase."""

from nodes import busy, fresh
from test_metrics import scraped

from meshnode.actors.board import Census


def test_a_table_without_parked_rows_says_0():
    node = busy()
    node.board.census.tombstones["app.u"] = 0
    values = scraped(node)
    assert values["meshnode_parked_rows", "app.t"] == 2
    assert values["meshnode_parked_rows", "app.u"] == 0


def test_a_parked_row_of_a_table_that_is_no_longer_replicated_is_still_told():
    node = busy()
    node.board.census.parked["app.gone"] = 3
    assert scraped(node)["meshnode_parked_rows", "app.gone"] == 3


def test_no_parked_rows_are_told_before_they_were_counted():
    node = fresh()
    node.board.census = Census(tombstones={"app.t": 0})
    assert "meshnode_parked_rows" not in {name for name, *_ in scraped(node)}


def test_what_an_actor_counts_begins_at_0():
    names = {name for name, *_ in scraped(fresh())}
    begin_at_0 = {
        "meshnode_lifts_total", "meshnode_held_rows_total", "meshnode_mended_rows_total",
        "meshnode_overtaken_rows_total", "meshnode_late_tombstones_total",
        "meshnode_rows_parked_total", "meshnode_apply_retries_total", "meshnode_claims_total",
        "meshnode_actor_restarts_total", "meshnode_peer_paused",
    }  # fmt: skip
    assert begin_at_0 <= names
