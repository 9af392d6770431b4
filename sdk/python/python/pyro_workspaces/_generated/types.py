# Written by `make reference` from the catalogue of operations; a test fails while it differs from
# them. Do not edit.
"""What operations take and give."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Mapping

from .. import _extras
from .._json import exact_bytes, maybe
from .errors import PyroError, error_from_json


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
    def path_bytes(self) -> bytes:
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
    def path_bytes(self) -> bytes:
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
    def path_bytes(self) -> bytes:
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
    def path_bytes(self) -> bytes:
        """`path` with the exact bytes that it has."""
        return exact_bytes(self.path, self.path_base64)

    @property
    def content_bytes(self) -> bytes:
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
class ExecOutcome:
    """How a command ended.

    Attributes:
        sequence: The command's number in this workspace's journal, from 1.
        timed_out: True if the time limit ended it.
        oom_killed: True if the guest ran out of memory and killed it.
        duration_ms: Wall-clock time in the guest.
        exit_code: What it exited with; absent if a signal ended it.
        signal: The signal that ended it.
    """

    sequence: int
    timed_out: bool
    oom_killed: bool
    duration_ms: int
    exit_code: int | None = None
    signal: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ExecOutcome:
        return cls(
            sequence=json["sequence"],
            timed_out=json["timed_out"],
            oom_killed=json["oom_killed"],
            duration_ms=json["duration_ms"],
            exit_code=json.get("exit_code"),
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
        stdin: True if the caller will send input; otherwise the command reads an empty stdin.
        timeout_seconds: End the command and all it started after this long.
        user: A user of the guest, by name or number, optionally `:group`; root by default.
    """

    argv: list[str]
    cwd: str | None = None
    detach: bool = False
    env: list[EnvVar] = field(default_factory=list)
    stdin: bool = False
    timeout_seconds: int | None = None
    user: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ExecRequest:
        return cls(
            argv=list(json["argv"]),
            cwd=json.get("cwd"),
            detach=json.get("detach", False),
            env=[EnvVar.from_json(item) for item in json.get("env", [])],
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
        oom_killed: True if the guest ran out of memory and killed it.
        duration_ms: Wall-clock time in the guest.
        stdout: What it wrote, as text; bytes that are not UTF-8 are replaced.
        stderr: The same of its other stream.
        truncated: True if a stream was longer than the cap and its rest was left out here.
        exit_code: What it exited with; absent if a signal ended it.
        signal: The signal that ended it.
    """

    sequence: int
    timed_out: bool
    oom_killed: bool
    duration_ms: int
    stdout: str
    stderr: str
    truncated: bool
    exit_code: int | None = None
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
            exit_code=json.get("exit_code"),
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
        output: The output that the journal kept, in order of arrival.
        output_bytes: Bytes that it wrote in all.
        omitted_bytes: Bytes left out between the kept head and the kept tail.
        error: Why it never ran or how it was lost, if so.
        outcome: How it ended; absent while it runs.
        user: As whom, if not root.
    """

    sequence: int
    argv: list[str]
    cwd: str
    started_at: str
    output: list[OutputChunk]
    output_bytes: int
    omitted_bytes: int
    error: str | None = None
    outcome: ExecOutcome | None = None
    user: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> JournalCommand:
        return cls(
            sequence=json["sequence"],
            argv=list(json["argv"]),
            cwd=json["cwd"],
            started_at=json["started_at"],
            output=[OutputChunk.from_json(item) for item in json["output"]],
            output_bytes=json["output_bytes"],
            omitted_bytes=json["omitted_bytes"],
            error=json.get("error"),
            outcome=maybe(json.get("outcome"), ExecOutcome.from_json),
            user=json.get("user"),
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
    def patch_bytes(self) -> bytes | None:
        """`patch` with the exact bytes that it has."""
        return None if self.patch is None else exact_bytes(self.patch, self.patch_base64)


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
            name=json.get("name"),
            running_commands=json.get("running_commands", 0),
            stops_at=json.get("stops_at"),
            usage=maybe(json.get("usage"), Usage.from_json),
        )


__all__ = [
    "BytePath",
    "Change",
    "Check",
    "CheckStatus",
    "Deleted",
    "DiffEntry",
    "DiskEntry",
    "DiskFile",
    "DiskImage",
    "DiskListing",
    "EngineChoice",
    "EngineKind",
    "EnvVar",
    "EnvironmentDetails",
    "EnvironmentInfo",
    "ExecOutcome",
    "ExecRequest",
    "ExecResult",
    "Exported",
    "FileKind",
    "InstalledProgram",
    "Isolation",
    "JournalCommand",
    "OutputChunk",
    "Package",
    "Prepared",
    "PruneReport",
    "Seed",
    "SeedEmpty",
    "SeedGit",
    "SeedPath",
    "SeedStatus",
    "Shape",
    "ShapeRequest",
    "Side",
    "Stream",
    "TemplateState",
    "Usage",
    "WorkspaceDiff",
    "WorkspaceState",
    "WorkspaceStatus",
]
