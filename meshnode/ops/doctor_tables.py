"""Checks of the replicated tables: can they be replicated, and is everything in place."""

from meshnode.mysql import schema
from meshnode.mysql.catalog import Table
from meshnode.ops import install_steps, table_rules
from meshnode.ops.checks import Context, Finding, Level, TriggerRow, check

_CASCADES = """
SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE
FROM information_schema.REFERENTIAL_CONSTRAINTS
WHERE DELETE_RULE IN ('CASCADE', 'SET NULL') OR UPDATE_RULE IN ('CASCADE', 'SET NULL')
ORDER BY 1, 2, 3"""


def _rule(name: str, about: str) -> None:
    @check(name, about)
    async def function(context: Context) -> list[Finding]:
        return [
            context.finding(name, Level.REFUSE, table.name, fault.finding, fault.remedy)
            for table in context.tables.values()
            for fault in table_rules.faults(table)
            if fault.check == name
        ]


_rule("primary-key", "every replicated table has a primary key of its own")
_rule("key-type", "no FLOAT or DOUBLE in a primary key")
_rule("key-collation", "the collation of every text key tells which values are equal")
_rule("key-prefix", "no primary key covers only part of a column")
_rule("key-length", "every key fits the bookkeeping")
_rule("engine", "every replicated table is InnoDB")
_rule("add-columns", "the stamp columns can be added while clients write")
_rule("labels", "labels of ENUM and SET can be read from the catalogue")


@check("not-replicated", "every table that the topology names is taken in, and none is gone")
async def not_replicated(context: Context) -> list[Finding]:
    found = [
        context.finding(
            "not-replicated",
            Level.WARN,
            ".".join(name),
            "is named by the topology and not replicated yet",
            "run `meshnode init --all`",
        )
        for name in context.tables
        if name not in context.active
    ]
    found += [
        context.finding(
            "not-replicated",
            Level.REFUSE,
            ".".join(name),
            "is replicated, and is not on this server",
            "restore it, or take it out of the mesh (docs/OPERATING.md, 'Taking a table out')",
        )
        for name in sorted(context.active - set(context.tables))
        if context.topology.matches(*name)
    ]
    found += [
        context.finding(
            "not-replicated",
            Level.WARN,
            ".".join(name),
            "is replicated, and the topology does not name it: the other regions halt at its"
            " first change",
            "take it out with `meshnode init --all --retire` (docs/OPERATING.md, 'Taking a table"
            " out'), or name it again",
        )
        for name in sorted(context.active)
        if not context.topology.matches(*name)
    ]
    return found


@check("stamp-columns", "replicated tables have their stamp columns, as init made them")
async def stamp_columns(context: Context) -> list[Finding]:
    return [
        context.finding("stamp-columns", Level.REFUSE, table.name, fault.finding, fault.remedy)
        for name, table in context.tables.items()
        for fault in (
            table_rules.stamp_faults(table)
            if name in context.active
            else [f for f in table_rules.faults(table) if f.check == "stamp-columns"]
        )
    ]


@check("tombstones", "replicated tables have a tombstone table with their key")
async def tombstones(context: Context) -> list[Finding]:
    found = []
    for name in sorted(context.active & set(context.tables)):
        table, graves = context.tables[name], context.tombstones.get(name)
        subject = f"{table.name} ({schema.MESH_SCHEMA}.{schema.tombstone_name(*name)})"
        if graves is None:
            what = "its tombstone table is missing: every delete fails"
        elif graves.key != table.key:
            what = "its tombstone table has another key"
        elif graves.self_dated:
            names = ", ".join(map(schema.quoted, graves.self_dated))
            what = f"{names} of its tombstone table becomes the present time with each update"
        else:
            continue
        found.append(
            context.finding("tombstones", Level.REFUSE, subject, what, "run `meshnode init`")
        )
    return found


@check("triggers", "replicated tables have the triggers of this region, unaltered")
async def triggers(context: Context) -> list[Finding]:
    found = []
    for name in sorted(context.active & set(context.tables)):
        table = context.tables[name]
        there = {row.name: row for row in context.triggers.get(name, ())}
        for trigger in schema.triggers(context.region.id, *name, table.key):
            what = _trigger_fault(trigger, there.get(trigger.name), table, context)
            if what:
                found.append(
                    context.finding(
                        "triggers",
                        Level.REFUSE,
                        f"{table.name} ({trigger.name})",
                        what,
                        "run `meshnode init`, which makes it anew",
                    )
                )
    return found


def _trigger_fault(
    trigger: schema.Trigger, row: TriggerRow | None, table: Table, context: Context
) -> str:
    role = trigger.role
    if row is None:
        return f"the {role.timing} {role.event} trigger is missing: writes are not stamped"
    if (row.timing, row.event) != (role.timing, role.event):
        return f"fires {row.timing} {row.event} instead of {role.timing} {role.event}"
    if row.body == trigger.body:
        if row.sql_mode == frozenset(schema.TRIGGER_SQL_MODE.split(",")):
            return ""
        return f"was made under the sql_mode {','.join(sorted(row.sql_mode))!r}"
    for other in range(1, 256):
        bodies = schema.triggers(other, table.shape.schema, table.shape.table, table.key)
        if any(other_one.body == row.body for other_one in bodies if other_one.role is role):
            return f"is made for region {other}, this is region {context.region.id}"
    return "has another body than this version of meshnode writes"


@check("stray-triggers", "the mesh's triggers stand on the tables that they were made for")
async def stray_triggers(context: Context) -> list[Finding]:
    homes = {schema.digest(*name): ".".join(name) for name in context.active}
    return [
        context.finding(
            "stray-triggers",
            Level.REFUSE,
            f"{stray.schema}.{stray.table} ({stray.name})",
            f"belongs to {homes.get(schema.trigger_digest(stray.name), 'another table')}: deletes "
            "here write tombstones there",
            f"run `meshnode init`, which drops it, or {stray.drop}",
        )
        for stray in await install_steps.strays(context.control)
    ]


@check("trigger-order", "the mesh's triggers are the last of their kind")
async def trigger_order(context: Context) -> list[Finding]:
    found = []
    for name in sorted(context.active & set(context.tables)):
        last: dict[tuple[str, str], TriggerRow] = {}
        for row in context.triggers.get(name, ()):
            last[row.timing, row.event] = row
        ours = {schema.trigger_name(role, *name): role for role in schema.TriggerRole}
        for row in context.triggers.get(name, ()):
            final = last[row.timing, row.event]
            if row.name in ours and final.name not in ours:
                found.append(
                    context.finding(
                        "trigger-order",
                        Level.REFUSE,
                        f"{'.'.join(name)} ({row.name})",
                        f"trigger {final.name} fires after it and can change the stamp",
                        "run `meshnode init`, which puts it last again",
                    )
                )
    return found


@check("trigger-definer", "the mesh's triggers belong to the account that examines them")
async def trigger_definer(context: Context) -> list[Finding]:
    own = await context.control.value("SELECT CURRENT_USER()")
    strangers: dict[str, list[str]] = {}
    for name in sorted(context.active & set(context.tables)):
        ours = {schema.trigger_name(role, *name) for role in schema.TriggerRole}
        for row in context.triggers.get(name, ()):
            if row.name in ours and row.definer != own:
                strangers.setdefault(row.definer, []).append(".".join(name))
    return [
        context.finding(
            "trigger-definer",
            Level.WARN,
            definer,
            f"owns the triggers of {', '.join(sorted(set(tables)))}: if it is dropped or loses its "
            "grants, every write to them fails",
            f"keep that account, or run `meshnode init` as {own}: it makes them anew",
        )
        for definer, tables in strangers.items()
    ]


@check("user-triggers", "no other triggers on replicated tables")
async def user_triggers(context: Context) -> list[Finding]:
    found = []
    for name, rows in context.triggers.items():
        ours = {schema.trigger_name(role, *name) for role in schema.TriggerRole}
        found += [
            context.finding(
                "user-triggers",
                Level.WARN,
                ".".join(name),
                f"trigger {row.name} fires where a row is written first and not where it is "
                "applied: its own changes travel as rows",
                "have the same trigger in every region, and none that only some regions need",
            )
            for row in rows
            if row.name not in ours and not schema.trigger_digest(row.name)
        ]
    return found


@check("unique-keys", "no unique keys beside the primary key")
async def unique_keys(context: Context) -> list[Finding]:
    return [
        context.finding(
            "unique-keys",
            Level.WARN,
            table.name,
            f"unique key {', '.join(table.unique_keys)}: two regions can give one value to two "
            "rows, and the second is parked",
            "let one region alone give out such values, or make the key part of the primary key",
        )
        for table in context.tables.values()
        if table.unique_keys
    ]


@check("cascades", "foreign-key cascades are in the binlog")
async def cascades(context: Context) -> list[Finding]:
    rows = [
        row for row in await context.control.rows(_CASCADES) if tuple(row[:2]) in context.tables
    ]
    if not rows:
        return []
    native = context.variables.get("innodb_native_foreign_keys", "OFF").upper() == "ON"
    if context.version < (9, 6) or native:
        return [
            context.finding(
                "cascades",
                Level.REFUSE,
                f"{row[0]}.{row[1]}",
                f"foreign key {row[2]} cascades within the engine: the rows that it changes are "
                "not in the binlog",
                "use RESTRICT, or MySQL 9.6 or later with innodb_native_foreign_keys = OFF",
            )
            for row in rows
        ]
    if context.variables.get("enable_cascade_triggers", "OFF").upper() == "ON":
        return []
    return [
        context.finding(
            "cascades",
            Level.WARN,
            f"{row[0]}.{row[1]}",
            f"foreign key {row[2]} cascades without triggers: the node stamps those rows later",
            "SET PERSIST enable_cascade_triggers = ON stamps them at once",
        )
        for row in rows
    ]


@check("events", "no scheduled events run in replicated schemas")
async def events(context: Context) -> list[Finding]:
    schemas = {name[0] for name in context.tables}
    rows = await context.control.rows(
        "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS"
        " WHERE STATUS = 'ENABLED' ORDER BY 1, 2"
    )
    return [
        context.finding(
            "events",
            Level.WARN,
            f"{row[0]}.{row[1]}",
            "is enabled: in every region where it is, it runs",
            "enable it in one region only",
        )
        for row in rows
        if row[0] in schemas and context.variables.get("event_scheduler", "OFF") == "ON"
    ]
