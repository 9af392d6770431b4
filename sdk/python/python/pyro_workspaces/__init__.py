"""A computer of its own for a coding agent: persistent, isolated Linux workspaces.

    from pyro_workspaces import Pyro

    with Pyro().create_workspace("debian:12", seed=".") as workspace:
        for stream, data in workspace.exec("make test"):
            print(data.decode(), end="")
        print(workspace.diff().patch)

Everything is on this host, and there is no daemon: `pip install` is the whole installation.
`Pyro` and `Workspace` block; `AsyncPyro` and `AsyncWorkspace` have the same methods for `asyncio`.
"""

from importlib.metadata import version as _version

from ._aio import AsyncCommand, AsyncPyro, AsyncWorkspace
from ._generated import errors as _errors
from ._generated import types as _types
from ._generated.errors import *
from ._generated.types import *
from ._output import Output
from ._program import DISTRIBUTION as _DISTRIBUTION
from ._program import program
from ._sync import Command, Pyro, Workspace
from ._wait import Progress

__version__ = _version(_DISTRIBUTION)

__all__ = [
    "AsyncCommand",
    "AsyncPyro",
    "AsyncWorkspace",
    "Command",
    "Output",
    "Progress",
    "Pyro",
    "Workspace",
    "__version__",
    "program",
]
__all__ += _errors.__all__
__all__ += _types.__all__
