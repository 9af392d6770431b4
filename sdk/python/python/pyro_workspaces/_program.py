"""Where the `pyro` program is that came with this package."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from ._generated.errors import MissingDependencyError

DISTRIBUTION = "pyro-workspaces"


def program() -> Path:
    """The program that becomes the supervisor of workspaces.

    It is looked for where the installer put it, never in `PATH`: what stands there may be of
    another version.
    """
    for path in _places():
        if path.is_file():
            return path.resolve()
    raise MissingDependencyError(
        "the pyro program is not where this package was installed",
        hint=f"install it again: pip install --force-reinstall {DISTRIBUTION}; or name the "
        "program: Pyro(program=...)",
    )


def _places() -> list[Path]:
    # An installation into a bare directory (`pip install --target`) records another place than
    # the one that it ends in.
    places = [Path(__file__).parents[1] / "bin" / "pyro"]
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return places
    scripts = (file for file in files if file.name == "pyro" and file.parent.name == "bin")
    return [Path(str(file.locate())) for file in scripts] + places
