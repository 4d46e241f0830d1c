"""Commands that run in a namespace, each under a supervisor of its own (supervisor.py).

A command called NAME has a directory NAME below `directory`, mode 0700:

    pid      the supervisor's pid, its start time, the namespace's device and inode; gone when all has ended
    status   exit status of the command; there when it has ended
    log      what it and its descendants wrote; not there for one in the foreground
    grace    how long a `stop` lets it end in order, in seconds

Calls for one name must not overlap: the engine's lock sees to that.
"""

from __future__ import annotations

import os

from isthmus.errors import InvalidInput, NotPermitted, Refused, Unavailable
from isthmus.kernel.launch import BACKGROUND, VARIABLE, Way, launch
from isthmus.kernel.netns import check_name, open_netns
from isthmus.kernel.processes import end as end_processes
from isthmus.kernel.processes import pids_in, started, wait
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
    from typing import Final
else:
    import _signal  # `signal` imports `enum`

__all__ = ["BACKGROUND", "Ended", "Running", "end", "exit_status", "log_path", "start", "state", "stop"]

_LAST_WAIT_S: Final = 5.0
_SLACK_S: Final = 0.2  # it counts for itself


class Running(Value):
    """A command that has a live supervisor: itself or a descendant of it runs.

    `pid` is the supervisor's; `started`, in clock ticks since boot, guards it against reuse.
    """

    pid: int
    started: int


class Ended(Value):
    """A command that ended: its exit status, or 128 and the number of the signal that ended it.

    None: nobody knows, the supervisor was killed before. Then something may still run, for `stop` to end.
    """

    status: int | None


class _Record(Value):
    """What the file `pid` says."""

    pid: int
    started: int
    device: int
    inode: int


def log_path(directory: str, name: str) -> str:
    """Return the file that keeps what the command of that name writes."""
    return f"{directory}/{name}/log"


def state(directory: str, name: str) -> Running | Ended | None:
    """Return how the command of that name fares; None when there is none."""
    record = _load(directory, name)
    if record and started(record.pid) == record.started:
        return Running(pid=record.pid, started=record.started)
    status = exit_status(directory, name)
    return None if status is None and record is None else Ended(status=status)


def exit_status(directory: str, name: str) -> int | None:
    """Return the exit status of the command itself; None: it has not ended, or nobody knows how."""
    try:
        with open(f"{directory}/{name}/status") as file:
            return int(file.read())
    except FileNotFoundError:
        return None


def _load(directory: str, name: str) -> _Record | None:
    try:
        with open(f"{directory}/{name}/pid") as file:
            fields = [int(field) for field in file.read().split()]
    except (FileNotFoundError, ValueError):
        return None
    if len(fields) != 4:
        return None
    return _Record(pid=fields[0], started=fields[1], device=fields[2], inode=fields[3])


def start(directory: str, name: str, netns_path: str, argv: Sequence[str], way: Way = BACKGROUND) -> int:
    """Start a command in a namespace, as `ip netns exec` would; return its supervisor's pid.

    Returns when the program runs. It gets the caller's environment with ISTHMUS_COMMAND=name, and a
    session of its own unless it is in the foreground. What an ended one of that name left (log, status)
    is replaced.

    Raises:
        InvalidInput: no program, or a NUL in its arguments; not a network namespace.
        ProgramNotFound, NotExecutable: there is no such program; it cannot be executed.
        NotFound: there is no such namespace.
        Refused: one of that name runs.
        Unavailable: the supervisor ended before it could start the program.
    """
    check_name(name)
    if not argv or not argv[0] or any("\0" in word for word in argv):
        raise InvalidInput("command", list(argv), "needs a program, and no NUL in its arguments")
    _refuse_living(directory, name)
    fd = open_netns(netns_path)
    netns = os.fstat(fd)
    os.close(fd)
    folder = _make_folder(directory, name)
    try:
        return launch(folder, name, netns, netns_path, argv, way)
    except BaseException:
        stop(directory, name, 0.0)
        raise


def _refuse_living(directory: str, name: str) -> None:
    match state(directory, name):
        case Running(pid=pid):
            raise Refused(f"cannot start command of {name}: it runs (pid {pid})", users=(f"pid {pid}",))
        case Ended():
            record = _load(directory, name)
            users = tuple(f"pid {pid}" for pid in _orphans(name, record)) if record else ()
            if users:
                hint = "stop it first"
                raise Refused(f"cannot start command of {name}: it runs without supervisor", users=users, hint=hint)


def _make_folder(directory: str, name: str) -> str:
    """Make the command's directory, empty; those above `directory` are for all to read."""
    folder = f"{directory}/{name}"
    try:
        os.makedirs(os.path.dirname(directory) or "/", 0o755, exist_ok=True)
        for path in (directory, folder):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                status = os.lstat(path)
                if status.st_mode & 0o170000 != 0o040000 or status.st_uid != os.geteuid():
                    raise Refused(f"cannot keep commands in {path}: not a directory of ours") from None
                os.chmod(path, 0o700)
        for file in os.listdir(folder):
            os.unlink(f"{folder}/{file}")
    except PermissionError as error:
        raise NotPermitted(f"cannot keep commands in {folder}: {error.strerror}") from error
    return folder


def end(directory: str, name: str, timeout_s: float) -> None:
    """End a command with all its descendants; its files tell afterwards how it ended. Missing is success.

    They have timeout_s to go after SIGTERM, then SIGKILL follows. Where the supervisor was killed before, the
    processes of that namespace with ISTHMUS_COMMAND=name in their environment are ended.

    Raises:
        Unavailable: something cannot be killed (it waits for a device).
    """
    check_name(name)
    record = _load(directory, name)
    if record is None:
        return
    try:
        with open(f"{directory}/{name}/grace", "w") as file:
            file.write(str(timeout_s))
    except FileNotFoundError:
        pass  # cleared away meanwhile
    left = _end_supervisor(record, timeout_s)
    if _load(directory, name):  # it did not end in order, which would have removed its record
        left += _end_orphans(name, record, timeout_s)
    if left:
        pids = ", ".join(str(pid) for pid in left)
        raise Unavailable(f"cannot end command of {name}: pid {pids} outlives SIGKILL")


def stop(directory: str, name: str, timeout_s: float) -> None:
    """End a command, as `end` does, and remove its files; missing is success.

    Raises:
        Unavailable: something cannot be killed; the files are kept then.
    """
    end(directory, name, timeout_s)
    folder = f"{directory}/{name}"
    try:
        for file in os.listdir(folder):
            os.unlink(f"{folder}/{file}")
        os.rmdir(folder)
    except FileNotFoundError:
        pass


def _end_supervisor(record: _Record, timeout_s: float) -> list[int]:
    """Have the supervisor end all; kill it where it does not obey."""
    try:
        pidfd = os.pidfd_open(record.pid)
    except OSError:
        return []
    try:
        if started(record.pid) != record.started:
            return []  # ended; the pid is another's
        # A second SIGTERM means at once. SIGCONT: somebody may have stopped it.
        for patience_s in (timeout_s + _SLACK_S, _LAST_WAIT_S):
            _signal.pidfd_send_signal(pidfd, _signal.SIGTERM)
            _signal.pidfd_send_signal(pidfd, _signal.SIGCONT)
            if not wait([pidfd], patience_s):
                return []
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        return [record.pid] if wait([pidfd], _LAST_WAIT_S) else []
    except ProcessLookupError:
        return []
    finally:
        os.close(pidfd)


def _end_orphans(name: str, record: _Record, timeout_s: float) -> list[int]:
    """End what a killed supervisor left: rounds, since they may fork meanwhile."""
    left: list[int] = []
    for patience_s in (timeout_s, 0.0, 0.0):
        found = _orphans(name, record)
        if not found:
            return []
        left = end_processes(found, patience_s)
    return left


def _orphans(name: str, record: _Record) -> list[int]:
    """Return the processes of that namespace whose environment names the command."""
    wanted = f"{VARIABLE}={name}".encode(errors="surrogateescape")
    found = []
    for pid in pids_in(record.device, record.inode):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read().split(b"\0")
        except OSError:
            continue  # ended meanwhile
        if wanted in environment:
            found.append(pid)
    return found
