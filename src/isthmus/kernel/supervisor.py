"""The supervisor of one command: a program of its own, `python -I -S supervisor.py DIRECTORY NETNS -- ARGV...`.

process.py starts it; descriptor 0 is then its control socket, 1 and 2 the log. It stays in the host's
namespaces, starts the command inside, and adopts whatever the command leaves behind (subreaper). The
dialogue on the control socket:

    supervisor  its pid, newline          nothing has been started yet
    starter     "g"                       the pid is on record (end of file instead: the starter died, so do we)
    supervisor  "+", end of file          the program runs
             or "+", errno NUL what NUL   it could not be started

Only `posix` and `libc` are loaded (the size of each supervisor is the interpreter's); the child loads the rest.
SIGTERM ends all descendants, a second one at once. Files, in DIRECTORY: `status`, when the command has ended;
`pid` is removed when no descendant is left.
"""

from __future__ import annotations

import posix
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Final, NoReturn
else:
    import _signal  # `signal` imports `enum`

__all__: list[str] = []

_GRACE_S: Final = 2.0
_ROUND_S: Final = 0.05
_NAME: Final = b"isthmus-command"


def main(directory: str, netns: str, argv: list[str]) -> NoReturn:
    """Run the command and outlive it and its descendants."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGTERM, _signal.SIGCHLD})
    control, folder = _settle(directory)
    if posix.fork():
        posix._exit(0)  # so that the starter need not wait for us
    posix.setsid()
    from isthmus.kernel.libc import PR_SET_CHILD_SUBREAPER, PR_SET_NAME, prctl

    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_NAME, _NAME)
    posix.write(control, b"%d\n" % posix.getpid())
    if posix.read(control, 1) != b"g":
        posix._exit(1)
    command = posix.fork()
    if not command:
        _run(control, netns, argv)
    posix.close(control)
    _watch({command}, folder)
    try:
        posix.unlink("pid", dir_fd=folder)
    except OSError:
        pass  # `stop` was faster
    posix._exit(0)


def _settle(directory: str) -> tuple[int, int]:
    """Let go of all that was inherited; return the control socket and the directory."""
    for fd in posix.listdir("/proc/self/fd"):
        if int(fd) > 2:
            try:
                posix.close(int(fd))
            except OSError:
                pass  # the descriptor that listed them
    control = posix.dup(0)
    null = posix.open("/dev/null", posix.O_RDWR)
    posix.dup2(null, 0)
    posix.close(null)
    folder = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY)
    posix.chdir("/")
    return control, folder


def _run(control: int, netns: str, argv: list[str]) -> NoReturn:
    """Be the command: a session of its own (it may signal its whole group), the namespace, the program."""
    what = ""
    try:
        posix.setsid()
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        from isthmus.errors import IsthmusError
        from isthmus.kernel.netns_exec import enter, replace

        try:
            enter(netns)
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


def _watch(command: set[int], folder: int) -> None:
    """Reap until no descendant is left; end them when told to."""
    while _reap(command, folder):
        if _signal.sigwait({_signal.SIGCHLD, _signal.SIGTERM}) == _signal.SIGTERM:
            _end(command, folder)


def _reap(command: set[int], folder: int) -> bool:
    """Collect all that ended; return whether a child is left. `command` loses the command when it ended."""
    while True:
        try:
            pid, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if pid in command:
            command.discard(pid)
            _write_status(folder, posix.waitstatus_to_exitcode(status))


def _write_status(folder: int, code: int) -> None:
    try:
        fd = posix.open("status.new", posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o600, dir_fd=folder)
        posix.write(fd, b"%d\n" % (code if code >= 0 else 128 - code))
        posix.close(fd)
        posix.rename("status.new", "status", src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        pass  # the directory is gone: nobody wants to know


def _end(command: set[int], folder: int) -> None:
    """End all descendants: SIGTERM, grace, then SIGKILL until none is left."""
    _send(_signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    while _reap(command, folder) and (left := deadline - time.monotonic()) > 0:
        news = _signal.sigtimedwait({_signal.SIGCHLD, _signal.SIGTERM}, left)
        if news is not None and news.si_signo == _signal.SIGTERM:
            break
    while _reap(command, folder):
        _send(_signal.SIGKILL)  # again each round: they may have forked since
        _signal.sigtimedwait({_signal.SIGCHLD}, _ROUND_S)


def _send(number: int) -> None:
    for pid in _descendants():
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
                fd = posix.open(f"/proc/{name}/stat", posix.O_RDONLY)
            except OSError:
                continue
            try:
                parent = int(posix.read(fd, 1024).rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
            except (OSError, IndexError):
                pass  # ended while we read
            finally:
                posix.close(fd)
    found = list(children.get(posix.getpid(), ()))
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


if __name__ == "__main__":
    # -I leaves this file's directory out of the path: the package's parent takes its place.
    sys.path.insert(0, __file__.rsplit("/", 3)[0])
    main(sys.argv[1], sys.argv[2], sys.argv[4:])
