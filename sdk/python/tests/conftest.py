"""A home of its own for each test, on the environments of the store that PYRO_TEST_HOME names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_workspaces import Pyro

CACHE = ["environments", "images", "kernels", "boot", "templates", "locks"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PYRO_HOME, in the environment too. Nothing may be left in it."""
    shared = Path(os.environ["PYRO_TEST_HOME"])
    home = tmp_path / "höme"
    home.mkdir()
    for part in CACHE:
        if (shared / part).exists():
            (home / part).symlink_to(shared / part)
    monkeypatch.setenv("PYRO_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PYRO_CONFIG", raising=False)
    # Containers are quick, and need root.
    monkeypatch.setenv("PYRO_ENGINE", "container" if os.geteuid() == 0 else "qemu")
    yield home
    left = Pyro(home=home).list_workspace()
    for workspace in left:
        Pyro(home=home).delete_workspace(workspace.id)
    assert not left


@pytest.fixture
def pyro(home: Path) -> Pyro:
    return Pyro()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory to seed a workspace with."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "README.md").write_text("hello\n")
    (project / "run.sh").write_text("#!/bin/sh\necho running\n")
    return project
