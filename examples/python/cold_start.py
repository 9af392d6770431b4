"""Cold-start validation: do the project's own instructions work on a machine that has nothing?

    python cold_start.py DIRECTORY COMMAND...

Takes what git tracks in DIRECTORY, runs each COMMAND in a fresh machine, one after the other, and
says which is the first that fails, with its output. The exit code is 1 if one does.
"""

import sys

from pyro_workspaces import ExecResult, Pyro, SeedGit


def validate(project: str, commands: list[str]) -> ExecResult | None:
    """The first command that fails, if one does."""
    with Pyro().create_workspace("debian:12", seed=SeedGit(project)) as workspace:
        for command in commands:
            result = workspace.run(command, timeout_seconds=600)
            print(f"{'ok' if result.ok else 'FAILED'}  {command}  ({result.duration_ms} ms)")
            if not result.ok:
                return result
    return None


if __name__ == "__main__":
    failed = validate(sys.argv[1], sys.argv[2:])
    if failed:
        sys.exit(f"exit code {failed.exit_code}\n{failed.stdout}{failed.stderr}")
