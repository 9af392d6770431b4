"""Repro and fix: see a test fail, change the code in the workspace, see it pass, take the patch.

    python repro_fix.py DIRECTORY TEST FIX

DIRECTORY is a checkout, TEST a command that fails, FIX one that mends it (an agent would go here).
The patch goes to the checkout only if TEST passes with it, and nowhere else before that.
"""

import subprocess
import sys

from pyro_workspaces import Pyro, SeedGit


def repro_and_fix(project: str, test: str, fix: str) -> bytes:
    """The patch that makes the test pass."""
    with Pyro().create_workspace("debian:12", seed=SeedGit(project)) as workspace:
        if workspace.run(test).ok:
            sys.exit("the test passes as it is: nothing to mend")
        workspace.run(fix)
        after = workspace.run(test)
        if not after.ok:
            sys.exit(f"the test still fails:\n{after.stdout}{after.stderr}")
        diff = workspace.diff()
        print(f"mended by changing {', '.join(diff.paths)}")
        return diff.patch_bytes or b""


if __name__ == "__main__":
    patch = repro_and_fix(*sys.argv[1:4])
    subprocess.run(["git", "-C", sys.argv[1], "apply"], input=patch, check=True)
    print(patch.decode(errors="replace"))
