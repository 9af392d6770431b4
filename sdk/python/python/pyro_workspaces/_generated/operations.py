# Written by `make reference` from the catalogue of operations; a test fails while it differs from
# them. Do not edit.
"""Every operation, as a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Mapping, Sequence

from .._json import argv_of, env_of, path_of, request, seed_of
from .types import *

if TYPE_CHECKING:
    from .._aio import AsyncCommand, AsyncWorkspace
    from .._sync import Command, Workspace


class Operations(ABC):
    """The operations, as methods of a client."""

    @abstractmethod
    def _perform(self, operation: str, request: dict[str, Any]) -> Any: ...

    @abstractmethod
    def _made(self, status: WorkspaceStatus, keep: bool) -> Workspace: ...

    def run(
        self,
        environment: str,
        argv: str | Sequence[str] | None = None,
        *,
        engine: EngineChoice | Literal["auto", "firecracker", "qemu", "container"] | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        seed: Seed | str | PathLike[str] | None = None,
        ttl_seconds: int | None = None,
        open_file_count: int | None = None,
        process_count: int | None = None,
        disk_mib: int | None = None,
        mem_mib: int | None = None,
        vcpu_count: int | None = None,
        cwd: str | None = None,
        max_output_bytes: int | None = None,
        shell: str | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
    ) -> ExecResult:
        """Create a workspace, run one command in it, and delete it.

        Args:
            environment: The root filesystem.
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            engine: What isolates it; the host's default, which is `auto` unless its owner set
                another.
            env: Environment variables of every command.
            labels: Free labels.
            name: A name to find it by; unique among living workspaces.
            seed: What `/workspace` starts as. A path alone means `SeedPath`.
            ttl_seconds: Stopped, never deleted, once it has run this long.
            open_file_count: Files that each process may have open, 64 to 1048576; 1024, which a
                process may raise to 4096, unless said otherwise.
            process_count: Processes and threads of all its commands at once, 64 to 1000000;
                what its memory allows, unless said otherwise.
            disk_mib: The most that the machine may write to its disk, in MiB, 64 to 1048576;
                10240 unless the host says otherwise. Space is taken on the host only as it is
                written.
            mem_mib: Memory in MiB, 128 to 262144; 1024 unless the host says otherwise.
            vcpu_count: Virtual CPUs, 1 to 32; 1 unless the host says otherwise.
            cwd: Where to run it, absolute or relative to `/workspace`.
            max_output_bytes: The most bytes of output in the result, both streams together; 1
                MiB unless said otherwise. A `continuation` gets the rest.
            shell: Instead of `argv`: a text for a login shell, which runs as `sh -lc TEXT`.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
        """
        result = self._perform("run", request(
            environment=environment,
            engine=engine,
            env=env_of(env),
            labels=labels,
            name=name,
            seed=seed_of(seed),
            ttl_seconds=ttl_seconds,
            limits=request(open_file_count=open_file_count, process_count=process_count),
            shape=request(disk_mib=disk_mib, mem_mib=mem_mib, vcpu_count=vcpu_count),
            exec=request(
                argv=argv_of(argv),
                cwd=cwd,
                max_output_bytes=max_output_bytes,
                shell=shell,
                timeout_seconds=timeout_seconds,
                user=user,
                limits=request(),
            ),
        ))
        return ExecResult.from_json(result)

    def list_env(self) -> list[EnvironmentInfo]:
        """List the environments that are cached, and those that can be."""
        result = self._perform("env_list", request())
        return [EnvironmentInfo.from_json(item) for item in result]

    def pull_env(self, environment: str) -> EnvironmentInfo:
        """Fetch an environment into the cache.

        Args:
            environment: Its reference.
        """
        result = self._perform("env_pull", request(environment=environment))
        return EnvironmentInfo.from_json(result)

    def inspect_env(self, environment: str, *, verify: bool = False) -> EnvironmentDetails:
        """Show what an environment holds.

        Args:
            environment: Its reference.
            verify: Read all of it and compare it with its digest.
        """
        result = self._perform("env_inspect", request(environment=environment, verify=verify))
        return EnvironmentDetails.from_json(result)

    def prune_env(self, *, all: bool = False) -> PruneReport:
        """Drop cached environments that no workspace uses.

        Args:
            all: Also what the next workspace would need again: the current kernel, boot images
                and templates.
        """
        result = self._perform("env_prune", request(all=all))
        return PruneReport.from_json(result)

    def prepare(
        self,
        *,
        engine: EngineChoice | Literal["auto", "firecracker", "qemu", "container"] | None = None,
        environment: str = "debian:12",
        warm: int | None = None,
        disk_mib: int | None = None,
        mem_mib: int | None = None,
        vcpu_count: int | None = None,
    ) -> Prepared:
        """Make the next create fast: fetch the environment and freeze a machine to start from.

        Args:
            engine: What isolates; the host's default, which is `auto` unless its owner set
                another.
            environment: The root filesystem.
            warm: Keep so many machines restored and waiting for as long as the caller lives.
                The memory that they may take together is a setting of the host.
            disk_mib: The most that the machine may write to its disk, in MiB, 64 to 1048576;
                10240 unless the host says otherwise. Space is taken on the host only as it is
                written.
            mem_mib: Memory in MiB, 128 to 262144; 1024 unless the host says otherwise.
            vcpu_count: Virtual CPUs, 1 to 32; 1 unless the host says otherwise.
        """
        result = self._perform("prepare", request(
            engine=engine,
            environment=environment,
            warm=warm,
            shape=request(disk_mib=disk_mib, mem_mib=mem_mib, vcpu_count=vcpu_count),
        ))
        return Prepared.from_json(result)

    def create_workspace(
        self,
        environment: str,
        *,
        engine: EngineChoice | Literal["auto", "firecracker", "qemu", "container"] | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        seed: Seed | str | PathLike[str] | None = None,
        ttl_seconds: int | None = None,
        open_file_count: int | None = None,
        process_count: int | None = None,
        disk_mib: int | None = None,
        mem_mib: int | None = None,
        vcpu_count: int | None = None,
        keep: bool = False,
    ) -> Workspace:
        """Create and start a workspace from an environment and a seed.

        Args:
            environment: The root filesystem.
            engine: What isolates it; the host's default, which is `auto` unless its owner set
                another.
            env: Environment variables of every command.
            labels: Free labels.
            name: A name to find it by; unique among living workspaces.
            seed: What `/workspace` starts as. A path alone means `SeedPath`.
            ttl_seconds: Stopped, never deleted, once it has run this long.
            open_file_count: Files that each process may have open, 64 to 1048576; 1024, which a
                process may raise to 4096, unless said otherwise.
            process_count: Processes and threads of all its commands at once, 64 to 1000000;
                what its memory allows, unless said otherwise.
            disk_mib: The most that the machine may write to its disk, in MiB, 64 to 1048576;
                10240 unless the host says otherwise. Space is taken on the host only as it is
                written.
            mem_mib: Memory in MiB, 128 to 262144; 1024 unless the host says otherwise.
            vcpu_count: Virtual CPUs, 1 to 32; 1 unless the host says otherwise.
            keep: Leave it in place when a `with` block over it ends.
        """
        result = self._perform("workspace_create", request(
            environment=environment,
            engine=engine,
            env=env_of(env),
            labels=labels,
            name=name,
            seed=seed_of(seed),
            ttl_seconds=ttl_seconds,
            limits=request(open_file_count=open_file_count, process_count=process_count),
            shape=request(disk_mib=disk_mib, mem_mib=mem_mib, vcpu_count=vcpu_count),
        ))
        return self._made(WorkspaceStatus.from_json(result), keep)

    def list_workspace(self) -> list[WorkspaceStatus]:
        """List the workspaces, the most recently active first."""
        result = self._perform("workspace_list", request())
        return [WorkspaceStatus.from_json(item) for item in result]

    def status_workspace(self, workspace: str) -> WorkspaceStatus:
        """Show one workspace.

        Args:
            workspace: Its id or name.
        """
        result = self._perform("workspace_status", request(workspace=workspace))
        return WorkspaceStatus.from_json(result)

    def start_workspace(self, workspace: str) -> WorkspaceStatus:
        """Start a stopped workspace on its kept disk.

        Args:
            workspace: Its id or name.
        """
        result = self._perform("workspace_start", request(workspace=workspace))
        return WorkspaceStatus.from_json(result)

    def stop_workspace(self, workspace: str) -> WorkspaceStatus:
        """Stop a workspace: end its processes, flush and keep its disk.

        Args:
            workspace: Its id or name.
        """
        result = self._perform("workspace_stop", request(workspace=workspace))
        return WorkspaceStatus.from_json(result)

    def pause_workspace(self, workspace: str) -> WorkspaceStatus:
        """Hold a workspace still, with all that runs in it; its memory stays.

        Args:
            workspace: Its id or name.
        """
        result = self._perform("workspace_pause", request(workspace=workspace))
        return WorkspaceStatus.from_json(result)

    def resume_workspace(self, workspace: str) -> WorkspaceStatus:
        """Let a paused workspace go on where it was.

        Args:
            workspace: Its id or name.
        """
        result = self._perform("workspace_resume", request(workspace=workspace))
        return WorkspaceStatus.from_json(result)

    def delete_workspace(self, workspace: str) -> Deleted:
        """Delete a workspace and everything in it.

        Args:
            workspace: Its id or name.
        """
        result = self._perform("workspace_delete", request(workspace=workspace))
        return Deleted.from_json(result)

    def exec_workspace(
        self,
        workspace: str,
        argv: str | Sequence[str] | None = None,
        *,
        cwd: str | None = None,
        detach: bool = False,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        max_output_bytes: int | None = None,
        shell: str | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
        cpu_percent: int | None = None,
        memory_mib: int | None = None,
        open_file_count: int | None = None,
        process_count: int | None = None,
    ) -> ExecResult:
        """Run a command in a workspace.

        Args:
            workspace: Its id or name.
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            detach: Let it run on without a caller; its output is in the journal.
            env: Variables for this command, over those of the workspace.
            max_output_bytes: The most bytes of output in the result, both streams together; 1
                MiB unless said otherwise. A `continuation` gets the rest.
            shell: Instead of `argv`: a text for a login shell, which runs as `sh -lc TEXT`.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
            cpu_percent: Processor time, in hundredths of one processor: 150 is one and a half.
                1 to 3200.
            memory_mib: Memory in MiB, 4 to 262144.
            open_file_count: Files that each of its processes may have open, 16 to 1048576.
            process_count: Processes and threads at once, 1 to 1000000.
        """
        result = self._perform("workspace_exec", request(
            workspace=workspace,
            argv=argv_of(argv),
            cwd=cwd,
            detach=detach,
            env=env_of(env),
            max_output_bytes=max_output_bytes,
            shell=shell,
            timeout_seconds=timeout_seconds,
            user=user,
            limits=request(
                cpu_percent=cpu_percent,
                memory_mib=memory_mib,
                open_file_count=open_file_count,
                process_count=process_count,
            ),
        ))
        return ExecResult.from_json(result)

    def logs_workspace(
        self,
        workspace: str,
        *,
        grep: str | None = None,
        max_output_bytes: int | None = None,
        sequence: int | None = None,
        since: str | None = None,
        tail: int | None = None,
    ) -> list[JournalCommand]:
        """Show the commands that ran in a workspace, with their output.

        Args:
            workspace: Its id or name.
            grep: Only lines that match this regular expression, of the commands that have such.
            max_output_bytes: The most bytes of output of each command; 64 KiB unless said
                otherwise.
            sequence: Only this command.
            since: Only commands that were started at this moment or later.
            tail: Only the last so many commands.
        """
        result = self._perform("workspace_logs", request(
            workspace=workspace,
            grep=grep,
            max_output_bytes=max_output_bytes,
            sequence=sequence,
            since=since,
            tail=tail,
        ))
        return [JournalCommand.from_json(item) for item in result]

    def output_workspace(
        self,
        workspace: str,
        *,
        continuation: str | None = None,
        max_output_bytes: int | None = None,
        position: int | None = None,
        sequence: int | None = None,
        stream: Stream | Literal["stdout", "stderr"] | None = None,
        wait_seconds: int | None = None,
    ) -> OutputPage:
        """Read a command's output from anywhere in it, or go on where an answer was cut off.

        Args:
            workspace: Its id or name.
            continuation: Go on where an answer with this `continuation` ended. Or else:
            max_output_bytes: The most bytes of output; 1 MiB unless said otherwise.
            position: Begin after so many bytes, counted over both streams; 0 unless said
                otherwise.
            sequence: The number of the command.
            stream: Only this stream.
            wait_seconds: If there is nothing more yet and the command still runs, wait so long
                for more.
        """
        result = self._perform("workspace_output", request(
            workspace=workspace,
            continuation=continuation,
            max_output_bytes=max_output_bytes,
            position=position,
            sequence=sequence,
            stream=stream,
            wait_seconds=wait_seconds,
        ))
        return OutputPage.from_json(result)

    def events_workspace(
        self,
        workspace: str,
        *,
        after: int = 0,
        since: str | None = None,
        tail: int | None = None,
        wait_seconds: int | None = None,
    ) -> list[Event]:
        """Show everything that happened in a workspace, and who asked for it.

        Args:
            workspace: Its id or name.
            after: Only those with a higher number.
            since: Only those of this moment or later.
            tail: Only the last so many; an answer has at most ten thousand.
            wait_seconds: If there is nothing yet and the workspace runs, wait so long for
                something to happen.
        """
        result = self._perform("workspace_events", request(
            workspace=workspace,
            after=after,
            since=since,
            tail=tail,
            wait_seconds=wait_seconds,
        ))
        return [Event.from_json(item) for item in result]

    def summary_workspace(self, workspace: str) -> WorkspaceSummary:
        """Sum up what was done in a workspace, for somebody who has to judge it.

        Args:
            workspace: Its id or name.
        """
        result = self._perform("workspace_summary", request(workspace=workspace))
        return WorkspaceSummary.from_json(result)

    def update_workspace(
        self,
        workspace: str,
        *,
        clear_labels: Sequence[str] | None = None,
        clear_name: bool = False,
        clear_ttl: bool = False,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        ttl_seconds: int | None = None,
    ) -> WorkspaceStatus:
        """Change a workspace's name, labels or time to live.

        Args:
            workspace: Its id or name.
            clear_labels: Keys of labels to remove.
            clear_name: Take its name away; its id remains.
            clear_ttl: Let it run without a time to live.
            labels: Labels to set.
            name: A new name. The machine's own host name stays until it is started again.
            ttl_seconds: A new time to live: counted from now if it runs, else from its next
                start.
        """
        result = self._perform("workspace_update", request(
            workspace=workspace,
            clear_labels=clear_labels,
            clear_name=clear_name,
            clear_ttl=clear_ttl,
            labels=labels,
            name=name,
            ttl_seconds=ttl_seconds,
        ))
        return WorkspaceStatus.from_json(result)

    def list_workspace_command(
        self,
        workspace: str,
        *,
        all: bool = False,
        tail: int | None = None,
    ) -> list[CommandInfo]:
        """List the commands that run in a workspace, or all that ran.

        Args:
            workspace: Its id or name.
            all: Also those that have ended.
            tail: Only the last so many.
        """
        result = self._perform("workspace_command_list", request(
            workspace=workspace,
            all=all,
            tail=tail,
        ))
        return [CommandInfo.from_json(item) for item in result]

    def wait_workspace_command(
        self,
        workspace: str,
        sequence: int,
        *,
        timeout_seconds: int | None = None,
    ) -> ExecResult:
        """Wait until a command has ended, and give its result.

        Args:
            workspace: Its id or name.
            sequence: The number of the command.
            timeout_seconds: Give up after so long; the command runs on.
        """
        result = self._perform("workspace_command_wait", request(
            workspace=workspace,
            sequence=sequence,
            timeout_seconds=timeout_seconds,
        ))
        return ExecResult.from_json(result)

    def signal_workspace_command(
        self,
        workspace: str,
        sequence: int,
        *,
        signal: str = "TERM",
    ) -> SignalledCommand:
        """Signal a command and all it started.

        Args:
            workspace: Its id or name.
            sequence: The number of the command.
            signal: Which signal: a name with or without `SIG`, or a number; TERM unless said
                otherwise.
        """
        result = self._perform("workspace_command_signal", request(
            workspace=workspace,
            sequence=sequence,
            signal=signal,
        ))
        return SignalledCommand.from_json(result)

    def diff_workspace(
        self,
        workspace: str,
        *,
        max_patch_bytes: int = 1048576,
        patch: bool = False,
    ) -> WorkspaceDiff:
        """Show what changed in /workspace since it was seeded.

        Args:
            workspace: Its id or name.
            max_patch_bytes: The most bytes of patch to give.
            patch: Also give the git patch, which `git apply` takes.
        """
        result = self._perform("workspace_diff", request(
            workspace=workspace,
            max_patch_bytes=max_patch_bytes,
            patch=patch,
        ))
        return WorkspaceDiff.from_json(result)

    def apply_workspace(
        self,
        workspace: str,
        *,
        dry_run: bool = False,
        include_git: bool = False,
        merge: bool = False,
        paths: Sequence[str] | None = None,
        to: str | None = None,
        undo: bool = False,
    ) -> Applied:
        """Bring what changed in /workspace back to the directory that it was seeded from.

        Args:
            workspace: Its id or name.
            dry_run: Only tell what would be done.
            include_git: Also what is named `.git`, which can make git run programs and is
                otherwise left alone.
            merge: Where a text file was changed on both sides, merge it as `git merge-file`
                does.
            paths: Only these files and what is in these directories, relative to `/workspace`.
            to: The directory of the host; the one that the workspace was seeded from, unless
                given.
            undo: Take the last apply of this workspace back instead.
        """
        result = self._perform("workspace_apply", request(
            workspace=workspace,
            dry_run=dry_run,
            include_git=include_git,
            merge=merge,
            paths=paths,
            to=to,
            undo=undo,
        ))
        return Applied.from_json(result)

    def export_workspace(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        output: str | PathLike[str],
        *,
        force: bool = False,
    ) -> Exported:
        """Copy a file or tree out of a workspace.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            output: Where to put it on the host; `-` for a tar stream.
            force: Replace what stands there.
        """
        result = self._perform("workspace_export", request(
            workspace=workspace,
            **path_of("path", path),
            output=output,
            force=force,
        ))
        return Exported.from_json(result)

    def push_workspace_sync(
        self,
        workspace: str,
        source: str,
        *,
        delete: bool = False,
        dest: str = ".",
        dry_run: bool = False,
        exclude: Sequence[str] | None = None,
        include_git: bool = False,
    ) -> Synced:
        """Bring a tree of the host into a workspace, sending what changed.

        Args:
            workspace: Its id or name.
            source: What to bring: a directory of the host, or a .tar, .tar.gz or .tar.zst
                archive.
            delete: Remove from the target what the source does not have. Never what is
                excluded.
            dest: The directory that it becomes, absolute or relative to `/workspace`.
            dry_run: Only tell what would be done.
            exclude: What to leave alone on both sides: patterns in the syntax of .gitignore,
                relative to the tree. A `.pyroignore` in a directory of the host's tree holds
                for all below it.
            include_git: Also sync what is named `.git`, which is otherwise left alone.
        """
        result = self._perform("workspace_sync_push", request(
            workspace=workspace,
            source=source,
            delete=delete,
            dest=dest,
            dry_run=dry_run,
            exclude=exclude,
            include_git=include_git,
        ))
        return Synced.from_json(result)

    def pull_workspace_sync(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        dest: str,
        *,
        delete: bool = False,
        dry_run: bool = False,
        exclude: Sequence[str] | None = None,
        force: bool = False,
        include_git: bool = False,
    ) -> Synced:
        """Bring a tree of a workspace to the host, writing what changed.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            dest: The directory of the host that it becomes; made if it does not exist.
            delete: Remove from the target what the source does not have. Never what is
                excluded.
            dry_run: Only tell what would be done.
            exclude: What to leave alone on both sides: patterns in the syntax of .gitignore,
                relative to the tree. A `.pyroignore` in a directory of the host's tree holds
                for all below it.
            force: Also replace and remove files of the host that were changed there since the
                last sync.
            include_git: Also sync what is named `.git`, which is otherwise left alone.
        """
        result = self._perform("workspace_sync_pull", request(
            workspace=workspace,
            **path_of("path", path),
            dest=dest,
            delete=delete,
            dry_run=dry_run,
            exclude=exclude,
            force=force,
            include_git=include_git,
        ))
        return Synced.from_json(result)

    def list_workspace_file(
        self,
        workspace: str,
        *,
        continuation: str | None = None,
        gitignore: bool = False,
        glob: Sequence[str] | None = None,
        limit: int = 1000,
        path: str | bytes | PathLike[str] = ".",
        recursive: bool = False,
    ) -> FileList:
        """List files of a workspace, also by patterns and without what git ignores.

        Args:
            workspace: Its id or name.
            continuation: Go on where an earlier list ended: its `continuation`.
            gitignore: Leave out `.git` and what the `.gitignore` files say, those above the
                directory included.
            glob: Only what matches one of these. `*.rs` matches a name in any directory,
                `src/**/*.rs` a path below the listed directory.
            limit: So many entries at most, up to 10,000.
            path: The path; bytes name what is not UTF-8.
            recursive: Also what is in the directories below it.
        """
        result = self._perform("workspace_file_list", request(
            workspace=workspace,
            continuation=continuation,
            gitignore=gitignore,
            glob=glob,
            limit=limit,
            **path_of("path", path),
            recursive=recursive,
        ))
        return FileList.from_json(result)

    def stat_workspace_file(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        *,
        follow: bool = False,
    ) -> FileStat:
        """Show what a file of a workspace is: kind, size, mode, time, checksum.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            follow: Look at what a link leads to, instead of the link.
        """
        result = self._perform("workspace_file_stat", request(
            workspace=workspace,
            **path_of("path", path),
            follow=follow,
        ))
        return FileStat.from_json(result)

    def read_workspace_file(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        *,
        encoding: EncodingChoice | Literal["auto", "text", "base64"] = "auto",
        lines: str | None = None,
        max_bytes: int = 262144,
        offset: int = 0,
    ) -> FileContent:
        """Read a file of a workspace, or some lines or bytes of it.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            encoding: How the content is to be written in the result.
            lines: Only these lines, counted from 1: `10:20`, `10:` to the end, `:20` from the
                beginning, `10`.
            max_bytes: So many bytes at most, up to 4 MiB.
            offset: From which byte on.
        """
        result = self._perform("workspace_file_read", request(
            workspace=workspace,
            **path_of("path", path),
            encoding=encoding,
            lines=lines,
            max_bytes=max_bytes,
            offset=offset,
        ))
        return FileContent.from_json(result)

    def write_workspace_file(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        content: str,
        *,
        create_only: bool = False,
        encoding: Encoding | Literal["text", "base64"] = "text",
        expected_sha256: str | None = None,
        mode: str | None = None,
    ) -> FileWritten:
        """Write a file of a workspace, whole or not at all.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            content: What is to be in it; 16 MiB at most.
            create_only: Write only if there is nothing yet.
            encoding: How that is written.
            expected_sha256: Write only if the file's content has this checksum, as read before.
            mode: Permission bits, in octal: those of the file that is replaced, or 644, if not
                given.
        """
        result = self._perform("workspace_file_write", request(
            workspace=workspace,
            **path_of("path", path),
            content=content,
            create_only=create_only,
            encoding=encoding,
            expected_sha256=expected_sha256,
            mode=mode,
        ))
        return FileWritten.from_json(result)

    def edit_workspace_file(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        old: str,
        new: str,
        *,
        all: bool = False,
        expected_sha256: str | None = None,
    ) -> FileEdited:
        """Replace an exact piece of text in a file of a workspace.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            old: The text to replace, exactly as it stands in the file, and there only once.
            new: What to put in its place.
            all: Replace it wherever it stands.
            expected_sha256: Edit only if the file's content has this checksum, as read before.
        """
        result = self._perform("workspace_file_edit", request(
            workspace=workspace,
            **path_of("path", path),
            old=old,
            new=new,
            all=all,
            expected_sha256=expected_sha256,
        ))
        return FileEdited.from_json(result)

    def remove_workspace_file(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        *,
        expected_sha256: str | None = None,
        missing_ok: bool = False,
        recursive: bool = False,
    ) -> FileRemoved:
        """Remove a file or directory of a workspace.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            expected_sha256: Remove only if the file's content has this checksum, as read
                before.
            missing_ok: Nothing there is as good.
            recursive: Also a directory that is not empty, with all that is in it.
        """
        result = self._perform("workspace_file_remove", request(
            workspace=workspace,
            **path_of("path", path),
            expected_sha256=expected_sha256,
            missing_ok=missing_ok,
            recursive=recursive,
        ))
        return FileRemoved.from_json(result)

    def move_workspace_file(
        self,
        workspace: str,
        from_: str | bytes | PathLike[str],
        to: str | bytes | PathLike[str],
        *,
        force: bool = False,
    ) -> FileMoved:
        """Move or rename a file or directory of a workspace.

        Args:
            workspace: Its id or name.
            from_: The path; bytes name what is not UTF-8.
            to: The path; bytes name what is not UTF-8.
            force: Replace a file that is there.
        """
        result = self._perform("workspace_file_move", request(
            workspace=workspace,
            **path_of("from", from_),
            **path_of("to", to),
            force=force,
        ))
        return FileMoved.from_json(result)

    def apply_workspace_patch(
        self,
        workspace: str,
        *,
        directory: str | None = None,
        dry_run: bool = False,
        fuzz: int = 0,
        patch: str | bytes | PathLike[str] = "",
        strip: int | None = None,
    ) -> PatchApplied:
        """Apply a patch to /workspace, all of it or nothing.

        Args:
            workspace: Its id or name.
            directory: Apply it below this directory instead of `/workspace`.
            dry_run: Only find out whether it applies.
            fuzz: How many lines of context around a change may differ from the file's.
            patch: The path; bytes name what is not UTF-8.
            strip: Take so many names from the front of each path; found out if not given.
        """
        result = self._perform("workspace_patch_apply", request(
            workspace=workspace,
            directory=directory,
            dry_run=dry_run,
            fuzz=fuzz,
            **path_of("patch", patch),
            strip=strip,
        ))
        return PatchApplied.from_json(result)

    def open_workspace_shell(
        self,
        workspace: str,
        argv: str | Sequence[str] | None = None,
        *,
        cols: int = 80,
        cwd: str | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        name: str | None = None,
        rows: int = 24,
        user: str | None = None,
    ) -> ShellInfo:
        """Open a terminal in a workspace that outlives its client, and start a shell or command on
        it.

        Args:
            workspace: The workspace's id or name.
            argv: What to run on the terminal, exactly; the user's login shell if empty. One
                string is a script, run by `sh -lc`.
            cols: Columns of the terminal, 2 to 500.
            cwd: Where to run it, absolute or relative to `/workspace`.
            env: Variables for it, over those of the workspace.
            name: A name to find it by; unique among the workspace's running shells.
            rows: Rows of the terminal, 2 to 300.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
        """
        result = self._perform("workspace_shell_open", request(
            workspace=workspace,
            argv=argv_of(argv),
            cols=cols,
            cwd=cwd,
            env=env_of(env),
            name=name,
            rows=rows,
            user=user,
        ))
        return ShellInfo.from_json(result)

    def list_workspace_shell(self, workspace: str) -> list[ShellInfo]:
        """List the shells of a workspace, also those that have closed.

        Args:
            workspace: Its id or name.
        """
        result = self._perform("workspace_shell_list", request(workspace=workspace))
        return [ShellInfo.from_json(item) for item in result]

    def read_workspace_shell(
        self,
        workspace: str,
        shell: str,
        *,
        cursor: int | None = None,
        max_chars: int = 20000,
        plain: bool = False,
        raw: bool = False,
        timeout_ms: int = 30000,
        wait_for_idle_ms: int | None = None,
    ) -> ShellOutput:
        """Read what a shell has shown since a cursor, or its screen as text.

        Args:
            workspace: The workspace's id or name.
            shell: The shell's id or name.
            cursor: From which byte of its output on: the `next_cursor` of another read, or the
                `cursor` of a write; its beginning by default.
            max_chars: The most characters to return, up to 100000.
            plain: The screen as a person would see it now, as text, instead of what was shown
                since the cursor.
            raw: Keep control sequences (colours, movements), which are left out by default.
            timeout_ms: The longest to wait for that.
            wait_for_idle_ms: First wait until nothing new was shown for this long.
        """
        result = self._perform("workspace_shell_read", request(
            workspace=workspace,
            shell=shell,
            cursor=cursor,
            max_chars=max_chars,
            plain=plain,
            raw=raw,
            timeout_ms=timeout_ms,
            wait_for_idle_ms=wait_for_idle_ms,
        ))
        return ShellOutput.from_json(result)

    def write_workspace_shell(
        self,
        workspace: str,
        shell: str,
        *,
        data_base64: str | None = None,
        enter: bool = False,
        keys: Sequence[str] | None = None,
        text: str | None = None,
        timeout_ms: int = 10000,
    ) -> ShellWritten:
        """Type text or press keys in a shell.

        Args:
            workspace: The workspace's id or name.
            shell: The shell's id or name.
            data_base64: Bytes to type, in base64, instead of text.
            enter: Press Enter at the end.
            keys: Keys to press after that, by name: `enter`, `ctrl-c`, `up`, `escape`, `alt-x`,
                `f1`.
            text: Text to type, as it is.
            timeout_ms: The longest to wait for the terminal to take it all.
        """
        result = self._perform("workspace_shell_write", request(
            workspace=workspace,
            shell=shell,
            data_base64=data_base64,
            enter=enter,
            keys=keys,
            text=text,
            timeout_ms=timeout_ms,
        ))
        return ShellWritten.from_json(result)

    def resize_workspace_shell(
        self,
        workspace: str,
        shell: str,
        cols: int,
        rows: int,
    ) -> ShellInfo:
        """Give a shell's terminal another size.

        Args:
            workspace: The workspace's id or name.
            shell: The shell's id or name.
            cols: Columns, 2 to 500.
            rows: Rows, 2 to 300.
        """
        result = self._perform("workspace_shell_resize", request(
            workspace=workspace,
            shell=shell,
            cols=cols,
            rows=rows,
        ))
        return ShellInfo.from_json(result)

    def signal_workspace_shell(self, workspace: str, shell: str, signal: str) -> ShellInfo:
        """Signal what runs in the foreground of a shell.

        Args:
            workspace: The workspace's id or name.
            shell: The shell's id or name.
            signal: Which signal: a name with or without `SIG`, or a number.
        """
        result = self._perform("workspace_shell_signal", request(
            workspace=workspace,
            shell=shell,
            signal=signal,
        ))
        return ShellInfo.from_json(result)

    def close_workspace_shell(self, workspace: str, shell: str) -> ShellInfo:
        """End everything that runs in a shell; a shell that has closed is taken off the list.

        Args:
            workspace: The workspace's id or name.
            shell: The shell's id or name.
        """
        result = self._perform("workspace_shell_close", request(workspace=workspace, shell=shell))
        return ShellInfo.from_json(result)

    def list_workspace_disk(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        *,
        max_entries: int = 10000,
        recursive: bool = False,
    ) -> DiskListing:
        """List a directory of a stopped workspace's disk, without starting it.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            max_entries: The most entries to give.
            recursive: Also what is in the directories below it.
        """
        result = self._perform("workspace_disk_list", request(
            workspace=workspace,
            **path_of("path", path),
            max_entries=max_entries,
            recursive=recursive,
        ))
        return DiskListing.from_json(result)

    def read_workspace_disk(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        *,
        max_bytes: int = 1048576,
        offset: int = 0,
    ) -> DiskFile:
        """Read a file of a stopped workspace's disk, without starting it.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            max_bytes: The most bytes to give.
            offset: Where to begin, in bytes.
        """
        result = self._perform("workspace_disk_read", request(
            workspace=workspace,
            **path_of("path", path),
            max_bytes=max_bytes,
            offset=offset,
        ))
        return DiskFile.from_json(result)

    def export_workspace_disk(
        self,
        workspace: str,
        output: str | PathLike[str],
        *,
        force: bool = False,
    ) -> DiskImage:
        """Write the disk of a stopped workspace as one ext4 image.

        Args:
            workspace: Its id or name.
            output: Where to put the image on the host.
            force: Replace what stands there.
        """
        result = self._perform("workspace_disk_export", request(
            workspace=workspace,
            output=output,
            force=force,
        ))
        return DiskImage.from_json(result)

    def setup_firecracker(self) -> InstalledProgram:
        """Fetch the release of Firecracker that pyro works with, verified by its digest."""
        result = self._perform("setup_firecracker", request())
        return InstalledProgram.from_json(result)

    def doctor(self, *, fix: bool = False) -> list[Check]:
        """Check what this host offers, and say how to mend what is missing.

        Args:
            fix: Run the commands that mend what is missing.
        """
        result = self._perform("doctor", request(fix=fix))
        return [Check.from_json(item) for item in result]


class WorkspaceOperations(ABC):
    """The operations on one workspace."""

    @abstractmethod
    def _perform(self, operation: str, request: dict[str, Any]) -> Any: ...

    @abstractmethod
    def _start(self, request: dict[str, Any], stdin: bytes | str | bool) -> Command: ...

    @property
    @abstractmethod
    def id(self) -> str:
        """The permanent id."""

    def status(self) -> WorkspaceStatus:
        """Show one workspace."""
        result = self._perform("workspace_status", request(workspace=self.id))
        return WorkspaceStatus.from_json(result)

    def start(self) -> WorkspaceStatus:
        """Start a stopped workspace on its kept disk."""
        result = self._perform("workspace_start", request(workspace=self.id))
        return WorkspaceStatus.from_json(result)

    def stop(self) -> WorkspaceStatus:
        """Stop a workspace: end its processes, flush and keep its disk."""
        result = self._perform("workspace_stop", request(workspace=self.id))
        return WorkspaceStatus.from_json(result)

    def pause(self) -> WorkspaceStatus:
        """Hold a workspace still, with all that runs in it; its memory stays."""
        result = self._perform("workspace_pause", request(workspace=self.id))
        return WorkspaceStatus.from_json(result)

    def resume(self) -> WorkspaceStatus:
        """Let a paused workspace go on where it was."""
        result = self._perform("workspace_resume", request(workspace=self.id))
        return WorkspaceStatus.from_json(result)

    def delete(self) -> Deleted:
        """Delete a workspace and everything in it."""
        result = self._perform("workspace_delete", request(workspace=self.id))
        return Deleted.from_json(result)

    def run(
        self,
        argv: str | Sequence[str] | None = None,
        *,
        cwd: str | None = None,
        detach: bool = False,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        max_output_bytes: int | None = None,
        shell: str | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
        cpu_percent: int | None = None,
        memory_mib: int | None = None,
        open_file_count: int | None = None,
        process_count: int | None = None,
    ) -> ExecResult:
        """Run a command in a workspace.

        Args:
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            detach: Let it run on without a caller; its output is in the journal.
            env: Variables for this command, over those of the workspace.
            max_output_bytes: The most bytes of output in the result, both streams together; 1
                MiB unless said otherwise. A `continuation` gets the rest.
            shell: Instead of `argv`: a text for a login shell, which runs as `sh -lc TEXT`.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
            cpu_percent: Processor time, in hundredths of one processor: 150 is one and a half.
                1 to 3200.
            memory_mib: Memory in MiB, 4 to 262144.
            open_file_count: Files that each of its processes may have open, 16 to 1048576.
            process_count: Processes and threads at once, 1 to 1000000.
        """
        result = self._perform("workspace_exec", request(
            workspace=self.id,
            argv=argv_of(argv),
            cwd=cwd,
            detach=detach,
            env=env_of(env),
            max_output_bytes=max_output_bytes,
            shell=shell,
            timeout_seconds=timeout_seconds,
            user=user,
            limits=request(
                cpu_percent=cpu_percent,
                memory_mib=memory_mib,
                open_file_count=open_file_count,
                process_count=process_count,
            ),
        ))
        return ExecResult.from_json(result)

    def exec(
        self,
        argv: str | Sequence[str] | None = None,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        max_output_bytes: int | None = None,
        shell: str | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
        cpu_percent: int | None = None,
        memory_mib: int | None = None,
        open_file_count: int | None = None,
        process_count: int | None = None,
        stdin: bytes | str | bool = False,
    ) -> Command:
        """Start a command in a workspace, and listen to it while it runs.

        Args:
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            env: Variables for this command, over those of the workspace.
            max_output_bytes: The most bytes of output in the result, both streams together; 1
                MiB unless said otherwise. A `continuation` gets the rest.
            shell: Instead of `argv`: a text for a login shell, which runs as `sh -lc TEXT`.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
            cpu_percent: Processor time, in hundredths of one processor: 150 is one and a half.
                1 to 3200.
            memory_mib: Memory in MiB, 4 to 262144.
            open_file_count: Files that each of its processes may have open, 16 to 1048576.
            process_count: Processes and threads at once, 1 to 1000000.
            stdin: Its input, whole; or true to send it with `write` as it goes.
        """
        return self._start(request(
            workspace=self.id,
            argv=argv_of(argv),
            cwd=cwd,
            env=env_of(env),
            max_output_bytes=max_output_bytes,
            shell=shell,
            timeout_seconds=timeout_seconds,
            user=user,
            limits=request(
                cpu_percent=cpu_percent,
                memory_mib=memory_mib,
                open_file_count=open_file_count,
                process_count=process_count,
            ),
        ), stdin)

    def logs(
        self,
        *,
        grep: str | None = None,
        max_output_bytes: int | None = None,
        sequence: int | None = None,
        since: str | None = None,
        tail: int | None = None,
    ) -> list[JournalCommand]:
        """Show the commands that ran in a workspace, with their output.

        Args:
            grep: Only lines that match this regular expression, of the commands that have such.
            max_output_bytes: The most bytes of output of each command; 64 KiB unless said
                otherwise.
            sequence: Only this command.
            since: Only commands that were started at this moment or later.
            tail: Only the last so many commands.
        """
        result = self._perform("workspace_logs", request(
            workspace=self.id,
            grep=grep,
            max_output_bytes=max_output_bytes,
            sequence=sequence,
            since=since,
            tail=tail,
        ))
        return [JournalCommand.from_json(item) for item in result]

    def output(
        self,
        *,
        continuation: str | None = None,
        max_output_bytes: int | None = None,
        position: int | None = None,
        sequence: int | None = None,
        stream: Stream | Literal["stdout", "stderr"] | None = None,
        wait_seconds: int | None = None,
    ) -> OutputPage:
        """Read a command's output from anywhere in it, or go on where an answer was cut off.

        Args:
            continuation: Go on where an answer with this `continuation` ended. Or else:
            max_output_bytes: The most bytes of output; 1 MiB unless said otherwise.
            position: Begin after so many bytes, counted over both streams; 0 unless said
                otherwise.
            sequence: The number of the command.
            stream: Only this stream.
            wait_seconds: If there is nothing more yet and the command still runs, wait so long
                for more.
        """
        result = self._perform("workspace_output", request(
            workspace=self.id,
            continuation=continuation,
            max_output_bytes=max_output_bytes,
            position=position,
            sequence=sequence,
            stream=stream,
            wait_seconds=wait_seconds,
        ))
        return OutputPage.from_json(result)

    def events(
        self,
        *,
        after: int = 0,
        since: str | None = None,
        tail: int | None = None,
        wait_seconds: int | None = None,
    ) -> list[Event]:
        """Show everything that happened in a workspace, and who asked for it.

        Args:
            after: Only those with a higher number.
            since: Only those of this moment or later.
            tail: Only the last so many; an answer has at most ten thousand.
            wait_seconds: If there is nothing yet and the workspace runs, wait so long for
                something to happen.
        """
        result = self._perform("workspace_events", request(
            workspace=self.id,
            after=after,
            since=since,
            tail=tail,
            wait_seconds=wait_seconds,
        ))
        return [Event.from_json(item) for item in result]

    def summary(self) -> WorkspaceSummary:
        """Sum up what was done in a workspace, for somebody who has to judge it."""
        result = self._perform("workspace_summary", request(workspace=self.id))
        return WorkspaceSummary.from_json(result)

    def update(
        self,
        *,
        clear_labels: Sequence[str] | None = None,
        clear_name: bool = False,
        clear_ttl: bool = False,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        ttl_seconds: int | None = None,
    ) -> WorkspaceStatus:
        """Change a workspace's name, labels or time to live.

        Args:
            clear_labels: Keys of labels to remove.
            clear_name: Take its name away; its id remains.
            clear_ttl: Let it run without a time to live.
            labels: Labels to set.
            name: A new name. The machine's own host name stays until it is started again.
            ttl_seconds: A new time to live: counted from now if it runs, else from its next
                start.
        """
        result = self._perform("workspace_update", request(
            workspace=self.id,
            clear_labels=clear_labels,
            clear_name=clear_name,
            clear_ttl=clear_ttl,
            labels=labels,
            name=name,
            ttl_seconds=ttl_seconds,
        ))
        return WorkspaceStatus.from_json(result)

    def list_command(self, *, all: bool = False, tail: int | None = None) -> list[CommandInfo]:
        """List the commands that run in a workspace, or all that ran.

        Args:
            all: Also those that have ended.
            tail: Only the last so many.
        """
        result = self._perform("workspace_command_list", request(
            workspace=self.id,
            all=all,
            tail=tail,
        ))
        return [CommandInfo.from_json(item) for item in result]

    def wait_command(self, sequence: int, *, timeout_seconds: int | None = None) -> ExecResult:
        """Wait until a command has ended, and give its result.

        Args:
            sequence: The number of the command.
            timeout_seconds: Give up after so long; the command runs on.
        """
        result = self._perform("workspace_command_wait", request(
            workspace=self.id,
            sequence=sequence,
            timeout_seconds=timeout_seconds,
        ))
        return ExecResult.from_json(result)

    def signal_command(self, sequence: int, *, signal: str = "TERM") -> SignalledCommand:
        """Signal a command and all it started.

        Args:
            sequence: The number of the command.
            signal: Which signal: a name with or without `SIG`, or a number; TERM unless said
                otherwise.
        """
        result = self._perform("workspace_command_signal", request(
            workspace=self.id,
            sequence=sequence,
            signal=signal,
        ))
        return SignalledCommand.from_json(result)

    def diff(self, *, max_patch_bytes: int = 67108864, patch: bool = True) -> WorkspaceDiff:
        """Show what changed in /workspace since it was seeded.

        Args:
            max_patch_bytes: The most bytes of patch to give.
            patch: Also give the git patch, which `git apply` takes.
        """
        result = self._perform("workspace_diff", request(
            workspace=self.id,
            max_patch_bytes=max_patch_bytes,
            patch=patch,
        ))
        return WorkspaceDiff.from_json(result)

    def apply(
        self,
        *,
        dry_run: bool = False,
        include_git: bool = False,
        merge: bool = False,
        paths: Sequence[str] | None = None,
        to: str | None = None,
        undo: bool = False,
    ) -> Applied:
        """Bring what changed in /workspace back to the directory that it was seeded from.

        Args:
            dry_run: Only tell what would be done.
            include_git: Also what is named `.git`, which can make git run programs and is
                otherwise left alone.
            merge: Where a text file was changed on both sides, merge it as `git merge-file`
                does.
            paths: Only these files and what is in these directories, relative to `/workspace`.
            to: The directory of the host; the one that the workspace was seeded from, unless
                given.
            undo: Take the last apply of this workspace back instead.
        """
        result = self._perform("workspace_apply", request(
            workspace=self.id,
            dry_run=dry_run,
            include_git=include_git,
            merge=merge,
            paths=paths,
            to=to,
            undo=undo,
        ))
        return Applied.from_json(result)

    def export(
        self,
        path: str | bytes | PathLike[str],
        output: str | PathLike[str],
        *,
        force: bool = False,
    ) -> Exported:
        """Copy a file or tree out of a workspace.

        Args:
            path: The path; bytes name what is not UTF-8.
            output: Where to put it on the host; `-` for a tar stream.
            force: Replace what stands there.
        """
        result = self._perform("workspace_export", request(
            workspace=self.id,
            **path_of("path", path),
            output=output,
            force=force,
        ))
        return Exported.from_json(result)

    def push_sync(
        self,
        source: str,
        *,
        delete: bool = False,
        dest: str = ".",
        dry_run: bool = False,
        exclude: Sequence[str] | None = None,
        include_git: bool = False,
    ) -> Synced:
        """Bring a tree of the host into a workspace, sending what changed.

        Args:
            source: What to bring: a directory of the host, or a .tar, .tar.gz or .tar.zst
                archive.
            delete: Remove from the target what the source does not have. Never what is
                excluded.
            dest: The directory that it becomes, absolute or relative to `/workspace`.
            dry_run: Only tell what would be done.
            exclude: What to leave alone on both sides: patterns in the syntax of .gitignore,
                relative to the tree. A `.pyroignore` in a directory of the host's tree holds
                for all below it.
            include_git: Also sync what is named `.git`, which is otherwise left alone.
        """
        result = self._perform("workspace_sync_push", request(
            workspace=self.id,
            source=source,
            delete=delete,
            dest=dest,
            dry_run=dry_run,
            exclude=exclude,
            include_git=include_git,
        ))
        return Synced.from_json(result)

    def pull_sync(
        self,
        path: str | bytes | PathLike[str],
        dest: str,
        *,
        delete: bool = False,
        dry_run: bool = False,
        exclude: Sequence[str] | None = None,
        force: bool = False,
        include_git: bool = False,
    ) -> Synced:
        """Bring a tree of a workspace to the host, writing what changed.

        Args:
            path: The path; bytes name what is not UTF-8.
            dest: The directory of the host that it becomes; made if it does not exist.
            delete: Remove from the target what the source does not have. Never what is
                excluded.
            dry_run: Only tell what would be done.
            exclude: What to leave alone on both sides: patterns in the syntax of .gitignore,
                relative to the tree. A `.pyroignore` in a directory of the host's tree holds
                for all below it.
            force: Also replace and remove files of the host that were changed there since the
                last sync.
            include_git: Also sync what is named `.git`, which is otherwise left alone.
        """
        result = self._perform("workspace_sync_pull", request(
            workspace=self.id,
            **path_of("path", path),
            dest=dest,
            delete=delete,
            dry_run=dry_run,
            exclude=exclude,
            force=force,
            include_git=include_git,
        ))
        return Synced.from_json(result)

    def list_file(
        self,
        *,
        continuation: str | None = None,
        gitignore: bool = False,
        glob: Sequence[str] | None = None,
        limit: int = 1000,
        path: str | bytes | PathLike[str] = ".",
        recursive: bool = False,
    ) -> FileList:
        """List files of a workspace, also by patterns and without what git ignores.

        Args:
            continuation: Go on where an earlier list ended: its `continuation`.
            gitignore: Leave out `.git` and what the `.gitignore` files say, those above the
                directory included.
            glob: Only what matches one of these. `*.rs` matches a name in any directory,
                `src/**/*.rs` a path below the listed directory.
            limit: So many entries at most, up to 10,000.
            path: The path; bytes name what is not UTF-8.
            recursive: Also what is in the directories below it.
        """
        result = self._perform("workspace_file_list", request(
            workspace=self.id,
            continuation=continuation,
            gitignore=gitignore,
            glob=glob,
            limit=limit,
            **path_of("path", path),
            recursive=recursive,
        ))
        return FileList.from_json(result)

    def stat_file(self, path: str | bytes | PathLike[str], *, follow: bool = False) -> FileStat:
        """Show what a file of a workspace is: kind, size, mode, time, checksum.

        Args:
            path: The path; bytes name what is not UTF-8.
            follow: Look at what a link leads to, instead of the link.
        """
        result = self._perform("workspace_file_stat", request(
            workspace=self.id,
            **path_of("path", path),
            follow=follow,
        ))
        return FileStat.from_json(result)

    def read_file(
        self,
        path: str | bytes | PathLike[str],
        *,
        encoding: EncodingChoice | Literal["auto", "text", "base64"] = "auto",
        lines: str | None = None,
        max_bytes: int = 262144,
        offset: int = 0,
    ) -> FileContent:
        """Read a file of a workspace, or some lines or bytes of it.

        Args:
            path: The path; bytes name what is not UTF-8.
            encoding: How the content is to be written in the result.
            lines: Only these lines, counted from 1: `10:20`, `10:` to the end, `:20` from the
                beginning, `10`.
            max_bytes: So many bytes at most, up to 4 MiB.
            offset: From which byte on.
        """
        result = self._perform("workspace_file_read", request(
            workspace=self.id,
            **path_of("path", path),
            encoding=encoding,
            lines=lines,
            max_bytes=max_bytes,
            offset=offset,
        ))
        return FileContent.from_json(result)

    def write_file(
        self,
        path: str | bytes | PathLike[str],
        content: str,
        *,
        create_only: bool = False,
        encoding: Encoding | Literal["text", "base64"] = "text",
        expected_sha256: str | None = None,
        mode: str | None = None,
    ) -> FileWritten:
        """Write a file of a workspace, whole or not at all.

        Args:
            path: The path; bytes name what is not UTF-8.
            content: What is to be in it; 16 MiB at most.
            create_only: Write only if there is nothing yet.
            encoding: How that is written.
            expected_sha256: Write only if the file's content has this checksum, as read before.
            mode: Permission bits, in octal: those of the file that is replaced, or 644, if not
                given.
        """
        result = self._perform("workspace_file_write", request(
            workspace=self.id,
            **path_of("path", path),
            content=content,
            create_only=create_only,
            encoding=encoding,
            expected_sha256=expected_sha256,
            mode=mode,
        ))
        return FileWritten.from_json(result)

    def edit_file(
        self,
        path: str | bytes | PathLike[str],
        old: str,
        new: str,
        *,
        all: bool = False,
        expected_sha256: str | None = None,
    ) -> FileEdited:
        """Replace an exact piece of text in a file of a workspace.

        Args:
            path: The path; bytes name what is not UTF-8.
            old: The text to replace, exactly as it stands in the file, and there only once.
            new: What to put in its place.
            all: Replace it wherever it stands.
            expected_sha256: Edit only if the file's content has this checksum, as read before.
        """
        result = self._perform("workspace_file_edit", request(
            workspace=self.id,
            **path_of("path", path),
            old=old,
            new=new,
            all=all,
            expected_sha256=expected_sha256,
        ))
        return FileEdited.from_json(result)

    def remove_file(
        self,
        path: str | bytes | PathLike[str],
        *,
        expected_sha256: str | None = None,
        missing_ok: bool = False,
        recursive: bool = False,
    ) -> FileRemoved:
        """Remove a file or directory of a workspace.

        Args:
            path: The path; bytes name what is not UTF-8.
            expected_sha256: Remove only if the file's content has this checksum, as read
                before.
            missing_ok: Nothing there is as good.
            recursive: Also a directory that is not empty, with all that is in it.
        """
        result = self._perform("workspace_file_remove", request(
            workspace=self.id,
            **path_of("path", path),
            expected_sha256=expected_sha256,
            missing_ok=missing_ok,
            recursive=recursive,
        ))
        return FileRemoved.from_json(result)

    def move_file(
        self,
        from_: str | bytes | PathLike[str],
        to: str | bytes | PathLike[str],
        *,
        force: bool = False,
    ) -> FileMoved:
        """Move or rename a file or directory of a workspace.

        Args:
            from_: The path; bytes name what is not UTF-8.
            to: The path; bytes name what is not UTF-8.
            force: Replace a file that is there.
        """
        result = self._perform("workspace_file_move", request(
            workspace=self.id,
            **path_of("from", from_),
            **path_of("to", to),
            force=force,
        ))
        return FileMoved.from_json(result)

    def apply_patch(
        self,
        *,
        directory: str | None = None,
        dry_run: bool = False,
        fuzz: int = 0,
        patch: str | bytes | PathLike[str] = "",
        strip: int | None = None,
    ) -> PatchApplied:
        """Apply a patch to /workspace, all of it or nothing.

        Args:
            directory: Apply it below this directory instead of `/workspace`.
            dry_run: Only find out whether it applies.
            fuzz: How many lines of context around a change may differ from the file's.
            patch: The path; bytes name what is not UTF-8.
            strip: Take so many names from the front of each path; found out if not given.
        """
        result = self._perform("workspace_patch_apply", request(
            workspace=self.id,
            directory=directory,
            dry_run=dry_run,
            fuzz=fuzz,
            **path_of("patch", patch),
            strip=strip,
        ))
        return PatchApplied.from_json(result)

    def open_shell(
        self,
        argv: str | Sequence[str] | None = None,
        *,
        cols: int = 80,
        cwd: str | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        name: str | None = None,
        rows: int = 24,
        user: str | None = None,
    ) -> ShellInfo:
        """Open a terminal in a workspace that outlives its client, and start a shell or command on
        it.

        Args:
            argv: What to run on the terminal, exactly; the user's login shell if empty. One
                string is a script, run by `sh -lc`.
            cols: Columns of the terminal, 2 to 500.
            cwd: Where to run it, absolute or relative to `/workspace`.
            env: Variables for it, over those of the workspace.
            name: A name to find it by; unique among the workspace's running shells.
            rows: Rows of the terminal, 2 to 300.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
        """
        result = self._perform("workspace_shell_open", request(
            workspace=self.id,
            argv=argv_of(argv),
            cols=cols,
            cwd=cwd,
            env=env_of(env),
            name=name,
            rows=rows,
            user=user,
        ))
        return ShellInfo.from_json(result)

    def list_shell(self) -> list[ShellInfo]:
        """List the shells of a workspace, also those that have closed."""
        result = self._perform("workspace_shell_list", request(workspace=self.id))
        return [ShellInfo.from_json(item) for item in result]

    def read_shell(
        self,
        shell: str,
        *,
        cursor: int | None = None,
        max_chars: int = 20000,
        plain: bool = False,
        raw: bool = False,
        timeout_ms: int = 30000,
        wait_for_idle_ms: int | None = None,
    ) -> ShellOutput:
        """Read what a shell has shown since a cursor, or its screen as text.

        Args:
            shell: The shell's id or name.
            cursor: From which byte of its output on: the `next_cursor` of another read, or the
                `cursor` of a write; its beginning by default.
            max_chars: The most characters to return, up to 100000.
            plain: The screen as a person would see it now, as text, instead of what was shown
                since the cursor.
            raw: Keep control sequences (colours, movements), which are left out by default.
            timeout_ms: The longest to wait for that.
            wait_for_idle_ms: First wait until nothing new was shown for this long.
        """
        result = self._perform("workspace_shell_read", request(
            workspace=self.id,
            shell=shell,
            cursor=cursor,
            max_chars=max_chars,
            plain=plain,
            raw=raw,
            timeout_ms=timeout_ms,
            wait_for_idle_ms=wait_for_idle_ms,
        ))
        return ShellOutput.from_json(result)

    def write_shell(
        self,
        shell: str,
        *,
        data_base64: str | None = None,
        enter: bool = False,
        keys: Sequence[str] | None = None,
        text: str | None = None,
        timeout_ms: int = 10000,
    ) -> ShellWritten:
        """Type text or press keys in a shell.

        Args:
            shell: The shell's id or name.
            data_base64: Bytes to type, in base64, instead of text.
            enter: Press Enter at the end.
            keys: Keys to press after that, by name: `enter`, `ctrl-c`, `up`, `escape`, `alt-x`,
                `f1`.
            text: Text to type, as it is.
            timeout_ms: The longest to wait for the terminal to take it all.
        """
        result = self._perform("workspace_shell_write", request(
            workspace=self.id,
            shell=shell,
            data_base64=data_base64,
            enter=enter,
            keys=keys,
            text=text,
            timeout_ms=timeout_ms,
        ))
        return ShellWritten.from_json(result)

    def resize_shell(self, shell: str, cols: int, rows: int) -> ShellInfo:
        """Give a shell's terminal another size.

        Args:
            shell: The shell's id or name.
            cols: Columns, 2 to 500.
            rows: Rows, 2 to 300.
        """
        result = self._perform("workspace_shell_resize", request(
            workspace=self.id,
            shell=shell,
            cols=cols,
            rows=rows,
        ))
        return ShellInfo.from_json(result)

    def signal_shell(self, shell: str, signal: str) -> ShellInfo:
        """Signal what runs in the foreground of a shell.

        Args:
            shell: The shell's id or name.
            signal: Which signal: a name with or without `SIG`, or a number.
        """
        result = self._perform("workspace_shell_signal", request(
            workspace=self.id,
            shell=shell,
            signal=signal,
        ))
        return ShellInfo.from_json(result)

    def close_shell(self, shell: str) -> ShellInfo:
        """End everything that runs in a shell; a shell that has closed is taken off the list.

        Args:
            shell: The shell's id or name.
        """
        result = self._perform("workspace_shell_close", request(workspace=self.id, shell=shell))
        return ShellInfo.from_json(result)

    def list_disk(
        self,
        path: str | bytes | PathLike[str],
        *,
        max_entries: int = 10000,
        recursive: bool = False,
    ) -> DiskListing:
        """List a directory of a stopped workspace's disk, without starting it.

        Args:
            path: The path; bytes name what is not UTF-8.
            max_entries: The most entries to give.
            recursive: Also what is in the directories below it.
        """
        result = self._perform("workspace_disk_list", request(
            workspace=self.id,
            **path_of("path", path),
            max_entries=max_entries,
            recursive=recursive,
        ))
        return DiskListing.from_json(result)

    def read_disk(
        self,
        path: str | bytes | PathLike[str],
        *,
        max_bytes: int = 1048576,
        offset: int = 0,
    ) -> DiskFile:
        """Read a file of a stopped workspace's disk, without starting it.

        Args:
            path: The path; bytes name what is not UTF-8.
            max_bytes: The most bytes to give.
            offset: Where to begin, in bytes.
        """
        result = self._perform("workspace_disk_read", request(
            workspace=self.id,
            **path_of("path", path),
            max_bytes=max_bytes,
            offset=offset,
        ))
        return DiskFile.from_json(result)

    def export_disk(self, output: str | PathLike[str], *, force: bool = False) -> DiskImage:
        """Write the disk of a stopped workspace as one ext4 image.

        Args:
            output: Where to put the image on the host.
            force: Replace what stands there.
        """
        result = self._perform("workspace_disk_export", request(
            workspace=self.id,
            output=output,
            force=force,
        ))
        return DiskImage.from_json(result)


class AsyncOperations(ABC):
    """The operations, as methods of a client."""

    @abstractmethod
    async def _perform(self, operation: str, request: dict[str, Any]) -> Any: ...

    @abstractmethod
    def _made(self, status: WorkspaceStatus, keep: bool) -> AsyncWorkspace: ...

    async def run(
        self,
        environment: str,
        argv: str | Sequence[str] | None = None,
        *,
        engine: EngineChoice | Literal["auto", "firecracker", "qemu", "container"] | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        seed: Seed | str | PathLike[str] | None = None,
        ttl_seconds: int | None = None,
        open_file_count: int | None = None,
        process_count: int | None = None,
        disk_mib: int | None = None,
        mem_mib: int | None = None,
        vcpu_count: int | None = None,
        cwd: str | None = None,
        max_output_bytes: int | None = None,
        shell: str | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
    ) -> ExecResult:
        """Create a workspace, run one command in it, and delete it.

        Args:
            environment: The root filesystem.
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            engine: What isolates it; the host's default, which is `auto` unless its owner set
                another.
            env: Environment variables of every command.
            labels: Free labels.
            name: A name to find it by; unique among living workspaces.
            seed: What `/workspace` starts as. A path alone means `SeedPath`.
            ttl_seconds: Stopped, never deleted, once it has run this long.
            open_file_count: Files that each process may have open, 64 to 1048576; 1024, which a
                process may raise to 4096, unless said otherwise.
            process_count: Processes and threads of all its commands at once, 64 to 1000000;
                what its memory allows, unless said otherwise.
            disk_mib: The most that the machine may write to its disk, in MiB, 64 to 1048576;
                10240 unless the host says otherwise. Space is taken on the host only as it is
                written.
            mem_mib: Memory in MiB, 128 to 262144; 1024 unless the host says otherwise.
            vcpu_count: Virtual CPUs, 1 to 32; 1 unless the host says otherwise.
            cwd: Where to run it, absolute or relative to `/workspace`.
            max_output_bytes: The most bytes of output in the result, both streams together; 1
                MiB unless said otherwise. A `continuation` gets the rest.
            shell: Instead of `argv`: a text for a login shell, which runs as `sh -lc TEXT`.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
        """
        result = await self._perform("run", request(
            environment=environment,
            engine=engine,
            env=env_of(env),
            labels=labels,
            name=name,
            seed=seed_of(seed),
            ttl_seconds=ttl_seconds,
            limits=request(open_file_count=open_file_count, process_count=process_count),
            shape=request(disk_mib=disk_mib, mem_mib=mem_mib, vcpu_count=vcpu_count),
            exec=request(
                argv=argv_of(argv),
                cwd=cwd,
                max_output_bytes=max_output_bytes,
                shell=shell,
                timeout_seconds=timeout_seconds,
                user=user,
                limits=request(),
            ),
        ))
        return ExecResult.from_json(result)

    async def list_env(self) -> list[EnvironmentInfo]:
        """List the environments that are cached, and those that can be."""
        result = await self._perform("env_list", request())
        return [EnvironmentInfo.from_json(item) for item in result]

    async def pull_env(self, environment: str) -> EnvironmentInfo:
        """Fetch an environment into the cache.

        Args:
            environment: Its reference.
        """
        result = await self._perform("env_pull", request(environment=environment))
        return EnvironmentInfo.from_json(result)

    async def inspect_env(self, environment: str, *, verify: bool = False) -> EnvironmentDetails:
        """Show what an environment holds.

        Args:
            environment: Its reference.
            verify: Read all of it and compare it with its digest.
        """
        result = await self._perform("env_inspect", request(
            environment=environment,
            verify=verify,
        ))
        return EnvironmentDetails.from_json(result)

    async def prune_env(self, *, all: bool = False) -> PruneReport:
        """Drop cached environments that no workspace uses.

        Args:
            all: Also what the next workspace would need again: the current kernel, boot images
                and templates.
        """
        result = await self._perform("env_prune", request(all=all))
        return PruneReport.from_json(result)

    async def prepare(
        self,
        *,
        engine: EngineChoice | Literal["auto", "firecracker", "qemu", "container"] | None = None,
        environment: str = "debian:12",
        warm: int | None = None,
        disk_mib: int | None = None,
        mem_mib: int | None = None,
        vcpu_count: int | None = None,
    ) -> Prepared:
        """Make the next create fast: fetch the environment and freeze a machine to start from.

        Args:
            engine: What isolates; the host's default, which is `auto` unless its owner set
                another.
            environment: The root filesystem.
            warm: Keep so many machines restored and waiting for as long as the caller lives.
                The memory that they may take together is a setting of the host.
            disk_mib: The most that the machine may write to its disk, in MiB, 64 to 1048576;
                10240 unless the host says otherwise. Space is taken on the host only as it is
                written.
            mem_mib: Memory in MiB, 128 to 262144; 1024 unless the host says otherwise.
            vcpu_count: Virtual CPUs, 1 to 32; 1 unless the host says otherwise.
        """
        result = await self._perform("prepare", request(
            engine=engine,
            environment=environment,
            warm=warm,
            shape=request(disk_mib=disk_mib, mem_mib=mem_mib, vcpu_count=vcpu_count),
        ))
        return Prepared.from_json(result)

    async def create_workspace(
        self,
        environment: str,
        *,
        engine: EngineChoice | Literal["auto", "firecracker", "qemu", "container"] | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        seed: Seed | str | PathLike[str] | None = None,
        ttl_seconds: int | None = None,
        open_file_count: int | None = None,
        process_count: int | None = None,
        disk_mib: int | None = None,
        mem_mib: int | None = None,
        vcpu_count: int | None = None,
        keep: bool = False,
    ) -> AsyncWorkspace:
        """Create and start a workspace from an environment and a seed.

        Args:
            environment: The root filesystem.
            engine: What isolates it; the host's default, which is `auto` unless its owner set
                another.
            env: Environment variables of every command.
            labels: Free labels.
            name: A name to find it by; unique among living workspaces.
            seed: What `/workspace` starts as. A path alone means `SeedPath`.
            ttl_seconds: Stopped, never deleted, once it has run this long.
            open_file_count: Files that each process may have open, 64 to 1048576; 1024, which a
                process may raise to 4096, unless said otherwise.
            process_count: Processes and threads of all its commands at once, 64 to 1000000;
                what its memory allows, unless said otherwise.
            disk_mib: The most that the machine may write to its disk, in MiB, 64 to 1048576;
                10240 unless the host says otherwise. Space is taken on the host only as it is
                written.
            mem_mib: Memory in MiB, 128 to 262144; 1024 unless the host says otherwise.
            vcpu_count: Virtual CPUs, 1 to 32; 1 unless the host says otherwise.
            keep: Leave it in place when a `with` block over it ends.
        """
        result = await self._perform("workspace_create", request(
            environment=environment,
            engine=engine,
            env=env_of(env),
            labels=labels,
            name=name,
            seed=seed_of(seed),
            ttl_seconds=ttl_seconds,
            limits=request(open_file_count=open_file_count, process_count=process_count),
            shape=request(disk_mib=disk_mib, mem_mib=mem_mib, vcpu_count=vcpu_count),
        ))
        return self._made(WorkspaceStatus.from_json(result), keep)

    async def list_workspace(self) -> list[WorkspaceStatus]:
        """List the workspaces, the most recently active first."""
        result = await self._perform("workspace_list", request())
        return [WorkspaceStatus.from_json(item) for item in result]

    async def status_workspace(self, workspace: str) -> WorkspaceStatus:
        """Show one workspace.

        Args:
            workspace: Its id or name.
        """
        result = await self._perform("workspace_status", request(workspace=workspace))
        return WorkspaceStatus.from_json(result)

    async def start_workspace(self, workspace: str) -> WorkspaceStatus:
        """Start a stopped workspace on its kept disk.

        Args:
            workspace: Its id or name.
        """
        result = await self._perform("workspace_start", request(workspace=workspace))
        return WorkspaceStatus.from_json(result)

    async def stop_workspace(self, workspace: str) -> WorkspaceStatus:
        """Stop a workspace: end its processes, flush and keep its disk.

        Args:
            workspace: Its id or name.
        """
        result = await self._perform("workspace_stop", request(workspace=workspace))
        return WorkspaceStatus.from_json(result)

    async def pause_workspace(self, workspace: str) -> WorkspaceStatus:
        """Hold a workspace still, with all that runs in it; its memory stays.

        Args:
            workspace: Its id or name.
        """
        result = await self._perform("workspace_pause", request(workspace=workspace))
        return WorkspaceStatus.from_json(result)

    async def resume_workspace(self, workspace: str) -> WorkspaceStatus:
        """Let a paused workspace go on where it was.

        Args:
            workspace: Its id or name.
        """
        result = await self._perform("workspace_resume", request(workspace=workspace))
        return WorkspaceStatus.from_json(result)

    async def delete_workspace(self, workspace: str) -> Deleted:
        """Delete a workspace and everything in it.

        Args:
            workspace: Its id or name.
        """
        result = await self._perform("workspace_delete", request(workspace=workspace))
        return Deleted.from_json(result)

    async def exec_workspace(
        self,
        workspace: str,
        argv: str | Sequence[str] | None = None,
        *,
        cwd: str | None = None,
        detach: bool = False,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        max_output_bytes: int | None = None,
        shell: str | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
        cpu_percent: int | None = None,
        memory_mib: int | None = None,
        open_file_count: int | None = None,
        process_count: int | None = None,
    ) -> ExecResult:
        """Run a command in a workspace.

        Args:
            workspace: Its id or name.
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            detach: Let it run on without a caller; its output is in the journal.
            env: Variables for this command, over those of the workspace.
            max_output_bytes: The most bytes of output in the result, both streams together; 1
                MiB unless said otherwise. A `continuation` gets the rest.
            shell: Instead of `argv`: a text for a login shell, which runs as `sh -lc TEXT`.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
            cpu_percent: Processor time, in hundredths of one processor: 150 is one and a half.
                1 to 3200.
            memory_mib: Memory in MiB, 4 to 262144.
            open_file_count: Files that each of its processes may have open, 16 to 1048576.
            process_count: Processes and threads at once, 1 to 1000000.
        """
        result = await self._perform("workspace_exec", request(
            workspace=workspace,
            argv=argv_of(argv),
            cwd=cwd,
            detach=detach,
            env=env_of(env),
            max_output_bytes=max_output_bytes,
            shell=shell,
            timeout_seconds=timeout_seconds,
            user=user,
            limits=request(
                cpu_percent=cpu_percent,
                memory_mib=memory_mib,
                open_file_count=open_file_count,
                process_count=process_count,
            ),
        ))
        return ExecResult.from_json(result)

    async def logs_workspace(
        self,
        workspace: str,
        *,
        grep: str | None = None,
        max_output_bytes: int | None = None,
        sequence: int | None = None,
        since: str | None = None,
        tail: int | None = None,
    ) -> list[JournalCommand]:
        """Show the commands that ran in a workspace, with their output.

        Args:
            workspace: Its id or name.
            grep: Only lines that match this regular expression, of the commands that have such.
            max_output_bytes: The most bytes of output of each command; 64 KiB unless said
                otherwise.
            sequence: Only this command.
            since: Only commands that were started at this moment or later.
            tail: Only the last so many commands.
        """
        result = await self._perform("workspace_logs", request(
            workspace=workspace,
            grep=grep,
            max_output_bytes=max_output_bytes,
            sequence=sequence,
            since=since,
            tail=tail,
        ))
        return [JournalCommand.from_json(item) for item in result]

    async def output_workspace(
        self,
        workspace: str,
        *,
        continuation: str | None = None,
        max_output_bytes: int | None = None,
        position: int | None = None,
        sequence: int | None = None,
        stream: Stream | Literal["stdout", "stderr"] | None = None,
        wait_seconds: int | None = None,
    ) -> OutputPage:
        """Read a command's output from anywhere in it, or go on where an answer was cut off.

        Args:
            workspace: Its id or name.
            continuation: Go on where an answer with this `continuation` ended. Or else:
            max_output_bytes: The most bytes of output; 1 MiB unless said otherwise.
            position: Begin after so many bytes, counted over both streams; 0 unless said
                otherwise.
            sequence: The number of the command.
            stream: Only this stream.
            wait_seconds: If there is nothing more yet and the command still runs, wait so long
                for more.
        """
        result = await self._perform("workspace_output", request(
            workspace=workspace,
            continuation=continuation,
            max_output_bytes=max_output_bytes,
            position=position,
            sequence=sequence,
            stream=stream,
            wait_seconds=wait_seconds,
        ))
        return OutputPage.from_json(result)

    async def events_workspace(
        self,
        workspace: str,
        *,
        after: int = 0,
        since: str | None = None,
        tail: int | None = None,
        wait_seconds: int | None = None,
    ) -> list[Event]:
        """Show everything that happened in a workspace, and who asked for it.

        Args:
            workspace: Its id or name.
            after: Only those with a higher number.
            since: Only those of this moment or later.
            tail: Only the last so many; an answer has at most ten thousand.
            wait_seconds: If there is nothing yet and the workspace runs, wait so long for
                something to happen.
        """
        result = await self._perform("workspace_events", request(
            workspace=workspace,
            after=after,
            since=since,
            tail=tail,
            wait_seconds=wait_seconds,
        ))
        return [Event.from_json(item) for item in result]

    async def summary_workspace(self, workspace: str) -> WorkspaceSummary:
        """Sum up what was done in a workspace, for somebody who has to judge it.

        Args:
            workspace: Its id or name.
        """
        result = await self._perform("workspace_summary", request(workspace=workspace))
        return WorkspaceSummary.from_json(result)

    async def update_workspace(
        self,
        workspace: str,
        *,
        clear_labels: Sequence[str] | None = None,
        clear_name: bool = False,
        clear_ttl: bool = False,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        ttl_seconds: int | None = None,
    ) -> WorkspaceStatus:
        """Change a workspace's name, labels or time to live.

        Args:
            workspace: Its id or name.
            clear_labels: Keys of labels to remove.
            clear_name: Take its name away; its id remains.
            clear_ttl: Let it run without a time to live.
            labels: Labels to set.
            name: A new name. The machine's own host name stays until it is started again.
            ttl_seconds: A new time to live: counted from now if it runs, else from its next
                start.
        """
        result = await self._perform("workspace_update", request(
            workspace=workspace,
            clear_labels=clear_labels,
            clear_name=clear_name,
            clear_ttl=clear_ttl,
            labels=labels,
            name=name,
            ttl_seconds=ttl_seconds,
        ))
        return WorkspaceStatus.from_json(result)

    async def list_workspace_command(
        self,
        workspace: str,
        *,
        all: bool = False,
        tail: int | None = None,
    ) -> list[CommandInfo]:
        """List the commands that run in a workspace, or all that ran.

        Args:
            workspace: Its id or name.
            all: Also those that have ended.
            tail: Only the last so many.
        """
        result = await self._perform("workspace_command_list", request(
            workspace=workspace,
            all=all,
            tail=tail,
        ))
        return [CommandInfo.from_json(item) for item in result]

    async def wait_workspace_command(
        self,
        workspace: str,
        sequence: int,
        *,
        timeout_seconds: int | None = None,
    ) -> ExecResult:
        """Wait until a command has ended, and give its result.

        Args:
            workspace: Its id or name.
            sequence: The number of the command.
            timeout_seconds: Give up after so long; the command runs on.
        """
        result = await self._perform("workspace_command_wait", request(
            workspace=workspace,
            sequence=sequence,
            timeout_seconds=timeout_seconds,
        ))
        return ExecResult.from_json(result)

    async def signal_workspace_command(
        self,
        workspace: str,
        sequence: int,
        *,
        signal: str = "TERM",
    ) -> SignalledCommand:
        """Signal a command and all it started.

        Args:
            workspace: Its id or name.
            sequence: The number of the command.
            signal: Which signal: a name with or without `SIG`, or a number; TERM unless said
                otherwise.
        """
        result = await self._perform("workspace_command_signal", request(
            workspace=workspace,
            sequence=sequence,
            signal=signal,
        ))
        return SignalledCommand.from_json(result)

    async def diff_workspace(
        self,
        workspace: str,
        *,
        max_patch_bytes: int = 1048576,
        patch: bool = False,
    ) -> WorkspaceDiff:
        """Show what changed in /workspace since it was seeded.

        Args:
            workspace: Its id or name.
            max_patch_bytes: The most bytes of patch to give.
            patch: Also give the git patch, which `git apply` takes.
        """
        result = await self._perform("workspace_diff", request(
            workspace=workspace,
            max_patch_bytes=max_patch_bytes,
            patch=patch,
        ))
        return WorkspaceDiff.from_json(result)

    async def apply_workspace(
        self,
        workspace: str,
        *,
        dry_run: bool = False,
        include_git: bool = False,
        merge: bool = False,
        paths: Sequence[str] | None = None,
        to: str | None = None,
        undo: bool = False,
    ) -> Applied:
        """Bring what changed in /workspace back to the directory that it was seeded from.

        Args:
            workspace: Its id or name.
            dry_run: Only tell what would be done.
            include_git: Also what is named `.git`, which can make git run programs and is
                otherwise left alone.
            merge: Where a text file was changed on both sides, merge it as `git merge-file`
                does.
            paths: Only these files and what is in these directories, relative to `/workspace`.
            to: The directory of the host; the one that the workspace was seeded from, unless
                given.
            undo: Take the last apply of this workspace back instead.
        """
        result = await self._perform("workspace_apply", request(
            workspace=workspace,
            dry_run=dry_run,
            include_git=include_git,
            merge=merge,
            paths=paths,
            to=to,
            undo=undo,
        ))
        return Applied.from_json(result)

    async def export_workspace(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        output: str | PathLike[str],
        *,
        force: bool = False,
    ) -> Exported:
        """Copy a file or tree out of a workspace.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            output: Where to put it on the host; `-` for a tar stream.
            force: Replace what stands there.
        """
        result = await self._perform("workspace_export", request(
            workspace=workspace,
            **path_of("path", path),
            output=output,
            force=force,
        ))
        return Exported.from_json(result)

    async def push_workspace_sync(
        self,
        workspace: str,
        source: str,
        *,
        delete: bool = False,
        dest: str = ".",
        dry_run: bool = False,
        exclude: Sequence[str] | None = None,
        include_git: bool = False,
    ) -> Synced:
        """Bring a tree of the host into a workspace, sending what changed.

        Args:
            workspace: Its id or name.
            source: What to bring: a directory of the host, or a .tar, .tar.gz or .tar.zst
                archive.
            delete: Remove from the target what the source does not have. Never what is
                excluded.
            dest: The directory that it becomes, absolute or relative to `/workspace`.
            dry_run: Only tell what would be done.
            exclude: What to leave alone on both sides: patterns in the syntax of .gitignore,
                relative to the tree. A `.pyroignore` in a directory of the host's tree holds
                for all below it.
            include_git: Also sync what is named `.git`, which is otherwise left alone.
        """
        result = await self._perform("workspace_sync_push", request(
            workspace=workspace,
            source=source,
            delete=delete,
            dest=dest,
            dry_run=dry_run,
            exclude=exclude,
            include_git=include_git,
        ))
        return Synced.from_json(result)

    async def pull_workspace_sync(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        dest: str,
        *,
        delete: bool = False,
        dry_run: bool = False,
        exclude: Sequence[str] | None = None,
        force: bool = False,
        include_git: bool = False,
    ) -> Synced:
        """Bring a tree of a workspace to the host, writing what changed.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            dest: The directory of the host that it becomes; made if it does not exist.
            delete: Remove from the target what the source does not have. Never what is
                excluded.
            dry_run: Only tell what would be done.
            exclude: What to leave alone on both sides: patterns in the syntax of .gitignore,
                relative to the tree. A `.pyroignore` in a directory of the host's tree holds
                for all below it.
            force: Also replace and remove files of the host that were changed there since the
                last sync.
            include_git: Also sync what is named `.git`, which is otherwise left alone.
        """
        result = await self._perform("workspace_sync_pull", request(
            workspace=workspace,
            **path_of("path", path),
            dest=dest,
            delete=delete,
            dry_run=dry_run,
            exclude=exclude,
            force=force,
            include_git=include_git,
        ))
        return Synced.from_json(result)

    async def list_workspace_file(
        self,
        workspace: str,
        *,
        continuation: str | None = None,
        gitignore: bool = False,
        glob: Sequence[str] | None = None,
        limit: int = 1000,
        path: str | bytes | PathLike[str] = ".",
        recursive: bool = False,
    ) -> FileList:
        """List files of a workspace, also by patterns and without what git ignores.

        Args:
            workspace: Its id or name.
            continuation: Go on where an earlier list ended: its `continuation`.
            gitignore: Leave out `.git` and what the `.gitignore` files say, those above the
                directory included.
            glob: Only what matches one of these. `*.rs` matches a name in any directory,
                `src/**/*.rs` a path below the listed directory.
            limit: So many entries at most, up to 10,000.
            path: The path; bytes name what is not UTF-8.
            recursive: Also what is in the directories below it.
        """
        result = await self._perform("workspace_file_list", request(
            workspace=workspace,
            continuation=continuation,
            gitignore=gitignore,
            glob=glob,
            limit=limit,
            **path_of("path", path),
            recursive=recursive,
        ))
        return FileList.from_json(result)

    async def stat_workspace_file(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        *,
        follow: bool = False,
    ) -> FileStat:
        """Show what a file of a workspace is: kind, size, mode, time, checksum.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            follow: Look at what a link leads to, instead of the link.
        """
        result = await self._perform("workspace_file_stat", request(
            workspace=workspace,
            **path_of("path", path),
            follow=follow,
        ))
        return FileStat.from_json(result)

    async def read_workspace_file(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        *,
        encoding: EncodingChoice | Literal["auto", "text", "base64"] = "auto",
        lines: str | None = None,
        max_bytes: int = 262144,
        offset: int = 0,
    ) -> FileContent:
        """Read a file of a workspace, or some lines or bytes of it.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            encoding: How the content is to be written in the result.
            lines: Only these lines, counted from 1: `10:20`, `10:` to the end, `:20` from the
                beginning, `10`.
            max_bytes: So many bytes at most, up to 4 MiB.
            offset: From which byte on.
        """
        result = await self._perform("workspace_file_read", request(
            workspace=workspace,
            **path_of("path", path),
            encoding=encoding,
            lines=lines,
            max_bytes=max_bytes,
            offset=offset,
        ))
        return FileContent.from_json(result)

    async def write_workspace_file(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        content: str,
        *,
        create_only: bool = False,
        encoding: Encoding | Literal["text", "base64"] = "text",
        expected_sha256: str | None = None,
        mode: str | None = None,
    ) -> FileWritten:
        """Write a file of a workspace, whole or not at all.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            content: What is to be in it; 16 MiB at most.
            create_only: Write only if there is nothing yet.
            encoding: How that is written.
            expected_sha256: Write only if the file's content has this checksum, as read before.
            mode: Permission bits, in octal: those of the file that is replaced, or 644, if not
                given.
        """
        result = await self._perform("workspace_file_write", request(
            workspace=workspace,
            **path_of("path", path),
            content=content,
            create_only=create_only,
            encoding=encoding,
            expected_sha256=expected_sha256,
            mode=mode,
        ))
        return FileWritten.from_json(result)

    async def edit_workspace_file(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        old: str,
        new: str,
        *,
        all: bool = False,
        expected_sha256: str | None = None,
    ) -> FileEdited:
        """Replace an exact piece of text in a file of a workspace.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            old: The text to replace, exactly as it stands in the file, and there only once.
            new: What to put in its place.
            all: Replace it wherever it stands.
            expected_sha256: Edit only if the file's content has this checksum, as read before.
        """
        result = await self._perform("workspace_file_edit", request(
            workspace=workspace,
            **path_of("path", path),
            old=old,
            new=new,
            all=all,
            expected_sha256=expected_sha256,
        ))
        return FileEdited.from_json(result)

    async def remove_workspace_file(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        *,
        expected_sha256: str | None = None,
        missing_ok: bool = False,
        recursive: bool = False,
    ) -> FileRemoved:
        """Remove a file or directory of a workspace.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            expected_sha256: Remove only if the file's content has this checksum, as read
                before.
            missing_ok: Nothing there is as good.
            recursive: Also a directory that is not empty, with all that is in it.
        """
        result = await self._perform("workspace_file_remove", request(
            workspace=workspace,
            **path_of("path", path),
            expected_sha256=expected_sha256,
            missing_ok=missing_ok,
            recursive=recursive,
        ))
        return FileRemoved.from_json(result)

    async def move_workspace_file(
        self,
        workspace: str,
        from_: str | bytes | PathLike[str],
        to: str | bytes | PathLike[str],
        *,
        force: bool = False,
    ) -> FileMoved:
        """Move or rename a file or directory of a workspace.

        Args:
            workspace: Its id or name.
            from_: The path; bytes name what is not UTF-8.
            to: The path; bytes name what is not UTF-8.
            force: Replace a file that is there.
        """
        result = await self._perform("workspace_file_move", request(
            workspace=workspace,
            **path_of("from", from_),
            **path_of("to", to),
            force=force,
        ))
        return FileMoved.from_json(result)

    async def apply_workspace_patch(
        self,
        workspace: str,
        *,
        directory: str | None = None,
        dry_run: bool = False,
        fuzz: int = 0,
        patch: str | bytes | PathLike[str] = "",
        strip: int | None = None,
    ) -> PatchApplied:
        """Apply a patch to /workspace, all of it or nothing.

        Args:
            workspace: Its id or name.
            directory: Apply it below this directory instead of `/workspace`.
            dry_run: Only find out whether it applies.
            fuzz: How many lines of context around a change may differ from the file's.
            patch: The path; bytes name what is not UTF-8.
            strip: Take so many names from the front of each path; found out if not given.
        """
        result = await self._perform("workspace_patch_apply", request(
            workspace=workspace,
            directory=directory,
            dry_run=dry_run,
            fuzz=fuzz,
            **path_of("patch", patch),
            strip=strip,
        ))
        return PatchApplied.from_json(result)

    async def open_workspace_shell(
        self,
        workspace: str,
        argv: str | Sequence[str] | None = None,
        *,
        cols: int = 80,
        cwd: str | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        name: str | None = None,
        rows: int = 24,
        user: str | None = None,
    ) -> ShellInfo:
        """Open a terminal in a workspace that outlives its client, and start a shell or command on
        it.

        Args:
            workspace: The workspace's id or name.
            argv: What to run on the terminal, exactly; the user's login shell if empty. One
                string is a script, run by `sh -lc`.
            cols: Columns of the terminal, 2 to 500.
            cwd: Where to run it, absolute or relative to `/workspace`.
            env: Variables for it, over those of the workspace.
            name: A name to find it by; unique among the workspace's running shells.
            rows: Rows of the terminal, 2 to 300.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
        """
        result = await self._perform("workspace_shell_open", request(
            workspace=workspace,
            argv=argv_of(argv),
            cols=cols,
            cwd=cwd,
            env=env_of(env),
            name=name,
            rows=rows,
            user=user,
        ))
        return ShellInfo.from_json(result)

    async def list_workspace_shell(self, workspace: str) -> list[ShellInfo]:
        """List the shells of a workspace, also those that have closed.

        Args:
            workspace: Its id or name.
        """
        result = await self._perform("workspace_shell_list", request(workspace=workspace))
        return [ShellInfo.from_json(item) for item in result]

    async def read_workspace_shell(
        self,
        workspace: str,
        shell: str,
        *,
        cursor: int | None = None,
        max_chars: int = 20000,
        plain: bool = False,
        raw: bool = False,
        timeout_ms: int = 30000,
        wait_for_idle_ms: int | None = None,
    ) -> ShellOutput:
        """Read what a shell has shown since a cursor, or its screen as text.

        Args:
            workspace: The workspace's id or name.
            shell: The shell's id or name.
            cursor: From which byte of its output on: the `next_cursor` of another read, or the
                `cursor` of a write; its beginning by default.
            max_chars: The most characters to return, up to 100000.
            plain: The screen as a person would see it now, as text, instead of what was shown
                since the cursor.
            raw: Keep control sequences (colours, movements), which are left out by default.
            timeout_ms: The longest to wait for that.
            wait_for_idle_ms: First wait until nothing new was shown for this long.
        """
        result = await self._perform("workspace_shell_read", request(
            workspace=workspace,
            shell=shell,
            cursor=cursor,
            max_chars=max_chars,
            plain=plain,
            raw=raw,
            timeout_ms=timeout_ms,
            wait_for_idle_ms=wait_for_idle_ms,
        ))
        return ShellOutput.from_json(result)

    async def write_workspace_shell(
        self,
        workspace: str,
        shell: str,
        *,
        data_base64: str | None = None,
        enter: bool = False,
        keys: Sequence[str] | None = None,
        text: str | None = None,
        timeout_ms: int = 10000,
    ) -> ShellWritten:
        """Type text or press keys in a shell.

        Args:
            workspace: The workspace's id or name.
            shell: The shell's id or name.
            data_base64: Bytes to type, in base64, instead of text.
            enter: Press Enter at the end.
            keys: Keys to press after that, by name: `enter`, `ctrl-c`, `up`, `escape`, `alt-x`,
                `f1`.
            text: Text to type, as it is.
            timeout_ms: The longest to wait for the terminal to take it all.
        """
        result = await self._perform("workspace_shell_write", request(
            workspace=workspace,
            shell=shell,
            data_base64=data_base64,
            enter=enter,
            keys=keys,
            text=text,
            timeout_ms=timeout_ms,
        ))
        return ShellWritten.from_json(result)

    async def resize_workspace_shell(
        self,
        workspace: str,
        shell: str,
        cols: int,
        rows: int,
    ) -> ShellInfo:
        """Give a shell's terminal another size.

        Args:
            workspace: The workspace's id or name.
            shell: The shell's id or name.
            cols: Columns, 2 to 500.
            rows: Rows, 2 to 300.
        """
        result = await self._perform("workspace_shell_resize", request(
            workspace=workspace,
            shell=shell,
            cols=cols,
            rows=rows,
        ))
        return ShellInfo.from_json(result)

    async def signal_workspace_shell(self, workspace: str, shell: str, signal: str) -> ShellInfo:
        """Signal what runs in the foreground of a shell.

        Args:
            workspace: The workspace's id or name.
            shell: The shell's id or name.
            signal: Which signal: a name with or without `SIG`, or a number.
        """
        result = await self._perform("workspace_shell_signal", request(
            workspace=workspace,
            shell=shell,
            signal=signal,
        ))
        return ShellInfo.from_json(result)

    async def close_workspace_shell(self, workspace: str, shell: str) -> ShellInfo:
        """End everything that runs in a shell; a shell that has closed is taken off the list.

        Args:
            workspace: The workspace's id or name.
            shell: The shell's id or name.
        """
        result = await self._perform("workspace_shell_close", request(
            workspace=workspace,
            shell=shell,
        ))
        return ShellInfo.from_json(result)

    async def list_workspace_disk(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        *,
        max_entries: int = 10000,
        recursive: bool = False,
    ) -> DiskListing:
        """List a directory of a stopped workspace's disk, without starting it.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            max_entries: The most entries to give.
            recursive: Also what is in the directories below it.
        """
        result = await self._perform("workspace_disk_list", request(
            workspace=workspace,
            **path_of("path", path),
            max_entries=max_entries,
            recursive=recursive,
        ))
        return DiskListing.from_json(result)

    async def read_workspace_disk(
        self,
        workspace: str,
        path: str | bytes | PathLike[str],
        *,
        max_bytes: int = 1048576,
        offset: int = 0,
    ) -> DiskFile:
        """Read a file of a stopped workspace's disk, without starting it.

        Args:
            workspace: Its id or name.
            path: The path; bytes name what is not UTF-8.
            max_bytes: The most bytes to give.
            offset: Where to begin, in bytes.
        """
        result = await self._perform("workspace_disk_read", request(
            workspace=workspace,
            **path_of("path", path),
            max_bytes=max_bytes,
            offset=offset,
        ))
        return DiskFile.from_json(result)

    async def export_workspace_disk(
        self,
        workspace: str,
        output: str | PathLike[str],
        *,
        force: bool = False,
    ) -> DiskImage:
        """Write the disk of a stopped workspace as one ext4 image.

        Args:
            workspace: Its id or name.
            output: Where to put the image on the host.
            force: Replace what stands there.
        """
        result = await self._perform("workspace_disk_export", request(
            workspace=workspace,
            output=output,
            force=force,
        ))
        return DiskImage.from_json(result)

    async def setup_firecracker(self) -> InstalledProgram:
        """Fetch the release of Firecracker that pyro works with, verified by its digest."""
        result = await self._perform("setup_firecracker", request())
        return InstalledProgram.from_json(result)

    async def doctor(self, *, fix: bool = False) -> list[Check]:
        """Check what this host offers, and say how to mend what is missing.

        Args:
            fix: Run the commands that mend what is missing.
        """
        result = await self._perform("doctor", request(fix=fix))
        return [Check.from_json(item) for item in result]


class AsyncWorkspaceOperations(ABC):
    """The operations on one workspace."""

    @abstractmethod
    async def _perform(self, operation: str, request: dict[str, Any]) -> Any: ...

    @abstractmethod
    async def _start(self, request: dict[str, Any], stdin: bytes | str | bool) -> AsyncCommand: ...

    @property
    @abstractmethod
    def id(self) -> str:
        """The permanent id."""

    async def status(self) -> WorkspaceStatus:
        """Show one workspace."""
        result = await self._perform("workspace_status", request(workspace=self.id))
        return WorkspaceStatus.from_json(result)

    async def start(self) -> WorkspaceStatus:
        """Start a stopped workspace on its kept disk."""
        result = await self._perform("workspace_start", request(workspace=self.id))
        return WorkspaceStatus.from_json(result)

    async def stop(self) -> WorkspaceStatus:
        """Stop a workspace: end its processes, flush and keep its disk."""
        result = await self._perform("workspace_stop", request(workspace=self.id))
        return WorkspaceStatus.from_json(result)

    async def pause(self) -> WorkspaceStatus:
        """Hold a workspace still, with all that runs in it; its memory stays."""
        result = await self._perform("workspace_pause", request(workspace=self.id))
        return WorkspaceStatus.from_json(result)

    async def resume(self) -> WorkspaceStatus:
        """Let a paused workspace go on where it was."""
        result = await self._perform("workspace_resume", request(workspace=self.id))
        return WorkspaceStatus.from_json(result)

    async def delete(self) -> Deleted:
        """Delete a workspace and everything in it."""
        result = await self._perform("workspace_delete", request(workspace=self.id))
        return Deleted.from_json(result)

    async def run(
        self,
        argv: str | Sequence[str] | None = None,
        *,
        cwd: str | None = None,
        detach: bool = False,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        max_output_bytes: int | None = None,
        shell: str | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
        cpu_percent: int | None = None,
        memory_mib: int | None = None,
        open_file_count: int | None = None,
        process_count: int | None = None,
    ) -> ExecResult:
        """Run a command in a workspace.

        Args:
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            detach: Let it run on without a caller; its output is in the journal.
            env: Variables for this command, over those of the workspace.
            max_output_bytes: The most bytes of output in the result, both streams together; 1
                MiB unless said otherwise. A `continuation` gets the rest.
            shell: Instead of `argv`: a text for a login shell, which runs as `sh -lc TEXT`.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
            cpu_percent: Processor time, in hundredths of one processor: 150 is one and a half.
                1 to 3200.
            memory_mib: Memory in MiB, 4 to 262144.
            open_file_count: Files that each of its processes may have open, 16 to 1048576.
            process_count: Processes and threads at once, 1 to 1000000.
        """
        result = await self._perform("workspace_exec", request(
            workspace=self.id,
            argv=argv_of(argv),
            cwd=cwd,
            detach=detach,
            env=env_of(env),
            max_output_bytes=max_output_bytes,
            shell=shell,
            timeout_seconds=timeout_seconds,
            user=user,
            limits=request(
                cpu_percent=cpu_percent,
                memory_mib=memory_mib,
                open_file_count=open_file_count,
                process_count=process_count,
            ),
        ))
        return ExecResult.from_json(result)

    async def exec(
        self,
        argv: str | Sequence[str] | None = None,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        max_output_bytes: int | None = None,
        shell: str | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
        cpu_percent: int | None = None,
        memory_mib: int | None = None,
        open_file_count: int | None = None,
        process_count: int | None = None,
        stdin: bytes | str | bool = False,
    ) -> AsyncCommand:
        """Start a command in a workspace, and listen to it while it runs.

        Args:
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            env: Variables for this command, over those of the workspace.
            max_output_bytes: The most bytes of output in the result, both streams together; 1
                MiB unless said otherwise. A `continuation` gets the rest.
            shell: Instead of `argv`: a text for a login shell, which runs as `sh -lc TEXT`.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
            cpu_percent: Processor time, in hundredths of one processor: 150 is one and a half.
                1 to 3200.
            memory_mib: Memory in MiB, 4 to 262144.
            open_file_count: Files that each of its processes may have open, 16 to 1048576.
            process_count: Processes and threads at once, 1 to 1000000.
            stdin: Its input, whole; or true to send it with `write` as it goes.
        """
        return await self._start(request(
            workspace=self.id,
            argv=argv_of(argv),
            cwd=cwd,
            env=env_of(env),
            max_output_bytes=max_output_bytes,
            shell=shell,
            timeout_seconds=timeout_seconds,
            user=user,
            limits=request(
                cpu_percent=cpu_percent,
                memory_mib=memory_mib,
                open_file_count=open_file_count,
                process_count=process_count,
            ),
        ), stdin)

    async def logs(
        self,
        *,
        grep: str | None = None,
        max_output_bytes: int | None = None,
        sequence: int | None = None,
        since: str | None = None,
        tail: int | None = None,
    ) -> list[JournalCommand]:
        """Show the commands that ran in a workspace, with their output.

        Args:
            grep: Only lines that match this regular expression, of the commands that have such.
            max_output_bytes: The most bytes of output of each command; 64 KiB unless said
                otherwise.
            sequence: Only this command.
            since: Only commands that were started at this moment or later.
            tail: Only the last so many commands.
        """
        result = await self._perform("workspace_logs", request(
            workspace=self.id,
            grep=grep,
            max_output_bytes=max_output_bytes,
            sequence=sequence,
            since=since,
            tail=tail,
        ))
        return [JournalCommand.from_json(item) for item in result]

    async def output(
        self,
        *,
        continuation: str | None = None,
        max_output_bytes: int | None = None,
        position: int | None = None,
        sequence: int | None = None,
        stream: Stream | Literal["stdout", "stderr"] | None = None,
        wait_seconds: int | None = None,
    ) -> OutputPage:
        """Read a command's output from anywhere in it, or go on where an answer was cut off.

        Args:
            continuation: Go on where an answer with this `continuation` ended. Or else:
            max_output_bytes: The most bytes of output; 1 MiB unless said otherwise.
            position: Begin after so many bytes, counted over both streams; 0 unless said
                otherwise.
            sequence: The number of the command.
            stream: Only this stream.
            wait_seconds: If there is nothing more yet and the command still runs, wait so long
                for more.
        """
        result = await self._perform("workspace_output", request(
            workspace=self.id,
            continuation=continuation,
            max_output_bytes=max_output_bytes,
            position=position,
            sequence=sequence,
            stream=stream,
            wait_seconds=wait_seconds,
        ))
        return OutputPage.from_json(result)

    async def events(
        self,
        *,
        after: int = 0,
        since: str | None = None,
        tail: int | None = None,
        wait_seconds: int | None = None,
    ) -> list[Event]:
        """Show everything that happened in a workspace, and who asked for it.

        Args:
            after: Only those with a higher number.
            since: Only those of this moment or later.
            tail: Only the last so many; an answer has at most ten thousand.
            wait_seconds: If there is nothing yet and the workspace runs, wait so long for
                something to happen.
        """
        result = await self._perform("workspace_events", request(
            workspace=self.id,
            after=after,
            since=since,
            tail=tail,
            wait_seconds=wait_seconds,
        ))
        return [Event.from_json(item) for item in result]

    async def summary(self) -> WorkspaceSummary:
        """Sum up what was done in a workspace, for somebody who has to judge it."""
        result = await self._perform("workspace_summary", request(workspace=self.id))
        return WorkspaceSummary.from_json(result)

    async def update(
        self,
        *,
        clear_labels: Sequence[str] | None = None,
        clear_name: bool = False,
        clear_ttl: bool = False,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        ttl_seconds: int | None = None,
    ) -> WorkspaceStatus:
        """Change a workspace's name, labels or time to live.

        Args:
            clear_labels: Keys of labels to remove.
            clear_name: Take its name away; its id remains.
            clear_ttl: Let it run without a time to live.
            labels: Labels to set.
            name: A new name. The machine's own host name stays until it is started again.
            ttl_seconds: A new time to live: counted from now if it runs, else from its next
                start.
        """
        result = await self._perform("workspace_update", request(
            workspace=self.id,
            clear_labels=clear_labels,
            clear_name=clear_name,
            clear_ttl=clear_ttl,
            labels=labels,
            name=name,
            ttl_seconds=ttl_seconds,
        ))
        return WorkspaceStatus.from_json(result)

    async def list_command(
        self,
        *,
        all: bool = False,
        tail: int | None = None,
    ) -> list[CommandInfo]:
        """List the commands that run in a workspace, or all that ran.

        Args:
            all: Also those that have ended.
            tail: Only the last so many.
        """
        result = await self._perform("workspace_command_list", request(
            workspace=self.id,
            all=all,
            tail=tail,
        ))
        return [CommandInfo.from_json(item) for item in result]

    async def wait_command(
        self,
        sequence: int,
        *,
        timeout_seconds: int | None = None,
    ) -> ExecResult:
        """Wait until a command has ended, and give its result.

        Args:
            sequence: The number of the command.
            timeout_seconds: Give up after so long; the command runs on.
        """
        result = await self._perform("workspace_command_wait", request(
            workspace=self.id,
            sequence=sequence,
            timeout_seconds=timeout_seconds,
        ))
        return ExecResult.from_json(result)

    async def signal_command(self, sequence: int, *, signal: str = "TERM") -> SignalledCommand:
        """Signal a command and all it started.

        Args:
            sequence: The number of the command.
            signal: Which signal: a name with or without `SIG`, or a number; TERM unless said
                otherwise.
        """
        result = await self._perform("workspace_command_signal", request(
            workspace=self.id,
            sequence=sequence,
            signal=signal,
        ))
        return SignalledCommand.from_json(result)

    async def diff(self, *, max_patch_bytes: int = 67108864, patch: bool = True) -> WorkspaceDiff:
        """Show what changed in /workspace since it was seeded.

        Args:
            max_patch_bytes: The most bytes of patch to give.
            patch: Also give the git patch, which `git apply` takes.
        """
        result = await self._perform("workspace_diff", request(
            workspace=self.id,
            max_patch_bytes=max_patch_bytes,
            patch=patch,
        ))
        return WorkspaceDiff.from_json(result)

    async def apply(
        self,
        *,
        dry_run: bool = False,
        include_git: bool = False,
        merge: bool = False,
        paths: Sequence[str] | None = None,
        to: str | None = None,
        undo: bool = False,
    ) -> Applied:
        """Bring what changed in /workspace back to the directory that it was seeded from.

        Args:
            dry_run: Only tell what would be done.
            include_git: Also what is named `.git`, which can make git run programs and is
                otherwise left alone.
            merge: Where a text file was changed on both sides, merge it as `git merge-file`
                does.
            paths: Only these files and what is in these directories, relative to `/workspace`.
            to: The directory of the host; the one that the workspace was seeded from, unless
                given.
            undo: Take the last apply of this workspace back instead.
        """
        result = await self._perform("workspace_apply", request(
            workspace=self.id,
            dry_run=dry_run,
            include_git=include_git,
            merge=merge,
            paths=paths,
            to=to,
            undo=undo,
        ))
        return Applied.from_json(result)

    async def export(
        self,
        path: str | bytes | PathLike[str],
        output: str | PathLike[str],
        *,
        force: bool = False,
    ) -> Exported:
        """Copy a file or tree out of a workspace.

        Args:
            path: The path; bytes name what is not UTF-8.
            output: Where to put it on the host; `-` for a tar stream.
            force: Replace what stands there.
        """
        result = await self._perform("workspace_export", request(
            workspace=self.id,
            **path_of("path", path),
            output=output,
            force=force,
        ))
        return Exported.from_json(result)

    async def push_sync(
        self,
        source: str,
        *,
        delete: bool = False,
        dest: str = ".",
        dry_run: bool = False,
        exclude: Sequence[str] | None = None,
        include_git: bool = False,
    ) -> Synced:
        """Bring a tree of the host into a workspace, sending what changed.

        Args:
            source: What to bring: a directory of the host, or a .tar, .tar.gz or .tar.zst
                archive.
            delete: Remove from the target what the source does not have. Never what is
                excluded.
            dest: The directory that it becomes, absolute or relative to `/workspace`.
            dry_run: Only tell what would be done.
            exclude: What to leave alone on both sides: patterns in the syntax of .gitignore,
                relative to the tree. A `.pyroignore` in a directory of the host's tree holds
                for all below it.
            include_git: Also sync what is named `.git`, which is otherwise left alone.
        """
        result = await self._perform("workspace_sync_push", request(
            workspace=self.id,
            source=source,
            delete=delete,
            dest=dest,
            dry_run=dry_run,
            exclude=exclude,
            include_git=include_git,
        ))
        return Synced.from_json(result)

    async def pull_sync(
        self,
        path: str | bytes | PathLike[str],
        dest: str,
        *,
        delete: bool = False,
        dry_run: bool = False,
        exclude: Sequence[str] | None = None,
        force: bool = False,
        include_git: bool = False,
    ) -> Synced:
        """Bring a tree of a workspace to the host, writing what changed.

        Args:
            path: The path; bytes name what is not UTF-8.
            dest: The directory of the host that it becomes; made if it does not exist.
            delete: Remove from the target what the source does not have. Never what is
                excluded.
            dry_run: Only tell what would be done.
            exclude: What to leave alone on both sides: patterns in the syntax of .gitignore,
                relative to the tree. A `.pyroignore` in a directory of the host's tree holds
                for all below it.
            force: Also replace and remove files of the host that were changed there since the
                last sync.
            include_git: Also sync what is named `.git`, which is otherwise left alone.
        """
        result = await self._perform("workspace_sync_pull", request(
            workspace=self.id,
            **path_of("path", path),
            dest=dest,
            delete=delete,
            dry_run=dry_run,
            exclude=exclude,
            force=force,
            include_git=include_git,
        ))
        return Synced.from_json(result)

    async def list_file(
        self,
        *,
        continuation: str | None = None,
        gitignore: bool = False,
        glob: Sequence[str] | None = None,
        limit: int = 1000,
        path: str | bytes | PathLike[str] = ".",
        recursive: bool = False,
    ) -> FileList:
        """List files of a workspace, also by patterns and without what git ignores.

        Args:
            continuation: Go on where an earlier list ended: its `continuation`.
            gitignore: Leave out `.git` and what the `.gitignore` files say, those above the
                directory included.
            glob: Only what matches one of these. `*.rs` matches a name in any directory,
                `src/**/*.rs` a path below the listed directory.
            limit: So many entries at most, up to 10,000.
            path: The path; bytes name what is not UTF-8.
            recursive: Also what is in the directories below it.
        """
        result = await self._perform("workspace_file_list", request(
            workspace=self.id,
            continuation=continuation,
            gitignore=gitignore,
            glob=glob,
            limit=limit,
            **path_of("path", path),
            recursive=recursive,
        ))
        return FileList.from_json(result)

    async def stat_file(
        self,
        path: str | bytes | PathLike[str],
        *,
        follow: bool = False,
    ) -> FileStat:
        """Show what a file of a workspace is: kind, size, mode, time, checksum.

        Args:
            path: The path; bytes name what is not UTF-8.
            follow: Look at what a link leads to, instead of the link.
        """
        result = await self._perform("workspace_file_stat", request(
            workspace=self.id,
            **path_of("path", path),
            follow=follow,
        ))
        return FileStat.from_json(result)

    async def read_file(
        self,
        path: str | bytes | PathLike[str],
        *,
        encoding: EncodingChoice | Literal["auto", "text", "base64"] = "auto",
        lines: str | None = None,
        max_bytes: int = 262144,
        offset: int = 0,
    ) -> FileContent:
        """Read a file of a workspace, or some lines or bytes of it.

        Args:
            path: The path; bytes name what is not UTF-8.
            encoding: How the content is to be written in the result.
            lines: Only these lines, counted from 1: `10:20`, `10:` to the end, `:20` from the
                beginning, `10`.
            max_bytes: So many bytes at most, up to 4 MiB.
            offset: From which byte on.
        """
        result = await self._perform("workspace_file_read", request(
            workspace=self.id,
            **path_of("path", path),
            encoding=encoding,
            lines=lines,
            max_bytes=max_bytes,
            offset=offset,
        ))
        return FileContent.from_json(result)

    async def write_file(
        self,
        path: str | bytes | PathLike[str],
        content: str,
        *,
        create_only: bool = False,
        encoding: Encoding | Literal["text", "base64"] = "text",
        expected_sha256: str | None = None,
        mode: str | None = None,
    ) -> FileWritten:
        """Write a file of a workspace, whole or not at all.

        Args:
            path: The path; bytes name what is not UTF-8.
            content: What is to be in it; 16 MiB at most.
            create_only: Write only if there is nothing yet.
            encoding: How that is written.
            expected_sha256: Write only if the file's content has this checksum, as read before.
            mode: Permission bits, in octal: those of the file that is replaced, or 644, if not
                given.
        """
        result = await self._perform("workspace_file_write", request(
            workspace=self.id,
            **path_of("path", path),
            content=content,
            create_only=create_only,
            encoding=encoding,
            expected_sha256=expected_sha256,
            mode=mode,
        ))
        return FileWritten.from_json(result)

    async def edit_file(
        self,
        path: str | bytes | PathLike[str],
        old: str,
        new: str,
        *,
        all: bool = False,
        expected_sha256: str | None = None,
    ) -> FileEdited:
        """Replace an exact piece of text in a file of a workspace.

        Args:
            path: The path; bytes name what is not UTF-8.
            old: The text to replace, exactly as it stands in the file, and there only once.
            new: What to put in its place.
            all: Replace it wherever it stands.
            expected_sha256: Edit only if the file's content has this checksum, as read before.
        """
        result = await self._perform("workspace_file_edit", request(
            workspace=self.id,
            **path_of("path", path),
            old=old,
            new=new,
            all=all,
            expected_sha256=expected_sha256,
        ))
        return FileEdited.from_json(result)

    async def remove_file(
        self,
        path: str | bytes | PathLike[str],
        *,
        expected_sha256: str | None = None,
        missing_ok: bool = False,
        recursive: bool = False,
    ) -> FileRemoved:
        """Remove a file or directory of a workspace.

        Args:
            path: The path; bytes name what is not UTF-8.
            expected_sha256: Remove only if the file's content has this checksum, as read
                before.
            missing_ok: Nothing there is as good.
            recursive: Also a directory that is not empty, with all that is in it.
        """
        result = await self._perform("workspace_file_remove", request(
            workspace=self.id,
            **path_of("path", path),
            expected_sha256=expected_sha256,
            missing_ok=missing_ok,
            recursive=recursive,
        ))
        return FileRemoved.from_json(result)

    async def move_file(
        self,
        from_: str | bytes | PathLike[str],
        to: str | bytes | PathLike[str],
        *,
        force: bool = False,
    ) -> FileMoved:
        """Move or rename a file or directory of a workspace.

        Args:
            from_: The path; bytes name what is not UTF-8.
            to: The path; bytes name what is not UTF-8.
            force: Replace a file that is there.
        """
        result = await self._perform("workspace_file_move", request(
            workspace=self.id,
            **path_of("from", from_),
            **path_of("to", to),
            force=force,
        ))
        return FileMoved.from_json(result)

    async def apply_patch(
        self,
        *,
        directory: str | None = None,
        dry_run: bool = False,
        fuzz: int = 0,
        patch: str | bytes | PathLike[str] = "",
        strip: int | None = None,
    ) -> PatchApplied:
        """Apply a patch to /workspace, all of it or nothing.

        Args:
            directory: Apply it below this directory instead of `/workspace`.
            dry_run: Only find out whether it applies.
            fuzz: How many lines of context around a change may differ from the file's.
            patch: The path; bytes name what is not UTF-8.
            strip: Take so many names from the front of each path; found out if not given.
        """
        result = await self._perform("workspace_patch_apply", request(
            workspace=self.id,
            directory=directory,
            dry_run=dry_run,
            fuzz=fuzz,
            **path_of("patch", patch),
            strip=strip,
        ))
        return PatchApplied.from_json(result)

    async def open_shell(
        self,
        argv: str | Sequence[str] | None = None,
        *,
        cols: int = 80,
        cwd: str | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        name: str | None = None,
        rows: int = 24,
        user: str | None = None,
    ) -> ShellInfo:
        """Open a terminal in a workspace that outlives its client, and start a shell or command on
        it.

        Args:
            argv: What to run on the terminal, exactly; the user's login shell if empty. One
                string is a script, run by `sh -lc`.
            cols: Columns of the terminal, 2 to 500.
            cwd: Where to run it, absolute or relative to `/workspace`.
            env: Variables for it, over those of the workspace.
            name: A name to find it by; unique among the workspace's running shells.
            rows: Rows of the terminal, 2 to 300.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
        """
        result = await self._perform("workspace_shell_open", request(
            workspace=self.id,
            argv=argv_of(argv),
            cols=cols,
            cwd=cwd,
            env=env_of(env),
            name=name,
            rows=rows,
            user=user,
        ))
        return ShellInfo.from_json(result)

    async def list_shell(self) -> list[ShellInfo]:
        """List the shells of a workspace, also those that have closed."""
        result = await self._perform("workspace_shell_list", request(workspace=self.id))
        return [ShellInfo.from_json(item) for item in result]

    async def read_shell(
        self,
        shell: str,
        *,
        cursor: int | None = None,
        max_chars: int = 20000,
        plain: bool = False,
        raw: bool = False,
        timeout_ms: int = 30000,
        wait_for_idle_ms: int | None = None,
    ) -> ShellOutput:
        """Read what a shell has shown since a cursor, or its screen as text.

        Args:
            shell: The shell's id or name.
            cursor: From which byte of its output on: the `next_cursor` of another read, or the
                `cursor` of a write; its beginning by default.
            max_chars: The most characters to return, up to 100000.
            plain: The screen as a person would see it now, as text, instead of what was shown
                since the cursor.
            raw: Keep control sequences (colours, movements), which are left out by default.
            timeout_ms: The longest to wait for that.
            wait_for_idle_ms: First wait until nothing new was shown for this long.
        """
        result = await self._perform("workspace_shell_read", request(
            workspace=self.id,
            shell=shell,
            cursor=cursor,
            max_chars=max_chars,
            plain=plain,
            raw=raw,
            timeout_ms=timeout_ms,
            wait_for_idle_ms=wait_for_idle_ms,
        ))
        return ShellOutput.from_json(result)

    async def write_shell(
        self,
        shell: str,
        *,
        data_base64: str | None = None,
        enter: bool = False,
        keys: Sequence[str] | None = None,
        text: str | None = None,
        timeout_ms: int = 10000,
    ) -> ShellWritten:
        """Type text or press keys in a shell.

        Args:
            shell: The shell's id or name.
            data_base64: Bytes to type, in base64, instead of text.
            enter: Press Enter at the end.
            keys: Keys to press after that, by name: `enter`, `ctrl-c`, `up`, `escape`, `alt-x`,
                `f1`.
            text: Text to type, as it is.
            timeout_ms: The longest to wait for the terminal to take it all.
        """
        result = await self._perform("workspace_shell_write", request(
            workspace=self.id,
            shell=shell,
            data_base64=data_base64,
            enter=enter,
            keys=keys,
            text=text,
            timeout_ms=timeout_ms,
        ))
        return ShellWritten.from_json(result)

    async def resize_shell(self, shell: str, cols: int, rows: int) -> ShellInfo:
        """Give a shell's terminal another size.

        Args:
            shell: The shell's id or name.
            cols: Columns, 2 to 500.
            rows: Rows, 2 to 300.
        """
        result = await self._perform("workspace_shell_resize", request(
            workspace=self.id,
            shell=shell,
            cols=cols,
            rows=rows,
        ))
        return ShellInfo.from_json(result)

    async def signal_shell(self, shell: str, signal: str) -> ShellInfo:
        """Signal what runs in the foreground of a shell.

        Args:
            shell: The shell's id or name.
            signal: Which signal: a name with or without `SIG`, or a number.
        """
        result = await self._perform("workspace_shell_signal", request(
            workspace=self.id,
            shell=shell,
            signal=signal,
        ))
        return ShellInfo.from_json(result)

    async def close_shell(self, shell: str) -> ShellInfo:
        """End everything that runs in a shell; a shell that has closed is taken off the list.

        Args:
            shell: The shell's id or name.
        """
        result = await self._perform("workspace_shell_close", request(
            workspace=self.id,
            shell=shell,
        ))
        return ShellInfo.from_json(result)

    async def list_disk(
        self,
        path: str | bytes | PathLike[str],
        *,
        max_entries: int = 10000,
        recursive: bool = False,
    ) -> DiskListing:
        """List a directory of a stopped workspace's disk, without starting it.

        Args:
            path: The path; bytes name what is not UTF-8.
            max_entries: The most entries to give.
            recursive: Also what is in the directories below it.
        """
        result = await self._perform("workspace_disk_list", request(
            workspace=self.id,
            **path_of("path", path),
            max_entries=max_entries,
            recursive=recursive,
        ))
        return DiskListing.from_json(result)

    async def read_disk(
        self,
        path: str | bytes | PathLike[str],
        *,
        max_bytes: int = 1048576,
        offset: int = 0,
    ) -> DiskFile:
        """Read a file of a stopped workspace's disk, without starting it.

        Args:
            path: The path; bytes name what is not UTF-8.
            max_bytes: The most bytes to give.
            offset: Where to begin, in bytes.
        """
        result = await self._perform("workspace_disk_read", request(
            workspace=self.id,
            **path_of("path", path),
            max_bytes=max_bytes,
            offset=offset,
        ))
        return DiskFile.from_json(result)

    async def export_disk(self, output: str | PathLike[str], *, force: bool = False) -> DiskImage:
        """Write the disk of a stopped workspace as one ext4 image.

        Args:
            output: Where to put the image on the host.
            force: Replace what stands there.
        """
        result = await self._perform("workspace_disk_export", request(
            workspace=self.id,
            output=output,
            force=force,
        ))
        return DiskImage.from_json(result)
