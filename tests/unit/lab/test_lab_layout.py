"""A lab's folder: made once, found again, removed without touching anything else."""

from pathlib import Path

import pytest

from meshnode.errors import Refused
from meshnode.lab import layout
from meshnode.lab.cluster import Cluster, places
from meshnode.lab.layout import Layout, Place


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESHNODE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_regions_are_read_back(tmp_path: Path):
    Layout.at(tmp_path / "lab").make(places(3))
    assert [(p.id, p.name) for p in Layout.at(tmp_path / "lab").regions()] == [
        (1, "virginia"),
        (2, "oregon"),
        (3, "saopaulo"),
    ]


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(Refused, match="not an empty folder"):
        Layout.at(tmp_path).make(places(2))
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_delete_leaves_what_is_not_the_labs(tmp_path: Path):
    lab = Layout.at(tmp_path / "lab")
    lab.make(places(2))
    (lab.directory / "notes").write_text("mine")
    lab.delete()
    assert [path.name for path in lab.directory.iterdir()] == ["notes"]


def test_delete_removes_the_empty_folder(tmp_path: Path):
    lab = Layout.at(tmp_path / "lab")
    lab.make(places(2))
    lab.delete()
    assert not lab.directory.exists()


def test_the_last_lab_is_remembered_until_it_is_gone(tmp_path: Path, cache: Path):
    with pytest.raises(Refused, match="no lab was started yet"):
        layout.last_directory()
    lab = Layout.at(tmp_path / "lab")
    lab.make(places(2))
    layout.remember(lab.directory)
    assert layout.last_directory() == lab.directory
    lab.delete()
    with pytest.raises(Refused, match="is gone"):
        layout.last_directory()


def test_a_folder_without_a_lab_says_so(tmp_path: Path):
    with pytest.raises(Refused, match="holds no lab"):
        Cluster(tmp_path)


def test_a_damaged_description_is_named(tmp_path: Path):
    (tmp_path / "lab.json").write_text('{"version": 1}')
    with pytest.raises(Refused, match=r"lab\.json is not what a lab writes"):
        Cluster(tmp_path)


def test_a_region_is_found_by_name_or_id(tmp_path: Path):
    Layout.at(tmp_path / "lab").make(places(2))
    lab = Cluster(tmp_path / "lab")
    assert lab.place("oregon") == lab.place("2") == Place(2, "oregon")
    with pytest.raises(Refused, match=r"no region 'atlantis'.*virginia, oregon"):
        lab.place("atlantis")


@pytest.mark.parametrize("count", [0, 1, 10, -3])
def test_impossible_numbers_of_regions_are_refused(count: int):
    with pytest.raises(Refused, match="2 to 9 regions"):
        places(count)


def test_cut_and_heal_write_the_control_file(tmp_path: Path):
    Layout.at(tmp_path / "lab").make(places(3))
    lab = Cluster(tmp_path / "lab")
    lab.cut([("virginia", "oregon"), ("oregon", "virginia")])
    lab.cut([("saopaulo", "oregon")])
    lab.heal([("oregon", "virginia")])
    from meshnode.lab.wan import read_cuts

    assert read_cuts(lab.layout.control) == {("virginia", "oregon"), ("saopaulo", "oregon")}
    lab.heal()
    assert read_cuts(lab.layout.control) == frozenset()
