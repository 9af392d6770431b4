"""The main job in ten lines: a workspace from this directory, a command, what it changed."""

from pyro_workspaces import Pyro

with Pyro().create_workspace("debian:12", seed=".") as workspace:
    for stream, data in workspace.exec("echo improved >> README.md; wc -l *"):
        print(f"{stream}: {data.decode().rstrip()}")
    diff = workspace.diff()
    print(f"changed: {', '.join(diff.paths)}")
    print(diff.patch)
