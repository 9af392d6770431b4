# Written by `make reference` from the catalogue of operations; a test fails while it differs from
# them. Do not edit.
"""What operations take and give."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Mapping

from .. import _extras
from .._json import exact_bytes, maybe
from .errors import PyroError, error_from_json


@dataclass(frozen=True)
class Applied:
    """What an apply did, or would do.

    Attributes:
        to: The directory of the host.
        dry_run: True if nothing was done, because that was asked for.
        changes: What was done, ordered by path bytes.
        already: Changes that the host's directory had already.
        skipped: Changes that were left out, and why.
    """

    to: str
    dry_run: bool
    changes: list[ApplyChange]
    already: int
    skipped: list[ApplySkipped] = field(default_factory=list)

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Applied:
        return cls(
            to=json["to"],
            dry_run=json["dry_run"],
            changes=[ApplyChange.from_json(item) for item in json["changes"]],
            already=json["already"],
            skipped=[ApplySkipped.from_json(item) for item in json.get("skipped", [])],
        )


class ApplyAction(str, Enum):
    """What is done with a path.

    Values:
        ADDED: It was made.
        MODIFIED: It was replaced.
        MERGED: It was changed on both sides, and holds both changes now.
        MODE_CHANGED: Only its mode was set.
        DELETED: It was removed.
    """

    ADDED = "added"
    MODIFIED = "modified"
    MERGED = "merged"
    MODE_CHANGED = "mode_changed"
    DELETED = "deleted"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class ApplyChange:
    """One thing done to the host's directory.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        action: What was done.
        path_base64: The exact bytes, if they are not UTF-8.
    """

    path: str
    action: ApplyAction
    path_base64: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ApplyChange:
        return cls(
            path=json["path"],
            action=ApplyAction(json["action"]),
            path_base64=json.get("path_base64"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class ApplySkipped:
    """One change that was left out.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        reason: Why.
        path_base64: The exact bytes, if they are not UTF-8.
    """

    path: str
    reason: str
    path_base64: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ApplySkipped:
        return cls(
            path=json["path"],
            reason=json["reason"],
            path_base64=json.get("path_base64"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class BytePath:
    """A path of any bytes, shown as text where it is text.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        path_base64: The exact bytes, if they are not UTF-8.
    """

    path: str
    path_base64: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> BytePath:
        return cls(
            path=json["path"],
            path_base64=json.get("path_base64"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


class Change(str, Enum):
    """How a path differs.

    Values:
        ADDED: It was not there.
        MODIFIED: The bytes, or the target of a link, differ.
        DELETED: It is gone.
        TYPE_CHANGED: It became another kind of thing.
        MODE_CHANGED: Only its mode differs.
    """

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    TYPE_CHANGED = "type_changed"
    MODE_CHANGED = "mode_changed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class ChangedFiles:
    """How `/workspace` differs from the seed.

    Attributes:
        added: Files that are new.
        modified: Files whose content, mode or kind changed.
        deleted: Files that are gone.
        files: The first hundred, each with what became of it.
    """

    added: int
    modified: int
    deleted: int
    files: list[str]

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ChangedFiles:
        return cls(
            added=json["added"],
            modified=json["modified"],
            deleted=json["deleted"],
            files=list(json["files"]),
        )


@dataclass(frozen=True)
class Check:
    """One finding of `doctor`.

    Attributes:
        name: Which check.
        status: How it came out.
        found: What was found.
        why: Why it matters.
        fix: The command that mends it, unless all is well.
    """

    name: str
    status: CheckStatus
    found: str
    why: str
    fix: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Check:
        return cls(
            name=json["name"],
            status=CheckStatus(json["status"]),
            found=json["found"],
            why=json["why"],
            fix=json.get("fix"),
        )


class CheckStatus(str, Enum):
    """How a check came out.

    Values:
        OK: All is well.
        WARNING: It works, but worse than it could.
        UNAVAILABLE: It does not work here, and nothing depends on it.
        FAILED: Something that pyro needs does not work.
    """

    OK = "ok"
    WARNING = "warning"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class CommandInfo:
    """One command, without its output.

    Attributes:
        sequence: Its number, from 1, never reused.
        argv: What ran.
        cwd: Where.
        started_at: When it was started.
        output_bytes: Bytes that it wrote in all.
        client: Who asked for it, as the door named itself.
        detached: True if it runs on without whoever started it.
        dropped_bytes: Bytes of these that the journal did not keep, or has dropped since.
        error: Why it never ran or how it was lost, if so.
        outcome: How it ended; absent while it runs.
        running: True while it runs.
        user: As whom, if not root.
    """

    sequence: int
    argv: list[str]
    cwd: str
    started_at: str
    output_bytes: int
    client: str | None = None
    detached: bool = False
    dropped_bytes: int = 0
    error: str | None = None
    outcome: ExecOutcome | None = None
    running: bool = False
    user: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> CommandInfo:
        return cls(
            sequence=json["sequence"],
            argv=list(json["argv"]),
            cwd=json["cwd"],
            started_at=json["started_at"],
            output_bytes=json["output_bytes"],
            client=json.get("client"),
            detached=json.get("detached", False),
            dropped_bytes=json.get("dropped_bytes", 0),
            error=json.get("error"),
            outcome=maybe(json.get("outcome"), ExecOutcome.from_json),
            running=json.get("running", False),
            user=json.get("user"),
        )


@dataclass(frozen=True)
class CommandLimits:
    """What one command may take, with all that it starts. What is left out is the workspace's.

    Attributes:
        cpu_percent: Processor time, in hundredths of one processor: 150 is one and a half. 1 to
            3200.
        memory_mib: Memory in MiB, 4 to 262144.
        open_file_count: Files that each of its processes may have open, 16 to 1048576.
        process_count: Processes and threads at once, 1 to 1000000.
    """

    cpu_percent: int | None = None
    memory_mib: int | None = None
    open_file_count: int | None = None
    process_count: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> CommandLimits:
        return cls(
            cpu_percent=json.get("cpu_percent"),
            memory_mib=json.get("memory_mib"),
            open_file_count=json.get("open_file_count"),
            process_count=json.get("process_count"),
        )


@dataclass(frozen=True)
class Deleted:
    """What became of a deletion.

    Attributes:
        id: Which workspace is gone.
    """

    id: str

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Deleted:
        return cls(
            id=json["id"],
        )


@dataclass(frozen=True)
class DiffEntry:
    """One changed path, relative to the root of the compared tree.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        change: How it differs.
        binary: True if either side is not text.
        deletions: Lines removed, for text.
        insertions: Lines added, for text.
        new: What it is; absent if it was deleted.
        old: What it was; absent if it was added.
        path_base64: The exact bytes, if they are not UTF-8.
    """

    path: str
    change: Change
    binary: bool
    deletions: int | None = None
    insertions: int | None = None
    new: Side | None = None
    old: Side | None = None
    path_base64: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> DiffEntry:
        return cls(
            path=json["path"],
            change=Change(json["change"]),
            binary=json["binary"],
            deletions=json.get("deletions"),
            insertions=json.get("insertions"),
            new=maybe(json.get("new"), Side.from_json),
            old=maybe(json.get("old"), Side.from_json),
            path_base64=json.get("path_base64"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class DiskEntry:
    """One thing on a disk.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        kind: What it is.
        mode: Permission bits, `0o7777` at most.
        size: Bytes of content; 0 for anything but a regular file.
        uid: Owner, as the machine numbers its users.
        gid: Group, likewise.
        modified_at: When it was last written.
        path_base64: The exact bytes, if they are not UTF-8.
        target: Where a symbolic link points.
    """

    path: str
    kind: FileKind
    mode: int
    size: int
    uid: int
    gid: int
    modified_at: str
    path_base64: str | None = None
    target: BytePath | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> DiskEntry:
        return cls(
            path=json["path"],
            kind=FileKind(json["kind"]),
            mode=json["mode"],
            size=json["size"],
            uid=json["uid"],
            gid=json["gid"],
            modified_at=json["modified_at"],
            path_base64=json.get("path_base64"),
            target=maybe(json.get("target"), BytePath.from_json),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class DiskFile:
    """Part of a file of a disk, or all of it.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        kind: What it is.
        mode: Permission bits, `0o7777` at most.
        size: Bytes of content; 0 for anything but a regular file.
        uid: Owner, as the machine numbers its users.
        gid: Group, likewise.
        modified_at: When it was last written.
        content: Its bytes from the offset on, as text; what is not UTF-8 is replaced.
        content_base64: The exact bytes, if they are not UTF-8.
        next_offset: Where the next read begins, unless this one came to the end.
        path_base64: The exact bytes, if they are not UTF-8.
        target: Where a symbolic link points.
    """

    path: str
    kind: FileKind
    mode: int
    size: int
    uid: int
    gid: int
    modified_at: str
    content: str
    content_base64: str | None = None
    next_offset: int | None = None
    path_base64: str | None = None
    target: BytePath | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> DiskFile:
        return cls(
            path=json["path"],
            kind=FileKind(json["kind"]),
            mode=json["mode"],
            size=json["size"],
            uid=json["uid"],
            gid=json["gid"],
            modified_at=json["modified_at"],
            content=json["content"],
            content_base64=json.get("content_base64"),
            next_offset=json.get("next_offset"),
            path_base64=json.get("path_base64"),
            target=maybe(json.get("target"), BytePath.from_json),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)

    @property
    def content_bytes(self) -> builtins.bytes:
        """`content` with the exact bytes that it has."""
        return exact_bytes(self.content, self.content_base64)


@dataclass(frozen=True)
class DiskImage:
    """An image that was written: a raw ext4 filesystem, the root of the whole machine.

    Attributes:
        output: Where it is.
        bytes: How long it is. It is sparse.
        disk_bytes: What it takes on the host.
        files: Regular files, links and fifos in it.
        directories: Directories in it.
        skipped: What could not be carried: sockets and devices.
    """

    output: str
    bytes: int
    disk_bytes: int
    files: int
    directories: int
    skipped: list[BytePath] = field(default_factory=list)

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> DiskImage:
        return cls(
            output=json["output"],
            bytes=json["bytes"],
            disk_bytes=json["disk_bytes"],
            files=json["files"],
            directories=json["directories"],
            skipped=[BytePath.from_json(item) for item in json.get("skipped", [])],
        )


@dataclass(frozen=True)
class DiskListing:
    """What lies in a directory, a file if the path names one, ordered by path bytes within each
    directory.

    Attributes:
        entries: The entries, each directory before what is in it.
        truncated: True if there are more than were asked for.
    """

    entries: list[DiskEntry]
    truncated: bool

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> DiskListing:
        return cls(
            entries=[DiskEntry.from_json(item) for item in json["entries"]],
            truncated=json["truncated"],
        )


class Encoding(str, Enum):
    """How bytes are written as text.

    Values:
        TEXT: As they are: UTF-8.
        BASE64: In base64, with padding.
    """

    TEXT = "text"
    BASE64 = "base64"

    def __str__(self) -> str:
        return self.value


class EncodingChoice(str, Enum):
    """How bytes are to be written as text.

    Values:
        AUTO: As text if they are UTF-8, else in base64.
        TEXT: As text; what is not UTF-8 is replaced.
        BASE64: In base64.
    """

    AUTO = "auto"
    TEXT = "text"
    BASE64 = "base64"

    def __str__(self) -> str:
        return self.value


class EngineChoice(str, Enum):
    """Which engine a user asks for.

    Values:
        AUTO: The strongest isolation that this host can run; never silently less than a virtual
            machine.
        FIRECRACKER: Firecracker and nothing else.
        QEMU: QEMU and nothing else.
        CONTAINER: A container and nothing else: it shares the host's kernel.
    """

    AUTO = "auto"
    FIRECRACKER = "firecracker"
    QEMU = "qemu"
    CONTAINER = "container"

    def __str__(self) -> str:
        return self.value


class EngineKind(str, Enum):
    """What isolates.

    Values:
        FIRECRACKER: A virtual machine on hardware virtualization, run by Firecracker.
        QEMU: A virtual machine run by QEMU, on hardware virtualization or emulated.
        CONTAINER: A container run by an OCI runtime, on the host's kernel.
    """

    FIRECRACKER = "firecracker"
    QEMU = "qemu"
    CONTAINER = "container"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class EnvVar:
    """An environment variable, `NAME=VALUE`, as a process can hold it.

    Attributes:
        name: Not empty; neither `=` nor NUL.
        value: Anything but NUL.
    """

    name: str
    value: str

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> EnvVar:
        return cls(
            name=json["name"],
            value=json["value"],
        )


@dataclass(frozen=True)
class EnvironmentDetails:
    """Everything there is to know of one environment.

    Attributes:
        name: Its name.
        description: What is in it, in one line.
        cached: Whether it is here already; if not, it is made when first used.
        packages: What is installed, ordered by name. Empty unless cached.
        created_at: When it was made, RFC 3339.
        digest: The digest of its image.
        image: The root filesystem image on this host.
        kernel: The guest kernel on this host.
        kernel_digest: The digest of the guest kernel and its modules.
        kernel_release: The release of its guest kernel, as `uname -r` prints it.
        package_count: How many packages are installed in it.
        size_bytes: Bytes that the image takes on disk.
    """

    name: str
    description: str
    cached: bool
    packages: list[Package]
    created_at: str | None = None
    digest: str | None = None
    image: str | None = None
    kernel: str | None = None
    kernel_digest: str | None = None
    kernel_release: str | None = None
    package_count: int | None = None
    size_bytes: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> EnvironmentDetails:
        return cls(
            name=json["name"],
            description=json["description"],
            cached=json["cached"],
            packages=[Package.from_json(item) for item in json["packages"]],
            created_at=json.get("created_at"),
            digest=json.get("digest"),
            image=json.get("image"),
            kernel=json.get("kernel"),
            kernel_digest=json.get("kernel_digest"),
            kernel_release=json.get("kernel_release"),
            package_count=json.get("package_count"),
            size_bytes=json.get("size_bytes"),
        )


@dataclass(frozen=True)
class EnvironmentInfo:
    """One environment, as a list shows it.

    Attributes:
        name: Its name.
        description: What is in it, in one line.
        cached: Whether it is here already; if not, it is made when first used.
        created_at: When it was made, RFC 3339.
        digest: The digest of its image.
        kernel_release: The release of its guest kernel, as `uname -r` prints it.
        package_count: How many packages are installed in it.
        size_bytes: Bytes that the image takes on disk.
    """

    name: str
    description: str
    cached: bool
    created_at: str | None = None
    digest: str | None = None
    kernel_release: str | None = None
    package_count: int | None = None
    size_bytes: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> EnvironmentInfo:
        return cls(
            name=json["name"],
            description=json["description"],
            cached=json["cached"],
            created_at=json.get("created_at"),
            digest=json.get("digest"),
            kernel_release=json.get("kernel_release"),
            package_count=json.get("package_count"),
            size_bytes=json.get("size_bytes"),
        )


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        id: Its number in this workspace's journal, from 1, never reused.
        at: When.
        kind: Which form it has.
        client: Who asked for it: the door, and what it knows of its user. Absent if nobody did.
        environment: From which environment.
        engine: On which engine.
        reason: What ended the run.
        error: What did not go as it should.
        fields: Which of them, by the name that they have in the request.
        sequence: Its number in the journal of commands.
        argv: Its arguments.
        detached: True if it runs on without whoever started it.
        outcome: How; absent if it never ran or was lost.
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        bytes: Its length now.
        path_base64: The exact bytes, if they are not UTF-8.
        from_: From where.
        to: Where it is now.
        files: How many files it changed.
        paths: Which; the first hundred.
        source: Where from, on the host.
        destination: Where to, in the workspace.
        written: Entries that were written.
        removed: Entries that were removed.
        changed: How many paths were changed there.
        undone: True if it was taken back.
        shell: Its id.
        exit_code: What its program exited with.
        signal: The signal that ended its program.
        snapshot: Its name.
        service: Its name.
        state: What it is now.
        output_bytes: Bytes of output that were dropped.
        commands: Commands that the output belonged to.
        events: Events that were dropped.
    """

    id: int
    at: str
    kind: str
    client: str | None = None
    environment: str | None = None
    engine: str | None = None
    reason: StopReason | None = None
    error: PyroError | None = None
    fields: list[str] | None = None
    sequence: int | None = None
    argv: list[str] | None = None
    detached: bool | None = None
    outcome: ExecOutcome | None = None
    path: str | None = None
    bytes: int | None = None
    path_base64: str | None = None
    from_: BytePath | None = None
    to: BytePath | None = None
    files: int | None = None
    paths: list[BytePath] | None = None
    source: str | None = None
    destination: BytePath | None = None
    written: int | None = None
    removed: int | None = None
    changed: int | None = None
    undone: bool | None = None
    shell: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    snapshot: str | None = None
    service: str | None = None
    state: str | None = None
    output_bytes: int | None = None
    commands: int | None = None
    events: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Event:
        return cls(
            id=json["id"],
            at=json["at"],
            kind=json["kind"],
            client=json.get("client"),
            environment=json.get("environment"),
            engine=json.get("engine"),
            reason=maybe(json.get("reason"), StopReason),
            error=maybe(json.get("error"), error_from_json),
            fields=maybe(json.get("fields"), lambda value: list(value)),
            sequence=json.get("sequence"),
            argv=maybe(json.get("argv"), lambda value: list(value)),
            detached=json.get("detached"),
            outcome=maybe(json.get("outcome"), ExecOutcome.from_json),
            path=json.get("path"),
            bytes=json.get("bytes"),
            path_base64=json.get("path_base64"),
            from_=maybe(json.get("from"), BytePath.from_json),
            to=maybe(json.get("to"), BytePath.from_json),
            files=json.get("files"),
            paths=maybe(json.get("paths"), lambda value: [BytePath.from_json(item) for item in value]),
            source=json.get("source"),
            destination=maybe(json.get("destination"), BytePath.from_json),
            written=json.get("written"),
            removed=json.get("removed"),
            changed=json.get("changed"),
            undone=json.get("undone"),
            shell=json.get("shell"),
            exit_code=json.get("exit_code"),
            signal=json.get("signal"),
            snapshot=json.get("snapshot"),
            service=json.get("service"),
            state=json.get("state"),
            output_bytes=json.get("output_bytes"),
            commands=json.get("commands"),
            events=json.get("events"),
        )

    @property
    def path_bytes(self) -> builtins.bytes | None:
        """`path` with the exact bytes that it has."""
        return None if self.path is None else exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class ExecOutcome:
    """How a command ended.

    Attributes:
        sequence: The command's number in this workspace's journal, from 1.
        timed_out: True if the time limit ended it.
        oom_killed: True if memory ran out and the kernel killed it; `limits_hit` says how much
            there was.
        duration_ms: Wall-clock time in the guest.
        exit_code: What it exited with; absent if a signal ended it.
        limits_hit: Limits that it ran into, be that why it ended or not.
        signal: The signal that ended it.
    """

    sequence: int
    timed_out: bool
    oom_killed: bool
    duration_ms: int
    exit_code: int | None = None
    limits_hit: list[LimitHit] = field(default_factory=list)
    signal: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ExecOutcome:
        return cls(
            sequence=json["sequence"],
            timed_out=json["timed_out"],
            oom_killed=json["oom_killed"],
            duration_ms=json["duration_ms"],
            exit_code=json.get("exit_code"),
            limits_hit=[LimitHit.from_json(item) for item in json.get("limits_hit", [])],
            signal=json.get("signal"),
        )


@dataclass(frozen=True)
class ExecRequest:
    """One command to run.

    Attributes:
        argv: The exact arguments; the first is looked up in `PATH`. No shell is involved.
        cwd: Where to run it, absolute or relative to `/workspace`.
        detach: Let it run on without a caller; its output is in the journal.
        env: Variables for this command, over those of the workspace.
        limits: What it may take, less than the workspace may.
        max_output_bytes: The most bytes of output in the result, both streams together; 1 MiB
            unless said otherwise. A `continuation` gets the rest.
        shell: Instead of `argv`: a text for a login shell, which runs as `sh -lc TEXT`.
        stdin: True if the caller will send input; otherwise the command reads an empty stdin.
        timeout_seconds: End the command and all it started after this long.
        user: A user of the guest, by name or number, optionally `:group`; root by default.
    """

    argv: list[str] = field(default_factory=list)
    cwd: str | None = None
    detach: bool = False
    env: list[EnvVar] = field(default_factory=list)
    limits: CommandLimits | None = None
    max_output_bytes: int | None = None
    shell: str | None = None
    stdin: bool = False
    timeout_seconds: int | None = None
    user: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ExecRequest:
        return cls(
            argv=list(json.get("argv", [])),
            cwd=json.get("cwd"),
            detach=json.get("detach", False),
            env=[EnvVar.from_json(item) for item in json.get("env", [])],
            limits=maybe(json.get("limits"), CommandLimits.from_json),
            max_output_bytes=json.get("max_output_bytes"),
            shell=json.get("shell"),
            stdin=json.get("stdin", False),
            timeout_seconds=json.get("timeout_seconds"),
            user=json.get("user"),
        )


@dataclass(frozen=True)
class ExecResult(_extras.ExecResultExtras):
    """A command's whole result, for callers that want it in one piece.

    Attributes:
        sequence: The command's number in this workspace's journal, from 1.
        timed_out: True if the time limit ended it.
        oom_killed: True if memory ran out and the kernel killed it; `limits_hit` says how much
            there was.
        duration_ms: Wall-clock time in the guest.
        stdout: What it wrote, as text; bytes that are not UTF-8 are replaced.
        stderr: The same of its other stream.
        truncated: True if there was more output than the cap, and the rest was left out here.
        continuation: What `workspace_output` takes to give the rest, if there is one.
        exit_code: What it exited with; absent if a signal ended it.
        limits_hit: Limits that it ran into, be that why it ended or not.
        signal: The signal that ended it.
    """

    sequence: int
    timed_out: bool
    oom_killed: bool
    duration_ms: int
    stdout: str
    stderr: str
    truncated: bool
    continuation: str | None = None
    exit_code: int | None = None
    limits_hit: list[LimitHit] = field(default_factory=list)
    signal: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ExecResult:
        return cls(
            sequence=json["sequence"],
            timed_out=json["timed_out"],
            oom_killed=json["oom_killed"],
            duration_ms=json["duration_ms"],
            stdout=json["stdout"],
            stderr=json["stderr"],
            truncated=json["truncated"],
            continuation=json.get("continuation"),
            exit_code=json.get("exit_code"),
            limits_hit=[LimitHit.from_json(item) for item in json.get("limits_hit", [])],
            signal=json.get("signal"),
        )


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        files: Regular files, links and fifos.
        directories: Directories, the exported one included.
        bytes: Bytes of content.
        skipped: What could not be carried: sockets and devices.
    """

    files: int
    directories: int
    bytes: int
    skipped: list[BytePath] = field(default_factory=list)

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Exported:
        return cls(
            files=json["files"],
            directories=json["directories"],
            bytes=json["bytes"],
            skipped=[BytePath.from_json(item) for item in json.get("skipped", [])],
        )


@dataclass(frozen=True)
class FileContent:
    """A part of a file.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        content: What was read.
        encoding: How that is written.
        offset: Where it begins, in bytes.
        bytes: How many bytes were read.
        size: How many the whole file has.
        mode: Permission bits, in octal.
        modified_at: When its content last changed.
        truncated: True if `max_bytes` cut it short.
        next_line: If lines were asked for and it was cut short: read on from this line.
        next_offset: If it was cut short: read on from this `offset`.
        path_base64: The exact bytes, if they are not UTF-8.
        sha256: Of the whole file's content, in hex: what a later write or edit may expect.
            Absent if it has more than 4 MiB.
        total_lines: How many lines the whole file has; absent if it has more than 4 MiB.
    """

    path: str
    content: str
    encoding: Encoding
    offset: int
    bytes: int
    size: int
    mode: str
    modified_at: str
    truncated: bool
    next_line: int | None = None
    next_offset: int | None = None
    path_base64: str | None = None
    sha256: str | None = None
    total_lines: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> FileContent:
        return cls(
            path=json["path"],
            content=json["content"],
            encoding=Encoding(json["encoding"]),
            offset=json["offset"],
            bytes=json["bytes"],
            size=json["size"],
            mode=json["mode"],
            modified_at=json["modified_at"],
            truncated=json["truncated"],
            next_line=json.get("next_line"),
            next_offset=json.get("next_offset"),
            path_base64=json.get("path_base64"),
            sha256=json.get("sha256"),
            total_lines=json.get("total_lines"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class FileEdited:
    """A file that was edited.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        replacements: How often the text was replaced.
        line: The line on which the first replacement begins.
        size: How many bytes the file has now.
        sha256: Of its content, in hex.
        path_base64: The exact bytes, if they are not UTF-8.
    """

    path: str
    replacements: int
    line: int
    size: int
    sha256: str
    path_base64: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> FileEdited:
        return cls(
            path=json["path"],
            replacements=json["replacements"],
            line=json["line"],
            size=json["size"],
            sha256=json["sha256"],
            path_base64=json.get("path_base64"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class FileEntry:
    """One entry of a directory.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        type: What it is.
        size: Bytes, of a regular file.
        mode: Permission bits, in octal.
        modified_at: When its content last changed.
        path_base64: The exact bytes, if they are not UTF-8.
        target: Where a link leads.
    """

    path: str
    type: FileKind
    size: int
    mode: str
    modified_at: str
    path_base64: str | None = None
    target: BytePath | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> FileEntry:
        return cls(
            path=json["path"],
            type=FileKind(json["type"]),
            size=json["size"],
            mode=json["mode"],
            modified_at=json["modified_at"],
            path_base64=json.get("path_base64"),
            target=maybe(json.get("target"), BytePath.from_json),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


class FileKind(str, Enum):
    """What kind of thing a path names.

    Values:
        FILE: A regular file.
        DIRECTORY: A directory.
        SYMLINK: A symbolic link.
        CHAR_DEVICE: A character device.
        BLOCK_DEVICE: A block device.
        FIFO: A named pipe.
        SOCKET: A unix socket.
    """

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    CHAR_DEVICE = "char_device"
    BLOCK_DEVICE = "block_device"
    FIFO = "fifo"
    SOCKET = "socket"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class FileList:
    """Some of a directory's entries, ordered by their paths' names; a directory comes before what
    is in it.

    Attributes:
        entries: What was found. Paths are relative to the listed directory.
        continuation: If there is more: ask again with this.
    """

    entries: list[FileEntry]
    continuation: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> FileList:
        return cls(
            entries=[FileEntry.from_json(item) for item in json["entries"]],
            continuation=json.get("continuation"),
        )


@dataclass(frozen=True)
class FileMoved:
    """What was moved.

    Attributes:
        from_: Its absolute path before.
        to: Its absolute path now.
    """

    from_: BytePath
    to: BytePath

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> FileMoved:
        return cls(
            from_=BytePath.from_json(json["from"]),
            to=BytePath.from_json(json["to"]),
        )


@dataclass(frozen=True)
class FileRemoved:
    """What became of a removal.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        removed: False if there was nothing.
        path_base64: The exact bytes, if they are not UTF-8.
    """

    path: str
    removed: bool
    path_base64: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> FileRemoved:
        return cls(
            path=json["path"],
            removed=json["removed"],
            path_base64=json.get("path_base64"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class FileStat:
    """What a file is.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        type: What it is.
        size: Bytes, of a regular file.
        mode: Permission bits, in octal.
        uid: Its owner.
        gid: Its group.
        modified_at: When its content last changed.
        path_base64: The exact bytes, if they are not UTF-8.
        sha256: Of a regular file's content, in hex; absent if it has more than 64 MiB.
        target: Where a link leads.
    """

    path: str
    type: FileKind
    size: int
    mode: str
    uid: int
    gid: int
    modified_at: str
    path_base64: str | None = None
    sha256: str | None = None
    target: BytePath | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> FileStat:
        return cls(
            path=json["path"],
            type=FileKind(json["type"]),
            size=json["size"],
            mode=json["mode"],
            uid=json["uid"],
            gid=json["gid"],
            modified_at=json["modified_at"],
            path_base64=json.get("path_base64"),
            sha256=json.get("sha256"),
            target=maybe(json.get("target"), BytePath.from_json),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class FileWritten:
    """A file that was written.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        size: How many bytes it has now.
        sha256: Of its content, in hex.
        created: True if there was nothing before.
        path_base64: The exact bytes, if they are not UTF-8.
    """

    path: str
    size: int
    sha256: str
    created: bool
    path_base64: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> FileWritten:
        return cls(
            path=json["path"],
            size=json["size"],
            sha256=json["sha256"],
            created=json["created"],
            path_base64=json.get("path_base64"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class InstalledProgram:
    """A program that pyro fetched for itself.

    Attributes:
        name: Its name.
        version: Its version.
        path: Where it is.
        sha256: The sha256 of the archive that it came in, in hex.
        already_installed: True if it was there already.
    """

    name: str
    version: str
    path: str
    sha256: str
    already_installed: bool

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> InstalledProgram:
        return cls(
            name=json["name"],
            version=json["version"],
            path=json["path"],
            sha256=json["sha256"],
            already_installed=json["already_installed"],
        )


class Isolation(str, Enum):
    """What stands between a workspace and its host.

    Values:
        HARDWARE_VM: A machine of its own, on hardware virtualization.
        EMULATED_VM: A machine of its own whose CPU is emulated: as well isolated, many times
            slower.
        USER_KERNEL: A kernel of its own in user space (gVisor), on top of the host's.
        SHARED_KERNEL: The host's kernel, shared with it: namespaces, few capabilities, filtered
            system calls.
    """

    HARDWARE_VM = "hardware_vm"
    EMULATED_VM = "emulated_vm"
    USER_KERNEL = "user_kernel"
    SHARED_KERNEL = "shared_kernel"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class JournalCommand:
    """One command of the journal.

    Attributes:
        sequence: Its number, from 1, never reused.
        argv: What ran.
        cwd: Where.
        started_at: When it was started.
        output_bytes: Bytes that it wrote in all.
        output: Its output in order of arrival: if it is longer than was asked for, its
            beginning and its end.
        omitted_bytes: Bytes left out between the two.
        client: Who asked for it, as the door named itself.
        continuation: What `workspace_output` takes to give what was left out, as far as it is
            kept.
        detached: True if it runs on without whoever started it.
        dropped_bytes: Bytes of these that the journal did not keep, or has dropped since.
        error: Why it never ran or how it was lost, if so.
        outcome: How it ended; absent while it runs.
        running: True while it runs.
        user: As whom, if not root.
    """

    sequence: int
    argv: list[str]
    cwd: str
    started_at: str
    output_bytes: int
    output: list[OutputChunk]
    omitted_bytes: int
    client: str | None = None
    continuation: str | None = None
    detached: bool = False
    dropped_bytes: int = 0
    error: str | None = None
    outcome: ExecOutcome | None = None
    running: bool = False
    user: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> JournalCommand:
        return cls(
            sequence=json["sequence"],
            argv=list(json["argv"]),
            cwd=json["cwd"],
            started_at=json["started_at"],
            output_bytes=json["output_bytes"],
            output=[OutputChunk.from_json(item) for item in json["output"]],
            omitted_bytes=json["omitted_bytes"],
            client=json.get("client"),
            continuation=json.get("continuation"),
            detached=json.get("detached", False),
            dropped_bytes=json.get("dropped_bytes", 0),
            error=json.get("error"),
            outcome=maybe(json.get("outcome"), ExecOutcome.from_json),
            running=json.get("running", False),
            user=json.get("user"),
        )


class Limit(str, Enum):
    """What is limited.

    Values:
        MEMORY: Memory.
        DISK: What may be written to the disk.
        PROCESSES: Processes and threads at once.
    """

    MEMORY = "memory"
    DISK = "disk"
    PROCESSES = "processes"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class LimitHit:
    """A limit that a command ran into.

    Attributes:
        limit: Of what.
        of: Whose.
        value: How much that is: MiB of memory or disk, or how many processes; absent if it is
            not known.
    """

    limit: Limit
    of: LimitOf
    value: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> LimitHit:
        return cls(
            limit=Limit(json["limit"]),
            of=LimitOf(json["of"]),
            value=json.get("value"),
        )


class LimitOf(str, Enum):
    """Whose limit it is.

    Values:
        COMMAND: The command's own.
        WORKSPACE: That of the whole workspace.
    """

    COMMAND = "command"
    WORKSPACE = "workspace"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class MovedHunk:
    """A hunk that applied at another line than the patch says.

    Attributes:
        hunk: Which, counted from 1.
        expected_line: Where it was to apply.
        line: Where it did.
        fuzz: How many lines of its context were not there.
    """

    hunk: int
    expected_line: int
    line: int
    fuzz: int = 0

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> MovedHunk:
        return cls(
            hunk=json["hunk"],
            expected_line=json["expected_line"],
            line=json["line"],
            fuzz=json.get("fuzz", 0),
        )


@dataclass(frozen=True)
class OutputChunk:
    """A piece of output as it came.

    Attributes:
        stream: Which stream.
        text: The text; bytes that are not UTF-8 are replaced.
    """

    stream: Stream
    text: str

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> OutputChunk:
        return cls(
            stream=Stream(json["stream"]),
            text=json["text"],
        )


@dataclass(frozen=True)
class OutputPage:
    """A stretch of a command's output.

    Attributes:
        sequence: The number of the command.
        output: Output in order of arrival.
        position: Where the next page begins: so many bytes of both streams came before.
        dropped_bytes: Bytes on the way that the journal did not keep, or has dropped since.
        running: True while the command runs, and may write more.
        continuation: What gets the next page; absent once the command has ended and there is no
            more.
    """

    sequence: int
    output: list[OutputChunk]
    position: int
    dropped_bytes: int
    running: bool
    continuation: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> OutputPage:
        return cls(
            sequence=json["sequence"],
            output=[OutputChunk.from_json(item) for item in json["output"]],
            position=json["position"],
            dropped_bytes=json["dropped_bytes"],
            running=json["running"],
            continuation=json.get("continuation"),
        )


@dataclass(frozen=True)
class Package:
    """A package installed in an environment.

    Attributes:
        name: Its name.
        version: Its version, as the distribution writes it.
    """

    name: str
    version: str

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Package:
        return cls(
            name=json["name"],
            version=json["version"],
        )


@dataclass(frozen=True)
class PatchApplied:
    """A patch that was applied or, in a dry run, would have been.

    Attributes:
        files: What changed, in the order of paths.
        dry_run: True if nothing was changed because only that was asked.
    """

    files: list[PatchedFile]
    dry_run: bool

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> PatchApplied:
        return cls(
            files=[PatchedFile.from_json(item) for item in json["files"]],
            dry_run=json["dry_run"],
        )


@dataclass(frozen=True)
class PatchedFile:
    """A file that a patch changed.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        change: How.
        from_: What it was renamed or copied from.
        moved_hunks: Hunks that applied at another line than the patch says.
        path_base64: The exact bytes, if they are not UTF-8.
    """

    path: str
    change: Change
    from_: BytePath | None = None
    moved_hunks: list[MovedHunk] = field(default_factory=list)
    path_base64: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> PatchedFile:
        return cls(
            path=json["path"],
            change=Change(json["change"]),
            from_=maybe(json.get("from"), BytePath.from_json),
            moved_hunks=[MovedHunk.from_json(item) for item in json.get("moved_hunks", [])],
            path_base64=json.get("path_base64"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class Prepared:
    """What the next `create` starts from.

    Attributes:
        environment: The root filesystem, which is in the cache.
        engine: What isolates.
        shape: The machine's size, for which alone the template is.
        template: What became of the template.
        duration_ms: How long all this took, in milliseconds.
        size_bytes: Bytes that the template takes.
    """

    environment: str
    engine: EngineKind
    shape: Shape
    template: TemplateState
    duration_ms: int
    size_bytes: int = 0

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Prepared:
        return cls(
            environment=json["environment"],
            engine=EngineKind(json["engine"]),
            shape=Shape.from_json(json["shape"]),
            template=TemplateState(json["template"]),
            duration_ms=json["duration_ms"],
            size_bytes=json.get("size_bytes", 0),
        )


@dataclass(frozen=True)
class PruneReport:
    """What a prune took away.

    Attributes:
        removed: What was removed, in words: `debian:12`, `image sha256:…`.
        freed_bytes: Bytes given back to the disk.
    """

    removed: list[str]
    freed_bytes: int

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> PruneReport:
        return cls(
            removed=list(json["removed"]),
            freed_bytes=json["freed_bytes"],
        )


@dataclass(frozen=True)
class ScreenState:
    """A terminal's screen, besides its text.

    Attributes:
        cols: Columns.
        rows: Rows.
        cursor_row: The cursor's row, from 1.
        cursor_col: The cursor's column, from 1.
        cursor_hidden: True if the program has hidden the cursor.
        full_screen: True if the program has taken the whole screen, as editors and pagers do.
        title: The title that the program has set.
    """

    cols: int
    rows: int
    cursor_row: int
    cursor_col: int
    cursor_hidden: bool
    full_screen: bool
    title: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ScreenState:
        return cls(
            cols=json["cols"],
            rows=json["rows"],
            cursor_row=json["cursor_row"],
            cursor_col=json["cursor_col"],
            cursor_hidden=json["cursor_hidden"],
            full_screen=json["full_screen"],
            title=json.get("title"),
        )


@dataclass(frozen=True)
class SeedEmpty:
    """Nothing."""

    kind: Literal["empty"] = field(default="empty", init=False)

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> SeedEmpty:
        return cls()


@dataclass(frozen=True)
class SeedPath:
    """Everything in a host directory, or in a `.tar`, `.tar.gz` or `.tar.zst` archive.

    Attributes:
        path: Directory or archive, as the user wrote it.
    """

    path: str
    kind: Literal["path"] = field(default="path", init=False)

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> SeedPath:
        return cls(
            path=json["path"],
        )


@dataclass(frozen=True)
class SeedGit:
    """The files that git tracks at a commit.

    Attributes:
        repository: A checkout, a bare repository, or a URL.
        reference: Branch, tag or commit; `HEAD` if absent.
    """

    repository: str
    reference: str | None = None
    kind: Literal["git"] = field(default="git", init=False)

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> SeedGit:
        return cls(
            repository=json["repository"],
            reference=json.get("reference"),
        )


Seed = SeedEmpty | SeedPath | SeedGit
"""What `/workspace` starts as."""


def read_seed(json: Mapping[str, Any]) -> Seed:
    """The form that `kind` names."""
    match json["kind"]:
        case "empty":
            return SeedEmpty.from_json(json)
        case "path":
            return SeedPath.from_json(json)
        case "git":
            return SeedGit.from_json(json)
        case other:
            raise ValueError(f"Seed has no form {other!r}")


@dataclass(frozen=True)
class SeedStatus:
    """The seed as it was taken.

    Attributes:
        entries: Files, directories and links taken.
        bytes: Bytes of their content.
        kind: Which form it has.
        commit: The commit, for a git seed.
        skipped: What was left out, and why: sockets, devices, submodules. At most 100 are
            named.
        skipped_count: How many were left out.
        path: Directory or archive, as the user wrote it.
        repository: A checkout, a bare repository, or a URL.
        reference: Branch, tag or commit; `HEAD` if absent.
    """

    entries: int
    bytes: int
    kind: str
    commit: str | None = None
    skipped: list[str] = field(default_factory=list)
    skipped_count: int = 0
    path: str | None = None
    repository: str | None = None
    reference: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> SeedStatus:
        return cls(
            entries=json["entries"],
            bytes=json["bytes"],
            kind=json["kind"],
            commit=json.get("commit"),
            skipped=list(json.get("skipped", [])),
            skipped_count=json.get("skipped_count", 0),
            path=json.get("path"),
            repository=json.get("repository"),
            reference=json.get("reference"),
        )


@dataclass(frozen=True)
class Shape:
    """The machine's size.

    Attributes:
        vcpu_count: Virtual CPUs, 1 to 32.
        mem_mib: Memory in MiB, 128 to 262144.
        disk_mib: The most that the machine may write to its disk, in MiB, 64 to 1048576. Space
            is taken on the host only as it is written.
    """

    vcpu_count: int
    mem_mib: int
    disk_mib: int

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Shape:
        return cls(
            vcpu_count=json["vcpu_count"],
            mem_mib=json["mem_mib"],
            disk_mib=json["disk_mib"],
        )


@dataclass(frozen=True)
class ShapeRequest:
    """The machine's size as asked for. What is left out is the host's default: the environment
    variable's, else the configuration file's, else the one named here.

    Attributes:
        disk_mib: The most that the machine may write to its disk, in MiB, 64 to 1048576; 10240
            unless the host says otherwise. Space is taken on the host only as it is written.
        mem_mib: Memory in MiB, 128 to 262144; 1024 unless the host says otherwise.
        vcpu_count: Virtual CPUs, 1 to 32; 1 unless the host says otherwise.
    """

    disk_mib: int | None = None
    mem_mib: int | None = None
    vcpu_count: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ShapeRequest:
        return cls(
            disk_mib=json.get("disk_mib"),
            mem_mib=json.get("mem_mib"),
            vcpu_count=json.get("vcpu_count"),
        )


@dataclass(frozen=True)
class ShellInfo:
    """One shell of a workspace.

    Attributes:
        id: Its id.
        state: Whether its program runs.
        argv: What runs on it; empty for a login shell.
        cwd: Where it was started.
        cols: Columns of its terminal.
        rows: Rows of its terminal.
        opened_at: When it was opened.
        output_bytes: Bytes that it has shown so far: the cursor of its end.
        dropped_bytes: Of these, how many of the oldest are not kept any more: the cursor of its
            beginning.
        attached: How many people are attached to it.
        closed_at: When its program ended.
        exit_code: What its program exited with; absent while it runs, or if a signal ended it.
        name: Its name, if it has one.
        reason: Why it ended, if not by itself.
        signal: The signal that ended it.
        user: As whom, if not root.
    """

    id: str
    state: ShellState
    argv: list[str]
    cwd: str
    cols: int
    rows: int
    opened_at: str
    output_bytes: int
    dropped_bytes: int
    attached: int
    closed_at: str | None = None
    exit_code: int | None = None
    name: str | None = None
    reason: str | None = None
    signal: int | None = None
    user: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ShellInfo:
        return cls(
            id=json["id"],
            state=ShellState(json["state"]),
            argv=list(json["argv"]),
            cwd=json["cwd"],
            cols=json["cols"],
            rows=json["rows"],
            opened_at=json["opened_at"],
            output_bytes=json["output_bytes"],
            dropped_bytes=json["dropped_bytes"],
            attached=json["attached"],
            closed_at=json.get("closed_at"),
            exit_code=json.get("exit_code"),
            name=json.get("name"),
            reason=json.get("reason"),
            signal=json.get("signal"),
            user=json.get("user"),
        )


@dataclass(frozen=True)
class ShellOutput:
    """What a shell has shown.

    Attributes:
        id: Which shell.
        cursor: From which byte of its output on this is.
        next_cursor: Where to read on.
        dropped_bytes: How many bytes between the cursor asked for and `cursor` are not kept any
            more.
        text: What was shown, or the screen. Bytes that are not UTF-8 are replaced.
        more: True if there is more to read at `next_cursor` now.
        timed_out: True if the wait for silence ran out of time.
        state: Whether its program runs.
        data_base64: In a raw read, the exact bytes if they are not UTF-8, in base64.
        exit_code: What its program exited with.
        screen: What else there is to know of the screen, in a plain read.
        signal: The signal that ended it.
    """

    id: str
    cursor: int
    next_cursor: int
    dropped_bytes: int
    text: str
    more: bool
    timed_out: bool
    state: ShellState
    data_base64: str | None = None
    exit_code: int | None = None
    screen: ScreenState | None = None
    signal: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ShellOutput:
        return cls(
            id=json["id"],
            cursor=json["cursor"],
            next_cursor=json["next_cursor"],
            dropped_bytes=json["dropped_bytes"],
            text=json["text"],
            more=json["more"],
            timed_out=json["timed_out"],
            state=ShellState(json["state"]),
            data_base64=json.get("data_base64"),
            exit_code=json.get("exit_code"),
            screen=maybe(json.get("screen"), ScreenState.from_json),
            signal=json.get("signal"),
        )


class ShellState(str, Enum):
    """Whether a shell still runs.

    Values:
        RUNNING: Its program runs.
        CLOSED: Its program has ended; what it showed can be read until the shell is closed once
            more, the workspace stops, or many others were closed since.
    """

    RUNNING = "running"
    CLOSED = "closed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class ShellWritten:
    """What was typed.

    Attributes:
        id: Which shell.
        written_bytes: Bytes that its terminal took.
        cursor: Where its output stood before: read from here to see what came of it.
    """

    id: str
    written_bytes: int
    cursor: int

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ShellWritten:
        return cls(
            id=json["id"],
            written_bytes=json["written_bytes"],
            cursor=json["cursor"],
        )


@dataclass(frozen=True)
class Side:
    """One side of a changed path.

    Attributes:
        kind: What it is.
        mode: Permission bits, `0o7777` at most.
        size: Bytes of content; 0 for anything but a regular file.
        target: Where a symbolic link points.
    """

    kind: FileKind
    mode: int
    size: int
    target: BytePath | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Side:
        return cls(
            kind=FileKind(json["kind"]),
            mode=json["mode"],
            size=json["size"],
            target=maybe(json.get("target"), BytePath.from_json),
        )


@dataclass(frozen=True)
class SignalledCommand:
    """A command that was signalled.

    Attributes:
        sequence: The number of the command.
        signal: Which signal.
    """

    sequence: int
    signal: str

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> SignalledCommand:
        return cls(
            sequence=json["sequence"],
            signal=json["signal"],
        )


class StopReason(str, Enum):
    """What ended a run in good order.

    Values:
        ASKED: Somebody asked.
        TIME_TO_LIVE: Its time to live was up.
        POWERED_OFF: The machine switched itself off.
        ORPHANED: The client that it was for is gone.
    """

    ASKED = "asked"
    TIME_TO_LIVE = "time_to_live"
    POWERED_OFF = "powered_off"
    ORPHANED = "orphaned"

    def __str__(self) -> str:
        return self.value


class Stream(str, Enum):
    """One of a command's output streams.

    Values:
        STDOUT: Standard output.
        STDERR: Standard error.
    """

    STDOUT = "stdout"
    STDERR = "stderr"

    def __str__(self) -> str:
        return self.value


class SyncAction(str, Enum):
    """What a sync does with a path.

    Values:
        SENT: A file or link was written.
        MADE: A directory was made.
        MODE: Only the mode was set.
        REMOVED: It was removed.
    """

    SENT = "sent"
    MADE = "made"
    MODE = "mode"
    REMOVED = "removed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class SyncChange:
    """One thing that a sync did.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        action: What was done.
        path_base64: The exact bytes, if they are not UTF-8.
    """

    path: str
    action: SyncAction
    path_base64: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> SyncChange:
        return cls(
            path=json["path"],
            action=SyncAction(json["action"]),
            path_base64=json.get("path_base64"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class SyncSkipped:
    """One thing that a sync left out.

    Attributes:
        path: The path, readable; where its bytes are not UTF-8 they are replaced.
        reason: Why.
        path_base64: The exact bytes, if they are not UTF-8.
    """

    path: str
    reason: str
    path_base64: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> SyncSkipped:
        return cls(
            path=json["path"],
            reason=json["reason"],
            path_base64=json.get("path_base64"),
        )

    @property
    def path_bytes(self) -> builtins.bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)


@dataclass(frozen=True)
class Synced:
    """What a sync did, or would do.

    Attributes:
        dry_run: True if nothing was done, because that was asked for.
        sent: Files and links that were written.
        made: Directories that were made.
        modes: Files and directories of which only the mode was set.
        removed: Files, links and directories that were removed.
        unchanged: Files, links and directories that were the same on both sides.
        bytes: Bytes of content that were sent.
        changes: What was done, path by path; the first ten thousand.
        skipped: What was left out though nothing excludes it: sockets, devices, pipes; the
            first ten thousand.
        skipped_count: How many were left out.
    """

    dry_run: bool
    sent: int
    made: int
    modes: int
    removed: int
    unchanged: int
    bytes: int
    changes: list[SyncChange] = field(default_factory=list)
    skipped: list[SyncSkipped] = field(default_factory=list)
    skipped_count: int = 0

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Synced:
        return cls(
            dry_run=json["dry_run"],
            sent=json["sent"],
            made=json["made"],
            modes=json["modes"],
            removed=json["removed"],
            unchanged=json["unchanged"],
            bytes=json["bytes"],
            changes=[SyncChange.from_json(item) for item in json.get("changes", [])],
            skipped=[SyncSkipped.from_json(item) for item in json.get("skipped", [])],
            skipped_count=json.get("skipped_count", 0),
        )


class TemplateState(str, Enum):
    """What became of the template.

    Values:
        MADE: It was made just now.
        PRESENT: It was there, and is right for this host.
        UNSUPPORTED: This engine starts its machines without any.
        DISABLED: The host's owner switched templates off.
    """

    MADE = "made"
    PRESENT = "present"
    UNSUPPORTED = "unsupported"
    DISABLED = "disabled"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Usage:
    """What a running workspace takes from its host: its machine and its supervisor together.

    Attributes:
        cpu_ms: Processor time since it was started, in milliseconds.
        memory_bytes: Bytes of memory; of what it shares with others, its share.
    """

    cpu_ms: int
    memory_bytes: int

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Usage:
        return cls(
            cpu_ms=json["cpu_ms"],
            memory_bytes=json["memory_bytes"],
        )


@dataclass(frozen=True)
class WorkspaceDiff(_extras.WorkspaceDiffExtras):
    """Everything that changed, and the patch if it was asked for.

    Attributes:
        entries: The changed paths.
        insertions: Sum of insertions over all text files.
        deletions: Sum of deletions over all text files.
        not_in_patch: Changes that a git patch cannot carry (empty directories, permission bits
            beyond the executable one, special files): they are listed in `entries`, but not in
            the patch.
        patch: The git patch; bytes that are not UTF-8 are replaced.
        patch_base64: The exact bytes of the patch, if they are not UTF-8.
        patch_omitted_bytes: Bytes of the patch that are beyond the cap. What is here is then no
            whole patch.
    """

    entries: list[DiffEntry]
    insertions: int
    deletions: int
    not_in_patch: list[BytePath] = field(default_factory=list)
    patch: str | None = None
    patch_base64: str | None = None
    patch_omitted_bytes: int = 0

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> WorkspaceDiff:
        return cls(
            entries=[DiffEntry.from_json(item) for item in json["entries"]],
            insertions=json["insertions"],
            deletions=json["deletions"],
            not_in_patch=[BytePath.from_json(item) for item in json.get("not_in_patch", [])],
            patch=json.get("patch"),
            patch_base64=json.get("patch_base64"),
            patch_omitted_bytes=json.get("patch_omitted_bytes", 0),
        )

    @property
    def patch_bytes(self) -> builtins.bytes | None:
        """`patch` with the exact bytes that it has."""
        return None if self.patch is None else exact_bytes(self.patch, self.patch_base64)


@dataclass(frozen=True)
class WorkspaceLimits:
    """What a workspace may take besides its [size](crate::workspace::Shape).

    Attributes:
        open_file_count: Files that each process may have open, 64 to 1048576; 1024, which a
            process may raise to 4096, unless said otherwise.
        process_count: Processes and threads of all its commands at once, 64 to 1000000; what
            its memory allows, unless said otherwise.
    """

    open_file_count: int | None = None
    process_count: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> WorkspaceLimits:
        return cls(
            open_file_count=json.get("open_file_count"),
            process_count=json.get("process_count"),
        )


class WorkspaceState(str, Enum):
    """Where a workspace is in its life.

    Values:
        CREATING: Being made; not usable yet.
        STARTED: Its machine runs.
        PAUSED: Its machine is held still, with all that runs in it; its memory stays.
        STOPPED: Its machine is off; the disk is kept.
        FAILED: Its machine ended in a way nobody asked for; the disk is kept. `start` tries
            again.
        DELETING: Being removed.
    """

    CREATING = "creating"
    STARTED = "started"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    DELETING = "deleting"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class WorkspaceStatus:
    """A workspace at one moment.

    Attributes:
        id: Its permanent id.
        state: Where it is in its life.
        environment: Its root filesystem.
        environment_digest: Digest of that root filesystem.
        engine: What isolates it.
        shape: The machine's size.
        seed: What `/workspace` started as.
        created_at: When it was created.
        last_activity_at: When something last happened in it.
        disk_used_bytes: Bytes that the workspace takes on this host.
        error: Why it is `failed`, or why its machine was last stopped by something other than
            the user.
        isolation: What stands between it and the host, while it is started.
        kernel_release: The guest kernel, while it is started.
        labels: Labels.
        limits: What it may take besides.
        name: Its name, if it has one.
        running_commands: Commands running now.
        stops_at: When it will be stopped, if it has a time to live and is started.
        usage: What it takes from this host, while it runs; only where one workspace is asked
            for.
    """

    id: str
    state: WorkspaceState
    environment: str
    environment_digest: str
    engine: EngineKind
    shape: Shape
    seed: SeedStatus
    created_at: str
    last_activity_at: str
    disk_used_bytes: int
    error: PyroError | None = None
    isolation: Isolation | None = None
    kernel_release: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    limits: WorkspaceLimits | None = None
    name: str | None = None
    running_commands: int = 0
    stops_at: str | None = None
    usage: Usage | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> WorkspaceStatus:
        return cls(
            id=json["id"],
            state=WorkspaceState(json["state"]),
            environment=json["environment"],
            environment_digest=json["environment_digest"],
            engine=EngineKind(json["engine"]),
            shape=Shape.from_json(json["shape"]),
            seed=SeedStatus.from_json(json["seed"]),
            created_at=json["created_at"],
            last_activity_at=json["last_activity_at"],
            disk_used_bytes=json["disk_used_bytes"],
            error=maybe(json.get("error"), error_from_json),
            isolation=maybe(json.get("isolation"), Isolation),
            kernel_release=json.get("kernel_release"),
            labels=dict(json.get("labels", {})),
            limits=maybe(json.get("limits"), WorkspaceLimits.from_json),
            name=json.get("name"),
            running_commands=json.get("running_commands", 0),
            stops_at=json.get("stops_at"),
            usage=maybe(json.get("usage"), Usage.from_json),
        )


@dataclass(frozen=True)
class WorkspaceSummary:
    """What happened in a workspace, for somebody who has to judge it.

    Attributes:
        workspace: Which workspace.
        created_at: When it was created.
        command_count: How many commands were run.
        failed_count: How many of them did not exit with 0.
        running_count: How many run now.
        busy_ms: For how long commands ran, all together.
        commands: The last commands, oldest first; at most a hundred.
        failures: The last commands that failed, with the end of their output; at most ten.
        events: What else happened, oldest first: starts, stops, edits, patches, syncs, shells;
            at most a hundred.
        changes: Files of `/workspace` that differ from the seed; absent if it could not be
            read.
        changes_error: Why `changes` is absent.
    """

    workspace: str
    created_at: str
    command_count: int
    failed_count: int
    running_count: int
    busy_ms: int
    commands: list[CommandInfo]
    failures: list[JournalCommand]
    events: list[Event]
    changes: ChangedFiles | None = None
    changes_error: PyroError | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> WorkspaceSummary:
        return cls(
            workspace=json["workspace"],
            created_at=json["created_at"],
            command_count=json["command_count"],
            failed_count=json["failed_count"],
            running_count=json["running_count"],
            busy_ms=json["busy_ms"],
            commands=[CommandInfo.from_json(item) for item in json["commands"]],
            failures=[JournalCommand.from_json(item) for item in json["failures"]],
            events=[Event.from_json(item) for item in json["events"]],
            changes=maybe(json.get("changes"), ChangedFiles.from_json),
            changes_error=maybe(json.get("changes_error"), error_from_json),
        )


__all__ = [
    "Applied",
    "ApplyAction",
    "ApplyChange",
    "ApplySkipped",
    "BytePath",
    "Change",
    "ChangedFiles",
    "Check",
    "CheckStatus",
    "CommandInfo",
    "CommandLimits",
    "Deleted",
    "DiffEntry",
    "DiskEntry",
    "DiskFile",
    "DiskImage",
    "DiskListing",
    "Encoding",
    "EncodingChoice",
    "EngineChoice",
    "EngineKind",
    "EnvVar",
    "EnvironmentDetails",
    "EnvironmentInfo",
    "Event",
    "ExecOutcome",
    "ExecRequest",
    "ExecResult",
    "Exported",
    "FileContent",
    "FileEdited",
    "FileEntry",
    "FileKind",
    "FileList",
    "FileMoved",
    "FileRemoved",
    "FileStat",
    "FileWritten",
    "InstalledProgram",
    "Isolation",
    "JournalCommand",
    "Limit",
    "LimitHit",
    "LimitOf",
    "MovedHunk",
    "OutputChunk",
    "OutputPage",
    "Package",
    "PatchApplied",
    "PatchedFile",
    "Prepared",
    "PruneReport",
    "ScreenState",
    "Seed",
    "SeedEmpty",
    "SeedGit",
    "SeedPath",
    "SeedStatus",
    "Shape",
    "ShapeRequest",
    "ShellInfo",
    "ShellOutput",
    "ShellState",
    "ShellWritten",
    "Side",
    "SignalledCommand",
    "StopReason",
    "Stream",
    "SyncAction",
    "SyncChange",
    "SyncSkipped",
    "Synced",
    "TemplateState",
    "Usage",
    "WorkspaceDiff",
    "WorkspaceLimits",
    "WorkspaceState",
    "WorkspaceStatus",
    "WorkspaceSummary",
]
