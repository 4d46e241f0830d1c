"""The supervisor of one command: a program of its own, `python -I -S supervisor.py CONTROL`.

launch.py starts it and tells it what to do; CONTROL is the descriptor of their socket. It stays in the host's
namespaces, starts the command inside, and adopts whatever the command leaves behind (subreaper). The dialogue:

    starter     size (8 digits), marshal of (directory, netns, where, environment, then, argv)
    supervisor  its pid, newline          nothing has been started yet
    starter     "g"                       the pid is on record (end of file instead: the starter died, so do we)
    supervisor  "+", end of file          the program runs
             or "+", errno NUL what NUL   it could not be started
             or "-", errno                at any time until then: the supervisor could not do its part

`where` and `then` are launch.py's Way. In the foreground it is a child of its starter, whose end is a SIGTERM to
us: the command has the starter's descriptors, session and process group, and the supervisor ends with the
command's exit status. It is small: little more than the interpreter is loaded.

SIGTERM ends all descendants, a second one at once; SIGRTMIN + N passes signal N on to the command. Files, in
the directory: `status`, when the command has ended; `pid` is removed when no descendant is left; `grace`, how many
seconds lie between SIGTERM and SIGKILL.
"""

from __future__ import annotations

import marshal
import os
import posix
import sys
import time

if __name__ == "__main__":
    # -I leaves this file's directory out of the path: the package's parent takes its place.
    sys.path.insert(0, __file__.rsplit("/", 3)[0])

from isthmus.errors import IsthmusError
from isthmus.kernel.libc import PR_SET_CHILD_SUBREAPER, PR_SET_NAME, PR_SET_PDEATHSIG, prctl
from isthmus.kernel.netns_exec import enter, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Final, NoReturn
else:
    import _signal  # `signal` imports `enum`

__all__: list[str] = []

_GRACE_S: Final = 10.0
_GRACE_OF_THE_REST_S: Final = 2.0  # for what a run's command leaves behind
_ROUND_S: Final = 0.05
_NAME: Final = b"isthmus-command"
_SIGRTMIN: Final = 34
_TOLD: Final = {_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGTERM}
_HEARD: Final = {_signal.SIGTERM, _signal.SIGCHLD, *range(_SIGRTMIN + 1, _signal.SIGRTMAX + 1)}


class _Command:
    """The command: its pid, 0 once it has ended, and how it ended.

    `then` is what is started when all has ended, unless `starter` lives: the process that waits, 0 in the background.
    """

    def __init__(self, pid: int, folder: int, starter: int, then: tuple[str, ...]) -> None:
        self.pid = pid
        self.folder = folder
        self.starter = starter
        self.then = then
        self.status = 127


def main(control: int) -> NoReturn:
    """Wait to be told; run the command; outlive it and its descendants."""
    try:
        command = _start(control)
    except OSError as error:
        try:
            posix.write(control, b"-%d" % (error.errno or 0))
        finally:
            posix._exit(1)
    try:
        _outlive(command)
    finally:
        posix.kill(posix.getpid(), _signal.SIGKILL)  # out of order: a status would be taken for the command's


def _start(control: int) -> _Command:
    """Be told what to run, and run it."""
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _TOLD | _HEARD) - _TOLD
    posix.set_inheritable(control, False)
    starter = posix.getppid()
    prctl(PR_SET_PDEATHSIG, _signal.SIGTERM)
    size = int(_read(control, 8) or 0)
    text = _read(control, size)
    if not size or len(text) < size:
        posix._exit(1)
    directory, netns, where, environment, then, argv = marshal.loads(text)
    folder = _open_folder(directory)
    if where != "foreground":
        starter, mask = 0, set()
        _leave_starter(control, folder)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_NAME, _NAME)
    posix.write(control, b"%d\n" % posix.getpid())
    if _read(control, 1) != b"g":
        posix._exit(1)
    pid = posix.fork()
    if not pid:
        _run(control, netns, where, mask, environment, argv)
    posix.close(control)
    return _Command(pid, folder, starter, then)


def _outlive(command: _Command) -> NoReturn:
    """Wait until all has ended, and end as the command did; start what is to be done then, if nobody else does it."""
    then, starter = command.then, command.starter
    if starter:
        _leave_terminal(command.pid, command.folder)
    posix.chdir("/")
    _watch(command, transient=bool(then))
    try:
        posix.unlink("pid", dir_fd=command.folder)
    except OSError:
        then = ()  # `stop` was faster, and whoever stops a command clears away what it had
    if then and (posix.getppid() != starter or _is_dying(starter)):
        posix.posix_spawn(then[0], then, posix.environ, setsid=True, setsigmask=())
    posix._exit(command.status if starter else 0)


def _is_dying(pid: int) -> bool:
    """Whether a process has been sent a SIGKILL that it has not died of yet, with its whole group as its command was.

    Source: proc_pid_status(5), `SigPnd`; proc_pid_stat(5), `flags`, of which PF_EXITING is 4 (linux/sched.h).
    """
    try:
        status, stat = _text(f"/proc/{pid}/status"), _text(f"/proc/{pid}/stat")
    except OSError:
        return True
    pending = int(status.partition(b"SigPnd:")[2].split()[0], 16)
    state, *fields = stat.rpartition(b")")[2].split()
    return bool(pending & 1 << _signal.SIGKILL - 1) or state in (b"Z", b"X") or bool(int(fields[5]) & 4)


def _text(path: str) -> bytes:
    fd = posix.open(path, posix.O_RDONLY)
    try:
        return posix.read(fd, 8192)
    finally:
        posix.close(fd)


def _read(control: int, size: int) -> bytes:
    """Read so many bytes, or to the end of file."""
    text = b""
    while len(text) < size and (part := posix.read(control, size - len(text))):
        text += part
    return text


def _open_folder(directory: str) -> int:
    """Open a directory, above the descriptors that the command has: its caller may have closed some."""
    fd = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY)
    if fd > 2:
        return fd
    try:
        return _open_folder(directory)
    finally:
        posix.close(fd)


def _leave_starter(control: int, folder: int) -> None:
    """Let go of all that was inherited, and go into the background; the starter need not wait for us."""
    _close_all((control, folder))
    posix.open("/dev/null", posix.O_RDWR)  # 0, since the lowest free one is taken
    posix.open("log", posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, 0o600, dir_fd=folder)
    posix.dup2(1, 2)
    for fd in (0, 1):
        posix.set_inheritable(fd, True)
    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_DFL)
    if posix.fork():
        posix._exit(0)
    posix.setsid()


def _close_all(kept: tuple[int, ...]) -> None:
    """Let go of all that was inherited but some."""
    for fd in posix.listdir("/proc/self/fd"):
        if int(fd) not in kept:
            try:
                posix.close(int(fd))
            except OSError:
                pass  # the descriptor that listed them


def _leave_terminal(command: int, folder: int) -> None:
    """Leave the caller's session and descriptors to the command; what was typed before it was there is its own, too."""
    for number in _signal.sigpending() & _TOLD:
        posix.kill(command, number)
    posix.setsid()
    null = posix.open("/dev/null", posix.O_RDWR)
    for fd in (0, 1, 2):
        posix.dup2(null, fd)
    _close_all((0, 1, 2, folder))


def _run(
    control: int, netns: str, where: str, mask: set[int], environment: tuple[str, ...], argv: tuple[str, ...]
) -> NoReturn:
    """Be the command: its session (a background one may signal its whole group), the namespace, the program."""
    what = ""
    try:
        if where != "foreground":
            posix.setsid()
        if where == "background":
            posix.chdir("/")
        if _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        os.environ.update(one.partition("=")[::2] for one in environment)
        try:
            enter(netns, tells=False)
            posix.write(control, b"+")
            replace(argv)
        except IsthmusError as error:
            what, number = error.message, 0
            posix.write(control, b"+")
        except OSError as error:
            number = error.errno or 0
        posix.write(control, f"{number}\0{what}\0".encode(errors="surrogateescape"))
    finally:
        posix._exit(127)


def _watch(command: _Command, *, transient: bool) -> None:
    """Reap until no descendant is left; end them when told to, and when they outlive the command of a run."""
    while _reap(command):
        if transient and not command.pid:
            _end(command, _GRACE_OF_THE_REST_S)
            return
        number = _signal.sigwait(_HEARD)
        if number == _signal.SIGTERM:
            _end(command, _grace(command.folder))
        elif number != _signal.SIGCHLD and command.pid:
            posix.kill(command.pid, number - _SIGRTMIN)


def _reap(command: _Command) -> bool:
    """Collect all that ended; return whether a child is left."""
    while True:
        try:
            pid, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if pid == command.pid:
            code = posix.waitstatus_to_exitcode(status)
            command.pid, command.status = 0, code if code >= 0 else 128 - code
            _write_status(command)


def _write_status(command: _Command) -> None:
    folder = command.folder
    try:
        fd = posix.open("status.new", posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o600, dir_fd=folder)
        posix.write(fd, b"%d\n" % command.status)
        posix.close(fd)
        posix.rename("status.new", "status", src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        pass  # the directory is gone: nobody wants to know


def _grace(folder: int) -> float:
    try:
        fd = posix.open("grace", posix.O_RDONLY, dir_fd=folder)
        text = posix.read(fd, 32)
        posix.close(fd)
        return float(text)
    except (OSError, ValueError):
        return _GRACE_S


def _end(command: _Command, grace_s: float) -> None:
    """End all descendants: SIGTERM, grace, then SIGKILL until none is left."""
    deadline = time.monotonic() + grace_s
    told: set[int] = set()
    while _reap(command) and (left := deadline - time.monotonic()) > 0:
        new = [pid for pid in _descendants() if pid not in told]  # one may have been forked by one that has heard it
        told.update(new)
        _send(_signal.SIGTERM, new)
        _send(_signal.SIGCONT, new)  # what is stopped would not hear it
        news = _signal.sigtimedwait({_signal.SIGCHLD, _signal.SIGTERM}, left)
        if news is not None and news.si_signo == _signal.SIGTERM:
            break
    while _reap(command):
        _send(_signal.SIGKILL, _descendants())  # again each round: they may have forked since
        _signal.sigtimedwait({_signal.SIGCHLD}, _ROUND_S)


def _send(number: int, pids: list[int]) -> None:
    for pid in pids:
        try:
            posix.kill(pid, number)
        except OSError:
            pass  # ended meanwhile


def _descendants() -> list[int]:
    """Return the pids below us, parents first."""
    children: dict[int, list[int]] = {}
    for name in posix.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(_text(f"/proc/{name}/stat").rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
            except (OSError, IndexError):
                pass  # it has ended
    found = list(children.get(posix.getpid(), ()))
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]))
