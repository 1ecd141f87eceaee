"""The Compose lab without a container: do its files agree with each other and with the code?

Whether it runs is shown by ``make compose-demo``.  Here: the regions of the topology are those
of the services, a node has no way to Kafka but its link, nothing is open to other machines,
and every password is made by the script and reaches who needs it.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshnode.lab.options import mesh_options
from meshnode.topology import ROLES, load

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
LAB = DEPLOY / "compose"

COMPOSE: dict[str, Any] = yaml.safe_load((LAB / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TOPOLOGY = load(LAB / "topology/mesh.toml")
REGIONS = [region.name for region in TOPOLOGY.regions]
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)")


def networks(service: str) -> dict[str, Any]:
    """The networks of a service, each with its settings."""
    given = SERVICES[service]["networks"]
    return {name: {} for name in given} if isinstance(given, list) else given


def made_secrets() -> set[str]:
    """The variables that ``lab up`` writes into .env."""
    script = (LAB / "lab").read_text()
    loop = re.search(r"for name in ((?:[A-Z_]+|\\|\s)+); do", script)
    assert loop
    return set(re.findall(r"[A-Z_]+", loop[1])) | set(re.findall(r'echo "([A-Z_]+)=', script))


def test_each_region_has_its_services_and_nobody_else_has():
    assert len(REGIONS) == 8
    for role in ("mysql", "node", "link"):
        found = {name for name in SERVICES if name.startswith(f"{role}-")}
        assert found == {f"{role}-{region}" for region in REGIONS}
    assert set(COMPOSE["networks"]) == {*REGIONS, "control", "backbone"}


@pytest.mark.parametrize("region", TOPOLOGY.regions, ids=lambda region: region.name)
def test_a_region_is_what_the_topology_says(region):
    mysql, node = SERVICES[f"mysql-{region.name}"], SERVICES[f"node-{region.name}"]
    assert (region.mysql.host, region.mysql.port) == (f"mysql-{region.name}", 3306)
    assert set(mysql["command"]) == {
        f"--server-id={region.id}",
        f"--auto-increment-offset={region.id}",
    }
    assert node["command"] == ["run", "--region", region.name]
    assert f"mysql-{region.name}:/var/lib/mysql" in mysql["volumes"]
    assert f"mysql-{region.name}" in SERVICES["init"]["depends_on"]


@pytest.mark.parametrize("region", REGIONS)
def test_a_node_reaches_kafka_through_its_link_only(region):
    (proxy,) = yaml.safe_load((LAB / "toxiproxy.json").read_text())
    name, port = TOPOLOGY.bus.kafka.bootstrap[0].split(":")
    assert TOPOLOGY.kafka_of(region).bootstrap == (f"{name}:{port}",)
    assert proxy["listen"] == f"0.0.0.0:{port}"
    assert proxy["upstream"] == f"broker:{port}"
    assert proxy["enabled"]
    link = networks(f"link-{region}")
    assert set(link) == {region, "backbone"}
    assert link[region]["aliases"] == [name]
    assert set(networks(f"node-{region}")) == {region, "control"}
    # The broker sends its clients to its advertised name, which must mean the link there.
    assert networks("broker") == {"backbone": {"aliases": [name]}}
    advertised = SERVICES["broker"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert advertised == f"CLIENTS://{name}:{port}"


def test_the_servers_have_what_the_mesh_requires():
    lines = (LAB / "mysql.cnf").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if line and line[0] not in "#["]
    found = {name.strip().replace("-", "_"): value.strip() for name, _, value in pairs}
    wanted = mesh_options(1, (int(found["auto_increment_increment"]), 1))
    assert len(REGIONS) <= int(found["auto_increment_increment"])
    for name in (
        "gtid_mode",
        "enforce_gtid_consistency",
        "binlog_format",
        "binlog_row_image",
        "binlog_row_metadata",
        "sync_binlog",
        "innodb_flush_log_at_trx_commit",
        "log_bin",
        "log_bin_trust_function_creators",
    ):
        value = wanted[name]
        assert found[name] == ("ON" if value is True else str(value)), name
    assert found["max_allowed_packet"] == "1G"


def test_every_password_is_made_and_reaches_who_needs_it():
    text = (LAB / "compose.yaml").read_text()
    made = made_secrets()
    assert set(VARIABLE.findall(text)) <= made
    needed = {TOPOLOGY.account_source(REGIONS[0], role).password_env for role in ROLES}
    needed |= {region.ops.token_env for region in TOPOLOGY.regions}
    assert needed <= made
    for service in (*(f"node-{region}" for region in REGIONS), "init", "tool"):
        given = SERVICES[service]["environment"]
        assert all(given[name].startswith(f"${{{name}:?") for name in needed), service
    for service in (*(f"node-{region}" for region in REGIONS), "prometheus", "jaeger"):
        assert "MYSQL_ROOT_PASSWORD" not in SERVICES[service].get("environment", {})
    assert ".env" in (LAB / ".gitignore").read_text().split()


def test_nothing_is_open_to_other_machines():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) >= len(REGIONS)
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_all_files_that_are_mounted_are_there():
    mounted = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    }
    assert mounted
    missing = [path for path in mounted if not (LAB / path).exists()]
    assert not missing
    volumes = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if not volume.startswith(".")
    }
    assert volumes == set(COMPOSE["volumes"])


def test_nodes_see_a_changed_topology():
    """A single mounted file stays the old one when an editor or a deployment replaces it."""
    for service in (*(f"node-{region}" for region in REGIONS), "init", "tool"):
        mounts = dict(volume.split(":")[:2] for volume in SERVICES[service]["volumes"])
        assert mounts.get("./topology") == "/etc/meshnode", service


def test_prometheus_scrapes_every_node():
    (group,) = yaml.safe_load((LAB / "targets/meshnode.yml").read_text())
    ports = {region.name: region.ops.port for region in TOPOLOGY.regions}
    assert group["targets"] == [f"node-{region}:{ports[region]}" for region in REGIONS]
    assert all(region.ops.host == "0.0.0.0" for region in TOPOLOGY.regions)


def test_grafana_finds_its_dashboards_and_prometheus():
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    provisioning = DEPLOY / "grafana/provisioning"
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
    for file in (provisioning / "dashboards").glob("*.yml"):
        for provider in yaml.safe_load(file.read_text())["providers"]:
            assert provider["options"]["path"] == mounts["../grafana/dashboards"]
    for file in (provisioning / "datasources").glob("*.yml"):
        for source in yaml.safe_load(file.read_text())["datasources"]:
            assert source["url"] == "http://prometheus:9090"
    assert set(networks("grafana")) & set(networks("prometheus"))


def test_every_image_has_a_version_and_every_stand_in_the_same_one():
    images = {service["image"] for service in SERVICES.values()} - {"meshnode:lab"}
    for image in images:
        assert re.search(r":v?\d", image), image
    build = (DEPLOY / "stand-ins/build").read_text()
    # Debian has no Grafana; its service is in a profile that can be left out.
    assert {image for image in images if image not in build} == {SERVICES["grafana"]["image"]}
    assert [name for name, each in SERVICES.items() if each.get("profiles") == ["grafana"]] == [
        "grafana"
    ]
    base = re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert set(base) == {"python:3.11-slim"}
    assert base[0] in build


def test_the_image_runs_as_nobody_special_and_asks_the_ops_port():
    lines = (DEPLOY / "Dockerfile").read_text()
    final = lines[lines.rindex("\nFROM ") :]
    user = re.search(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert user and int(user[1]) > 0 and int(user[2]) > 0
    assert "/readyz" in final[final.index("HEALTHCHECK") :]
    port = re.search(r"MESHNODE_OPS_PORT=(\d+)", final)
    assert port and {region.ops.port for region in TOPOLOGY.regions} == {int(port[1])}
    assert "ENV MESH_" not in final and "PASSWORD" not in final


def test_the_image_is_built_from_the_package_alone():
    listed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in listed if line and not line.startswith("#")]
    assert patterns[0] == "*"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    wanted = {name for line in copied for name in line.split()}
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == wanted
    assert all((ROOT / name).exists() for name in wanted)


@pytest.mark.parametrize("script", ["compose/lab", "stand-ins/build", "stand-ins/engine"])
def test_scripts_are_programs(script):
    path = DEPLOY / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)


def compose_is_here() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


@pytest.mark.skipif(not compose_is_here(), reason="docker compose is not installed here")
def test_docker_compose_finds_nothing_wrong():
    files = ["-f", str(LAB / "compose.yaml"), "-f", str(LAB / "compose.ca.yaml")]
    told = subprocess.run(
        ["docker", "compose", *files, "--profile", "*", "config", "--quiet"],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "MESHNODE_CA_BUNDLE": "/dev/null"}
        | {key: value for key, value in os.environ.items() if "DOCKER" in key}
        | dict.fromkeys(made_secrets(), "x"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
