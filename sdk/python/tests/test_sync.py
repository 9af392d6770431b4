"""The blocking classes, on a real workspace."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pyro_workspaces import (
    AlreadyExistsError,
    Command,
    EngineKind,
    ErrorCode,
    InvalidArgumentError,
    NotFoundError,
    Progress,
    Pyro,
    PyroError,
    SeedGit,
    SeedPath,
    Stream,
    WorkspaceState,
    WrongStateError,
)


def test_a_workspace_is_made_used_reviewed_and_deleted(pyro: Pyro, project: Path) -> None:
    with pyro.create_workspace("debian:12", seed=project, name="demo") as workspace:
        status = workspace.status()
        assert status.state is WorkspaceState.STARTED
        assert isinstance(status.engine, EngineKind)
        assert status.seed.kind == "path"
        assert repr(workspace) == f"<Workspace {workspace.id} 'demo'>"
        output = list(workspace.exec("echo more >> README.md; sh run.sh; echo oops >&2"))
        assert b"".join(d for s, d in output if s is Stream.STDOUT) == b"running\n"
        assert b"".join(d for s, d in output if s is Stream.STDERR) == b"oops\n"
        diff = workspace.diff()
        assert diff and diff.paths == ["README.md"]
        assert diff.entries[0].insertions == 1
        assert diff.patch is not None and "+more" in diff.patch
        (command,) = workspace.logs()
        assert command.argv[:2] == ["sh", "-lc"]
        assert command.outcome is not None and command.outcome.exit_code == 0
        subprocess.run(["patch", "-p1"], input=diff.patch_bytes, cwd=project, check=True)
        assert (project / "README.md").read_text() == "hello\nmore\n"
    with pytest.raises(NotFoundError):
        pyro.workspace("demo")


def test_a_workspace_that_is_kept_is_found_again_by_name(pyro: Pyro) -> None:
    with pyro.create_workspace("debian:12", name="kept", keep=True) as made:
        made.run("echo left > note")
    with pyro.workspace("kept") as found:
        assert found.id == made.id
        assert found.run(["cat", "note"]).stdout == "left\n"
    found.stop()
    assert found.status().state is WorkspaceState.STOPPED
    with pytest.raises(WrongStateError) as failed:
        found.run(["true"])
    assert failed.value.hint
    assert found.diff().paths == ["note"]
    assert found.start().state is WorkspaceState.STARTED
    found.keep = False
    with found:
        pass
    assert pyro.list_workspace() == []


def test_a_result_tells_how_a_command_ended(pyro: Pyro) -> None:
    with pyro.create_workspace("debian:12") as workspace:
        result = workspace.run(
            ["sh", "-c", 'pwd; echo "$A"; exit 7'], cwd="/tmp", env={"A": "ü"}
        )
        assert (result.exit_code, result.stdout, result.ok) == (7, "/tmp\nü\n", False)
        assert workspace.run(["sleep", "60"], timeout_seconds=1).timed_out
        detached = workspace.run(["sleep", "60"], detach=True)
        assert detached.exit_code is None
        assert workspace.status().running_commands == 1


def test_one_shot_commands_leave_nothing(pyro: Pyro) -> None:
    result = pyro.run("debian:12", "echo $HERE", env={"HERE": "there"}, mem_mib=256)
    assert result.stdout == "there\n"
    assert pyro.list_workspace() == []


def test_input_is_taken_while_output_comes(pyro: Pyro) -> None:
    data = os.urandom(3 << 20)
    with pyro.create_workspace("debian:12") as workspace:
        command = workspace.exec(["cat"], stdin=data)
        assert b"".join(piece for _, piece in command) == data
        assert command.result().truncated
        with workspace.exec(["sh", "-c", "read line; echo got $line"], stdin=True) as command:
            command.write("this\n")
            assert command.result().stdout == "got this\n"
        with workspace.exec("trap 'echo bye; exit 3' TERM; echo up; sleep 60 & wait") as command:
            assert next(command).text == "up\n"
            command.signal(signal.SIGTERM)
            assert (command.result().stdout, command.result().exit_code) == ("up\nbye\n", 3)


def test_a_command_ends_when_it_is_closed_or_forgotten(pyro: Pyro) -> None:
    def wait_until_none_runs() -> None:
        deadline = time.monotonic() + 20
        while workspace.status().running_commands:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    with pyro.create_workspace("debian:12") as workspace:
        with workspace.exec("echo up; sleep 600") as command:
            assert next(command).data == b"up\n"
            assert "running" in repr(command)
        wait_until_none_runs()
        with pytest.raises(WrongStateError):
            command.write("x")
        # Not even input that it never takes holds it up.
        forgotten: Command | None = workspace.exec(["sleep", "600"], stdin=b"x" * (4 << 20))
        assert workspace.status().running_commands == 1
        del forgotten
        wait_until_none_runs()


def test_what_fails_has_a_class_a_code_and_a_hint(pyro: Pyro) -> None:
    with pytest.raises(NotFoundError) as failed:
        pyro.status_workspace("nobody")
    error = failed.value
    assert error.code is ErrorCode.NOT_FOUND
    assert error.message and error.hint
    assert error.hint in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, NotFoundError) and str(copy) == str(error)
    with pytest.raises(InvalidArgumentError):
        pyro.create_workspace("debian:12", name="no name")
    with pytest.raises(InvalidArgumentError):
        pyro.create_workspace("debian:12", mem_mib=1)
    with pytest.raises(PyroError):
        pyro.create_workspace("debian:12", seed=SeedPath("/does/not/exist"))
    with pyro.create_workspace("debian:12", name="taken") as workspace:
        with pytest.raises(AlreadyExistsError):
            pyro.create_workspace("debian:12", name="taken")
        with pytest.raises(NotFoundError):
            workspace.export("nowhere", "out")


def test_paths_of_any_bytes_go_in_and_out(pyro: Pyro, tmp_path: Path) -> None:
    with pyro.create_workspace("debian:12") as workspace:
        assert workspace.run(["python3", "-c", r"open(b'\xff\xfe', 'w').write('x')"]).ok
        (entry,) = workspace.diff().entries
        assert entry.path_bytes == b"\xff\xfe"
        assert workspace.export(b"\xff\xfe", tmp_path / "out").files == 1
    assert (tmp_path / "out").read_text() == "x"


def test_threads_wait_beside_each_other(pyro: Pyro) -> None:
    with pyro.create_workspace("debian:12") as workspace:
        threads = [
            threading.Thread(target=workspace.run, args=(["sh", "-c", f"mkfifo {n}; cat {n}"],))
            for n in "ab"
        ]
        for thread in threads:
            thread.start()
        # Neither ends before it is told to, so both are waited for at once.
        for n in "ab":
            assert workspace.run(f"until [ -p {n} ]; do sleep 0.02; done; echo > {n}").ok
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()


def test_progress_is_told_to_whoever_waits(home: Path, project: Path) -> None:
    heard: list[tuple[Progress, int]] = []
    pyro = Pyro(on_progress=lambda report: heard.append((report, threading.get_ident())))
    with pyro.create_workspace("debian:12", seed=project):
        pass
    assert heard and all(report.stage for report, _ in heard)
    assert {thread for _, thread in heard} == {threading.get_ident()}


INTERRUPTED = """
import os, signal, sys, threading
from pyro_workspaces import Pyro

# Whoever runs the tests in the background may have told them to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Pyro().create_workspace("debian:12", name="interrupted") as workspace:
    command = workspace.exec("echo up; exec sleep 600")
    assert next(command).data == b"up\\n"
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
    try:
        {wait}
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("wait", ["workspace.run(['sleep', '600'])", "next(command)"])
def test_ctrl_c_ends_a_call_that_waits(home: Path, wait: str) -> None:
    script = INTERRUPTED.replace("{wait}", wait)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "interrupted\n", done.stderr


def test_a_forked_child_has_threads_of_its_own(pyro: Pyro) -> None:
    with pyro.create_workspace("debian:12") as workspace:
        child = os.fork()
        if child == 0:
            os._exit(0 if workspace.run(["true"]).ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert workspace.run(["true"]).ok


def test_a_git_seed_has_its_commit(pyro: Pyro, project: Path) -> None:
    git = ["git", "-C", str(project), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for args in (["init", "-q"], ["add", "README.md"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *args], check=True)
    with pyro.create_workspace("debian:12", seed=SeedGit(str(project))) as workspace:
        assert len(workspace.status().seed.commit or "") == 40
        assert workspace.run(["ls"]).stdout == "README.md\n"
