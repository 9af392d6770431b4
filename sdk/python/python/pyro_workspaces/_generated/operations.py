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
        argv: str | Sequence[str],
        *,
        engine: EngineChoice | Literal["auto", "firecracker", "qemu", "container"] | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        seed: Seed | str | PathLike[str] | None = None,
        ttl_seconds: int | None = None,
        disk_mib: int | None = None,
        mem_mib: int | None = None,
        vcpu_count: int | None = None,
        cwd: str | None = None,
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
            disk_mib: The most that the machine may write to its disk, in MiB, 64 to 1048576;
                10240 unless the host says otherwise. Space is taken on the host only as it is
                written.
            mem_mib: Memory in MiB, 128 to 262144; 1024 unless the host says otherwise.
            vcpu_count: Virtual CPUs, 1 to 32; 1 unless the host says otherwise.
            cwd: Where to run it, absolute or relative to `/workspace`.
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
            shape=request(disk_mib=disk_mib, mem_mib=mem_mib, vcpu_count=vcpu_count),
            exec=request(argv=argv_of(argv), cwd=cwd, timeout_seconds=timeout_seconds, user=user),
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
        argv: str | Sequence[str],
        *,
        cwd: str | None = None,
        detach: bool = False,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
    ) -> ExecResult:
        """Run a command in a workspace.

        Args:
            workspace: Its id or name.
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            detach: Let it run on without a caller; its output is in the journal.
            env: Variables for this command, over those of the workspace.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
        """
        result = self._perform("workspace_exec", request(
            workspace=workspace,
            argv=argv_of(argv),
            cwd=cwd,
            detach=detach,
            env=env_of(env),
            timeout_seconds=timeout_seconds,
            user=user,
        ))
        return ExecResult.from_json(result)

    def logs_workspace(self, workspace: str, *, tail: int | None = None) -> list[JournalCommand]:
        """Show the commands that ran in a workspace, with their output.

        Args:
            workspace: Its id or name.
            tail: Only the last so many commands.
        """
        result = self._perform("workspace_logs", request(workspace=workspace, tail=tail))
        return [JournalCommand.from_json(item) for item in result]

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
        argv: str | Sequence[str],
        *,
        cwd: str | None = None,
        detach: bool = False,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
    ) -> ExecResult:
        """Run a command in a workspace.

        Args:
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            detach: Let it run on without a caller; its output is in the journal.
            env: Variables for this command, over those of the workspace.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
        """
        result = self._perform("workspace_exec", request(
            workspace=self.id,
            argv=argv_of(argv),
            cwd=cwd,
            detach=detach,
            env=env_of(env),
            timeout_seconds=timeout_seconds,
            user=user,
        ))
        return ExecResult.from_json(result)

    def exec(
        self,
        argv: str | Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
        stdin: bytes | str | bool = False,
    ) -> Command:
        """Start a command in a workspace, and listen to it while it runs.

        Args:
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            env: Variables for this command, over those of the workspace.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
            stdin: Its input, whole; or true to send it with `write` as it goes.
        """
        return self._start(request(
            workspace=self.id,
            argv=argv_of(argv),
            cwd=cwd,
            env=env_of(env),
            timeout_seconds=timeout_seconds,
            user=user,
        ), stdin)

    def logs(self, *, tail: int | None = None) -> list[JournalCommand]:
        """Show the commands that ran in a workspace, with their output.

        Args:
            tail: Only the last so many commands.
        """
        result = self._perform("workspace_logs", request(workspace=self.id, tail=tail))
        return [JournalCommand.from_json(item) for item in result]

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
        argv: str | Sequence[str],
        *,
        engine: EngineChoice | Literal["auto", "firecracker", "qemu", "container"] | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        seed: Seed | str | PathLike[str] | None = None,
        ttl_seconds: int | None = None,
        disk_mib: int | None = None,
        mem_mib: int | None = None,
        vcpu_count: int | None = None,
        cwd: str | None = None,
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
            disk_mib: The most that the machine may write to its disk, in MiB, 64 to 1048576;
                10240 unless the host says otherwise. Space is taken on the host only as it is
                written.
            mem_mib: Memory in MiB, 128 to 262144; 1024 unless the host says otherwise.
            vcpu_count: Virtual CPUs, 1 to 32; 1 unless the host says otherwise.
            cwd: Where to run it, absolute or relative to `/workspace`.
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
            shape=request(disk_mib=disk_mib, mem_mib=mem_mib, vcpu_count=vcpu_count),
            exec=request(argv=argv_of(argv), cwd=cwd, timeout_seconds=timeout_seconds, user=user),
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
        argv: str | Sequence[str],
        *,
        cwd: str | None = None,
        detach: bool = False,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
    ) -> ExecResult:
        """Run a command in a workspace.

        Args:
            workspace: Its id or name.
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            detach: Let it run on without a caller; its output is in the journal.
            env: Variables for this command, over those of the workspace.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
        """
        result = await self._perform("workspace_exec", request(
            workspace=workspace,
            argv=argv_of(argv),
            cwd=cwd,
            detach=detach,
            env=env_of(env),
            timeout_seconds=timeout_seconds,
            user=user,
        ))
        return ExecResult.from_json(result)

    async def logs_workspace(
        self,
        workspace: str,
        *,
        tail: int | None = None,
    ) -> list[JournalCommand]:
        """Show the commands that ran in a workspace, with their output.

        Args:
            workspace: Its id or name.
            tail: Only the last so many commands.
        """
        result = await self._perform("workspace_logs", request(workspace=workspace, tail=tail))
        return [JournalCommand.from_json(item) for item in result]

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
        argv: str | Sequence[str],
        *,
        cwd: str | None = None,
        detach: bool = False,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
    ) -> ExecResult:
        """Run a command in a workspace.

        Args:
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            detach: Let it run on without a caller; its output is in the journal.
            env: Variables for this command, over those of the workspace.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
        """
        result = await self._perform("workspace_exec", request(
            workspace=self.id,
            argv=argv_of(argv),
            cwd=cwd,
            detach=detach,
            env=env_of(env),
            timeout_seconds=timeout_seconds,
            user=user,
        ))
        return ExecResult.from_json(result)

    async def exec(
        self,
        argv: str | Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | Sequence[EnvVar] | None = None,
        timeout_seconds: int | None = None,
        user: str | None = None,
        stdin: bytes | str | bool = False,
    ) -> AsyncCommand:
        """Start a command in a workspace, and listen to it while it runs.

        Args:
            argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
                One string is a script, run by `sh -lc`.
            cwd: Where to run it, absolute or relative to `/workspace`.
            env: Variables for this command, over those of the workspace.
            timeout_seconds: End the command and all it started after this long.
            user: A user of the guest, by name or number, optionally `:group`; root by default.
            stdin: Its input, whole; or true to send it with `write` as it goes.
        """
        return await self._start(request(
            workspace=self.id,
            argv=argv_of(argv),
            cwd=cwd,
            env=env_of(env),
            timeout_seconds=timeout_seconds,
            user=user,
        ), stdin)

    async def logs(self, *, tail: int | None = None) -> list[JournalCommand]:
        """Show the commands that ran in a workspace, with their output.

        Args:
            tail: Only the last so many commands.
        """
        result = await self._perform("workspace_logs", request(workspace=self.id, tail=tail))
        return [JournalCommand.from_json(item) for item in result]

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
