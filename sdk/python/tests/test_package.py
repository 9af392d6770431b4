"""The wheel alone, in an empty virtual environment, and the examples in it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "python"


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds nothing but the wheel."""
    home = tmp_path_factory.mktemp("empty")
    venv.create(home, with_pip=False)
    wheel = os.environ["PYRO_TEST_WHEEL"]
    install = ["pip", "--python", str(home / "bin/python"), "install", "-q", "--no-index", wheel]
    subprocess.run([sys.executable, "-m", *install], check=True)
    return home / "bin" / "python"


@pytest.fixture
def path_without_pyro(tmp_path: Path) -> str:
    """A PATH that has the system's programs and no `pyro`."""
    path = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert not any((Path(part) / "pyro").exists() for part in path.split(":"))
    return path


def run(
    python: Path, example: str, *arguments: str | Path, cwd: Path, path: str, code: int = 0
) -> str:
    done = subprocess.run(
        [python, "-I", EXAMPLES / example, *arguments],
        cwd=cwd,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def checkout(project: Path) -> Path:
    """A git repository with a bug, and a test that finds it."""
    (project / "sum.py").write_text("def add(a, b):\n    return a - b\n")
    (project / "test_sum.py").write_text("from sum import add\n\nassert add(1, 2) == 3\n")
    git = ["git", "-C", str(project), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *args], check=True)
    return project


def test_ten_lines_do_the_main_job(
    home: Path, python: Path, project: Path, path_without_pyro: str
) -> None:
    lines = (EXAMPLES / "main_job.py").read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith('"""')]) <= 10
    out = run(python, "main_job.py", cwd=project, path=path_without_pyro)
    assert "changed: README.md" in out
    assert "+improved" in out


def test_a_cold_start_is_validated(
    home: Path, python: Path, checkout: Path, path_without_pyro: str
) -> None:
    commands = ["git init -q .", "python3 test_sum.py", "echo never"]
    out = run(python, "cold_start.py", checkout, *commands, cwd=checkout, path=path_without_pyro, code=1)
    assert "ok  git init" in out and "FAILED  python3 test_sum.py" in out
    assert "AssertionError" in out and "echo never" not in out
    out = run(python, "cold_start.py", checkout, "sh run.sh", cwd=checkout, path=path_without_pyro)
    assert "FAILED" not in out


def test_a_bug_is_reproduced_and_mended(
    home: Path, python: Path, checkout: Path, path_without_pyro: str
) -> None:
    test, fix = "python3 test_sum.py", "sed -i s/a.-.b/a+b/ sum.py"
    out = run(python, "repro_fix.py", checkout, test, fix, cwd=checkout, path=path_without_pyro)
    assert "mended by changing" in out
    assert "a+b" in (checkout / "sum.py").read_text()


def test_streams_go_both_ways(
    home: Path, python: Path, tmp_path: Path, path_without_pyro: str
) -> None:
    out = run(python, "streaming.py", cwd=tmp_path, path=path_without_pyro)
    assert "apple\nfig\npear\n" in out
    assert "it says 42" in out
    assert "then signal 15" in out


def test_several_workspaces_go_side_by_side(
    home: Path, python: Path, project: Path, path_without_pyro: str
) -> None:
    commands = ["sh run.sh", "cat README.md", "exit 3"]
    out = run(python, "side_by_side.py", project, *commands, cwd=project, path=path_without_pyro)
    assert "] running" in out and "] hello" in out and "3  exit 3" in out


def test_the_command_comes_along(home: Path, python: Path) -> None:
    pyro = python.parent / "pyro"
    done = subprocess.run([pyro, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pyro ")
