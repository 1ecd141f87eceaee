"""What ``meshnode status`` says of a region whose server it reaches and knows nothing of."""

from pathlib import Path

from meshnode.ops.status import read
from meshnode.ops.verdict import RegionStatus
from meshnode.topology import load

TOPOLOGY = Path(__file__).parents[3] / "topology" / "two-regions.toml"


class Bare:
    """A server without a row in the schema ``meshnode``."""

    async def row(self, sql: str) -> None:
        return None


async def test_a_region_without_the_schema_is_told_what_init_takes():
    """``init --region`` alone refuses a region that joins a mesh with rows."""
    mesh = load(str(TOPOLOGY))
    region = mesh.regions[0]
    shown = RegionStatus(region.name, region.id, str(region.mysql))
    await read(Bare(), mesh, region, shown)
    assert "schema meshnode is missing or empty" in shown.error
    assert "init --all" in shown.remedy and "--seed-from" in shown.remedy
    assert "--region" not in shown.remedy
