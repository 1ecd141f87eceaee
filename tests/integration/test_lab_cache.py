"""The lab's cache folder and what is said when a server cannot be fetched."""

import multiprocessing
import os
import signal
import time

import pytest

from meshnode.errors import Refused
from meshnode.lab.cache import build_once, cache_folder
from meshnode.lab.fetch import fetch_mysql


def build_slowly(target, log):
    def build(folder):
        with open(log, "a") as file:
            file.write("built\n")
        (folder / "half").write_text("1")
        time.sleep(0.5)  # wide enough for the others to arrive meanwhile
        (folder / "whole").write_text("2")

    assert (build_once(target, build) / "whole").read_text() == "2"


def build_for_ever(target, started):
    def build(folder):
        (folder / "half").write_text("1")
        started.set()
        time.sleep(600)

    build_once(target, build)


def test_several_processes_build_an_entry_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    target, log = tmp_path / "entry", tmp_path / "log"
    builders = [context.Process(target=build_slowly, args=(target, log)) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
        assert builder.exitcode == 0
    assert log.read_text() == "built\n"


def test_a_killed_builder_leaves_no_entry_and_the_next_one_clears_up(tmp_path):
    context = multiprocessing.get_context("spawn")
    target, started = tmp_path / "entry", context.Event()
    builder = context.Process(target=build_for_ever, args=(target, started))
    builder.start()
    assert started.wait(30)
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert not target.exists()
    assert len(list(tmp_path.glob("entry.partial-*"))) == 1

    build_once(target, lambda folder: (folder / "whole").touch())
    assert [path.name for path in target.iterdir()] == ["whole"]
    assert list(tmp_path.glob("entry.partial-*")) == []


def test_a_failed_build_is_told_and_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").touch()
        raise Refused("no luck")

    with pytest.raises(Refused, match="no luck"):
        build_once(tmp_path / "entry", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["entry.lock"]


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("MESHNODE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert str(cache_folder()) == "/home/somebody/.cache/meshnode"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(cache_folder()) == "/xdg/meshnode"
    monkeypatch.setenv("MESHNODE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_without_apt_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MESHNODE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"apt-get is absent.*MESHNODE_MYSQLD"):
        fetch_mysql()


def test_without_a_network_the_words_of_apt_and_the_remedy_are_told(tmp_path, monkeypatch):
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Temporary failure resolving the mirror'\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("MESHNODE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("meshnode.lab.fetch.KEYRING", apt)
    with pytest.raises(Refused, match=r"(?s)Temporary failure resolving.*check the network"):
        fetch_mysql()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mysql-sid.lock"]
