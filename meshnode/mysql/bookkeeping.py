"""The tables of schema ``meshnode`` in each region's MySQL.

They are what the mesh knows about itself in one region, kept in the same
server as the data so that both commit together: the position of every stream
that is applied here (``applied``), this region's own stream (``member``), its
pulse (``heartbeat``), the tables it replicates (``tables``), the streams that an
operator holds (``paused``), the tables on which the regions do not agree
(``unsettled``), and what an operator must be able to see (``mend``,
``conflict_log``, ``dead_letter``).  The tombstone tables, one per replicated table,
live beside them (:mod:`meshnode.mysql.schema`).

None of it is replicated.  Names are compared by byte (``utf8mb4_0900_bin``), because two
tables or regions may differ in case alone.  Times are UTC.
"""

from collections.abc import Collection

from meshnode.mysql.schema import MESH_SCHEMA, quoted, quoted_table

_STAMP = "BIGINT UNSIGNED NOT NULL"
_ID = "TINYINT UNSIGNED NOT NULL"
_COUNT = "BIGINT UNSIGNED NOT NULL DEFAULT 0"
_DIGEST = "CHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL"
_NAME = "VARCHAR(64) NOT NULL"
_TX_ID = "VARCHAR(128) NOT NULL DEFAULT ''"
_POSITION = "VARBINARY(255) NOT NULL DEFAULT ''"

UNDATED = 2**64 - 1
"""``tables.since_us`` while nobody has looked what stands in the table."""

TABLES: dict[str, tuple[str, ...]] = {
    # One row: who this region is, how far its stream is known to reach, and its epoch.
    "member": (
        "id TINYINT NOT NULL",
        f"mesh {_NAME}",
        f"region {_ID}",
        f"name {_NAME}",
        "server_uuid CHAR(36) NOT NULL",
        f"incarnation {_COUNT}",
        f"epoch {_COUNT}",
        f"tail_position {_POSITION}",
        f"tail_seq {_COUNT}",
        "tail_gtids MEDIUMTEXT NOT NULL",
        f"tail_frontier {_COUNT}",
        f"tail_epoch {_COUNT}",
        f"tail_tx_id {_TX_ID}",
        f"tail_commit_us {_COUNT}",
        f"gc_limit {_COUNT}",
        "PRIMARY KEY (id)",
        "CONSTRAINT member_is_one_row CHECK (id = 1)",
    ),
    # One row for every other region: the position of its stream, moved by the
    # transaction that writes the data.
    "applied": (
        f"origin {_ID}",
        f"incarnation {_COUNT}",
        f"seq {_COUNT}",
        f"tx_id {_TX_ID}",
        f"position {_POSITION}",
        f"stream_epoch {_COUNT}",
        f"frontier {_COUNT}",
        f"heard_us {_COUNT}",
        f"commit_us {_COUNT}",
        f"epoch {_COUNT}",
        f"replays {_COUNT}",
        "applied_at DATETIME(6) NOT NULL",
        # A number, because wall times may step: what waits for a beat waits for it.
        f"heard_beat {_COUNT}",
        "PRIMARY KEY (origin)",
    ),
    # Peers whose stream an operator holds here.
    "paused": (
        f"origin {_ID}",
        "since DATETIME(6) NOT NULL",
        "reason VARCHAR(255) NOT NULL DEFAULT ''",
        "PRIMARY KEY (origin)",
    ),
    "heartbeat": (
        f"region {_ID}",
        f"beat {_COUNT}",
        f"wall_us {_COUNT}",
        f"frontier {_COUNT}",
        "body JSON NOT NULL",
        "PRIMARY KEY (region)",
    ),
    # A table is replicated from where its row here stands in the binlog.
    "tables": (
        f"digest {_DIGEST}",
        f"schema_name {_NAME}",
        f"table_name {_NAME}",
        "state VARCHAR(16) NOT NULL",
        "since_gtids MEDIUMTEXT NOT NULL",
        "created_at DATETIME(6) NOT NULL",
        # What stood anywhere when the row was written is dated at or below this, whatever the
        # clocks said; the greatest number there is until somebody has looked.
        f"since_us {_COUNT}",
        "PRIMARY KEY (digest)",
    ),
    # Tables with keys that `init` left as they are: the regions do not agree on them.
    "unsettled": (
        f"digest {_DIGEST}",
        f"schema_name {_NAME}",
        f"table_name {_NAME}",
        f"row_keys {_COUNT}",
        "at DATETIME(6) NOT NULL",
        "PRIMARY KEY (digest)",
    ),
    # Keys whose row was locked when it had to be lifted.
    "mend": (
        f"digest {_DIGEST}",
        "key_hash BINARY(16) NOT NULL",
        "row_key VARBINARY(3072) NOT NULL",
        f"seen_ts {_STAMP}",
        f"seen_origin {_ID}",
        f"base_ts {_STAMP}",
        f"base_origin {_ID}",
        "base_row TINYINT NOT NULL",
        "image JSON NULL",
        "at DATETIME(6) NOT NULL",
        "PRIMARY KEY (digest, key_hash)",
    ),
    "conflict_log": (
        "id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT",
        "at DATETIME(6) NOT NULL",
        f"schema_name {_NAME}",
        f"table_name {_NAME}",
        "row_key JSON NOT NULL",
        "kind VARCHAR(24) NOT NULL",
        "certainty VARCHAR(10) NOT NULL",
        "policy VARCHAR(32) NOT NULL",
        "reason VARCHAR(255) NOT NULL",
        f"winner_ts {_STAMP}",
        f"winner_origin {_ID}",
        f"loser_ts {_STAMP}",
        f"loser_origin {_ID}",
        "winner_image JSON NULL",
        "loser_image JSON NULL",
        f"origin {_ID}",
        "seq BIGINT UNSIGNED NOT NULL",
        f"tx_id {_TX_ID}",
        "PRIMARY KEY (id)",
        "KEY conflict_log_at (at)",
        "KEY conflict_log_table (schema_name, table_name)",
    ),
    # Rows that could not be applied: image, cause and what a replay needs.
    "dead_letter": (
        "id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT",
        "at DATETIME(6) NOT NULL",
        f"origin {_ID}",
        "seq BIGINT UNSIGNED NOT NULL",
        f"tx_id {_TX_ID}",
        "schema_name VARCHAR(64) NULL",
        "table_name VARCHAR(64) NULL",
        "row_key JSON NULL",
        f"ts {_STAMP}",
        f"stamp_origin {_ID}",
        "code INT NOT NULL",
        "cause VARCHAR(1024) NOT NULL",
        "image JSON NULL",
        "body LONGBLOB NOT NULL",
        "state VARCHAR(10) NOT NULL",
        "closed_at DATETIME(6) NULL",
        "note VARCHAR(255) NOT NULL DEFAULT ''",
        "PRIMARY KEY (id)",
        "KEY dead_letter_state (state)",
    ),
}


def create_schema() -> str:
    return (
        f"CREATE DATABASE IF NOT EXISTS {quoted(MESH_SCHEMA)}"
        " CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin"
    )


def create_tables() -> tuple[str, ...]:
    """One ``CREATE TABLE IF NOT EXISTS`` for each bookkeeping table."""
    return tuple(
        f"CREATE TABLE IF NOT EXISTS {quoted_table(MESH_SCHEMA, name)} ({', '.join(definitions)})"
        " ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin"
        for name, definitions in TABLES.items()
    )


def column_names(table: str) -> tuple[str, ...]:
    """The columns that a bookkeeping table must have, in order."""
    return tuple(
        definition.split(" ", 1)[0]
        for definition in TABLES[table]
        if not definition.startswith(("PRIMARY KEY", "KEY", "CONSTRAINT"))
    )


def add_columns(table: str, missing: Collection[str]) -> str:
    """The statement that gives an older install the columns of ``table`` that it lacks."""
    added = (
        f"ADD COLUMN {definition}"
        for definition in TABLES[table]
        if definition.split(" ", 1)[0] in missing
    )
    return f"ALTER TABLE {quoted_table(MESH_SCHEMA, table)} {', '.join(added)}"


def drop_schema() -> str:
    return f"DROP DATABASE IF EXISTS {quoted(MESH_SCHEMA)}"


# The rows.  ``IF NOT EXISTS`` in SQL has no equal for rows that another process may
# be using, so each insert leaves a row alone that is there already.

INSERT_MEMBER = (
    f"INSERT INTO {quoted_table(MESH_SCHEMA, 'member')}"
    " (id, mesh, region, name, server_uuid, tail_gtids)"
    " VALUES (1, %s, %s, %s, @@server_uuid, '') ON DUPLICATE KEY UPDATE id = id"
)
"""Parameters: mesh, region id, region name."""

INSERT_APPLIED = (
    f"INSERT INTO {quoted_table(MESH_SCHEMA, 'applied')} (origin, epoch, applied_at)"
    " SELECT %s, COALESCE(other.epoch, own.epoch), UTC_TIMESTAMP(6)"
    f" FROM {quoted_table(MESH_SCHEMA, 'member')} AS own LEFT JOIN (SELECT MAX(epoch) AS epoch"
    f" FROM {quoted_table(MESH_SCHEMA, 'applied')}) AS other ON TRUE WHERE own.id = 1"
    " ON DUPLICATE KEY UPDATE origin = origin"
)
"""Parameter: id of another region.  Its fence is that of the rows that are there."""

INSERT_HEARTBEAT = (
    f"INSERT INTO {quoted_table(MESH_SCHEMA, 'heartbeat')} (region, body)"
    " VALUES (%s, JSON_OBJECT()) ON DUPLICATE KEY UPDATE region = region"
)
"""Parameter: own region id."""

INSERT_TABLE = (
    f"INSERT INTO {quoted_table(MESH_SCHEMA, 'tables')}"
    " (digest, schema_name, table_name, state, since_gtids, created_at, since_us)"
    f" VALUES (%s, %s, %s, 'active', %s, UTC_TIMESTAMP(6), {UNDATED})"
    " ON DUPLICATE KEY UPDATE digest = digest"
)
"""Parameters: digest, schema, table, ``gtid_executed`` read just before."""

DEACTIVATE = f"DELETE FROM {quoted_table(MESH_SCHEMA, 'tables')} WHERE digest = %s"
"""Parameter: digest."""

UNSETTLE = (
    f"REPLACE INTO {quoted_table(MESH_SCHEMA, 'unsettled')}"
    " (digest, schema_name, table_name, row_keys, at) VALUES (%s, %s, %s, %s, UTC_TIMESTAMP(6))"
)
"""Parameters: digest, schema, table, number of keys."""

SETTLE = f"DELETE FROM {quoted_table(MESH_SCHEMA, 'unsettled')} WHERE digest = %s"
"""Parameter: digest."""

UNSETTLED = (
    f"SELECT schema_name, table_name, row_keys FROM {quoted_table(MESH_SCHEMA, 'unsettled')}"
)

PAUSE = (
    f"INSERT INTO {quoted_table(MESH_SCHEMA, 'paused')} (origin, since, reason)"
    " VALUES (%s, UTC_TIMESTAMP(6), %s) AS new ON DUPLICATE KEY UPDATE"
    " reason = IF(new.reason = '', paused.reason, new.reason)"
)
"""Parameters: id of the other region, reason.  A pause that is there keeps its time."""

RESUME = f"DELETE FROM {quoted_table(MESH_SCHEMA, 'paused')} WHERE origin = %s"
"""Parameter: id of the other region."""

PAUSED = (
    "SELECT origin, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', since), reason"
    f" FROM {quoted_table(MESH_SCHEMA, 'paused')}"
)

DATE_TABLE = (
    f"UPDATE {quoted_table(MESH_SCHEMA, 'tables')} SET created_at = UTC_TIMESTAMP(6)"
    " WHERE digest = %s"
)
"""Parameter: digest."""

DATE_ROWS = f"UPDATE {quoted_table(MESH_SCHEMA, 'tables')} SET since_us = %s WHERE digest = %s"
"""Parameters: the greatest time of what stands in the table, in microseconds; digest."""

ACTIVE_SINCE = "GREATEST(since_us, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', created_at))"
"""When a table became active, in microseconds, not before anything that stood there."""

SINCE = f"SELECT {ACTIVE_SINCE} FROM {quoted_table(MESH_SCHEMA, 'tables')} WHERE digest = %s"
"""Parameter: digest."""
