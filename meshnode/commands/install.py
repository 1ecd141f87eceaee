"""``init``: make the regions' tables fit for the mesh, or take everything out again."""

import argparse
from typing import Any

from meshnode import accounts
from meshnode.commands.arguments import add_command, add_json, load, print_json, say
from meshnode.errors import MeshError, Refused
from meshnode.mysql import catalog, control
from meshnode.ops import grants
from meshnode.ops import install as installation
from meshnode.ops.seed_records import overruled_lines
from meshnode.topology import Topology

_GLOB = frozenset("*?")


def add_parsers(commands: Any) -> None:
    parser = add_command(
        commands,
        "init",
        init,
        "prepare the replicated tables in each region's MySQL",
        """
Adds to every replicated table two invisible columns, four triggers and a tombstone table,
and to every server the schema `meshnode`. Each step looks first, so it may be broken off
and run again, also under traffic, while nodes run, and for tables that came later.

  meshnode init --all --print-grants          the accounts to make first (changes nothing)
  meshnode init --all --dry-run               the statements that would run
  meshnode init --all                         all regions; rows that differ are made alike
  meshnode init --all --seed-from tokyo       as above; where rows without a version differ,
                                              those of tokyo win (or: one full region fills
                                              empty ones)
  meshnode init --region tokyo                the local part of one region only
  meshnode init --all --retire                as --all, and takes tables out of the mesh that the
                                              topology no longer names
  meshnode init --all --uninstall             tables and rows as they were before init

exit codes: 0 done, 1 refused, or something is left to do (it is named). With --dry-run or
--region something is always left to do: it is named, and the code is 0 unless keys are refused.""",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--region", metavar="NAME", help="one region")
    where.add_argument("--all", action="store_true", help="all regions of the topology")
    parser.add_argument("--dry-run", action="store_true", help="print the statements, run none")
    parser.add_argument(
        "--seed-from", metavar="REGION", help="the region whose rows win where versions are missing"
    )
    parser.add_argument(
        "--retire", action="store_true", help="take out tables that the topology no longer names"
    )
    parser.add_argument("--uninstall", action="store_true", help="take everything out again")
    parser.add_argument(
        "--print-grants", action="store_true", help="print the accounts as SQL and do nothing else"
    )
    add_json(parser)


async def init(args: argparse.Namespace) -> int:
    topology = load(args)
    regions = None if args.all else [topology.region(args.region).name]
    if args.print_grants:
        _require_alone(args)
        return await _print_grants(topology, regions)
    for option, given in (("--seed-from", args.seed_from), ("--retire", args.retire)):
        if args.uninstall and given:
            raise Refused(f"{option} has no meaning with --uninstall", "leave one of them out")
    if args.uninstall:
        result = await installation.uninstall(topology, regions, dry_run=args.dry_run, report=say)
    else:
        result = await installation.init(
            topology, regions, seed_from=args.seed_from, retire=args.retire,
            dry_run=args.dry_run, report=say,
        )  # fmt: skip
    if args.json:
        print_json(
            {
                "complete": result.complete,
                "tables": list(result.tables),
                "statements": [
                    {"region": region, "sql": text} for region, text in result.statements
                ],
                "lifted": result.lifted,
                "overruled": result.overruled,
                "refused": [key._asdict() for key in result.refused],
                "left": result.left,
            }
        )
    else:
        _tell(result, args.uninstall, args.dry_run)
    # A dry run and a single region leave something to do by their nature.
    partial = args.dry_run or not args.all
    return 0 if result.complete or (partial and not result.refused) else 1


def _require_alone(args: argparse.Namespace) -> None:
    others = {
        "--json": args.json,
        "--uninstall": args.uninstall,
        "--dry-run": args.dry_run,
        "--seed-from": args.seed_from,
        "--retire": args.retire,
    }
    wrong = [option for option, given in others.items() if given]
    if wrong:
        raise Refused(
            f"--print-grants only prints SQL: {', '.join(wrong)} has no meaning with it",
            "leave one of them out",
        )


def _tell(result: installation.InitResult, uninstall: bool, dry_run: bool) -> None:
    done = "statements to run" if dry_run else "statements run"
    print(f"{len(result.statements)} {done}")
    if uninstall and not dry_run:
        print(
            "the topics stay on the bus: delete them before this mesh is installed again"
            " (docs/OPERATING.md, 'Removing meshnode')"
        )
    if not uninstall:
        print(f"{len(result.tables)} tables: {', '.join(result.tables) or 'none'}")
    for table, count in result.lifted.items():
        print(f"{table}: {count} rows lifted, to be published by their region's node")
    for table, counts in result.overruled.items():
        print("\n".join(overruled_lines(table, counts)))
    for key in result.refused:
        print(f"refused: {key.table} {key.key} in {', '.join(key.regions)}: {key.reason}")
    for line in result.left:
        print(f"left: {line}")


async def _print_grants(topology: Topology, regions: list[str] | None) -> int:
    for region in topology.regions:
        if regions is None or region.name in regions:
            schemas = fixed_schemas(topology.replicate.tables)
            if schemas is None:
                schemas = await _schemas_of(topology, region.name)
            print(grants.render(topology, region.name, schemas))
    return 0


def fixed_schemas(patterns: tuple[str, ...]) -> list[str] | None:
    """The schemas that ``patterns`` name, or None if one of them names schemas by a glob."""
    schemas = set()
    for pattern in patterns:
        if pattern.startswith("`"):
            end = pattern.replace("``", "\0\0").index("`", 1)
            schemas.add(pattern[1:end].replace("``", "`"))
            continue
        schema = pattern.partition(".")[0]
        if _GLOB & set(schema):
            return None
        schemas.add(schema)
    return sorted(schemas)


async def _schemas_of(topology: Topology, region: str) -> list[str]:
    """The schemas that a glob matches can only be told by the server."""
    try:
        login = accounts.secrets(topology, region, "admin")
        async with await control.connect(topology.region(region), login) as connection:
            tables = await catalog.base_tables(connection)
    except MeshError as error:
        raise Refused(
            f"the schemas to grant on in {region} are named by a glob,"
            f" and its MySQL cannot be asked: {error.what}",
            "make the admin account by hand first, or name the schemas in [replicate] tables",
        ) from error
    return sorted({schema for schema, table in tables if topology.matches(schema, table)})
