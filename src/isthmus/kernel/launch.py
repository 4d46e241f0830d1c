"""Start a supervisor (supervisor.py), and have it start a command: the starter's half of their dialogue.

A supervisor may be started ahead of the knowledge what it is for, so that its interpreter starts beside ours.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import marshal
import os
import sys

from isthmus.errors import IsthmusError, NotExecutable, ProgramNotFound, Refused, Unavailable
from isthmus.kernel.processes import started
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
    from typing import Final
else:
    import _signal  # `signal` imports `enum`

__all__ = ["BACKGROUND", "VARIABLE", "Supervisor", "Way", "launch"]

VARIABLE: Final = "ISTHMUS_COMMAND"


class Supervisor:
    """A supervisor that waits to be told what to run. It is a child of this thread, and ends with it until then."""

    def __init__(self) -> None:
        self.control, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        number = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)  # 0 to 2 may be closed here
        theirs.close()
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "supervisor.py")
        words = [sys.executable, "-I", "-S", program, str(number)]
        inherited = [(os.POSIX_SPAWN_DUP2, number, number)]
        try:
            self.pid = os.posix_spawn(
                sys.executable, words, os.environ, file_actions=inherited, setsigdef=[_signal.SIGCHLD]
            )
        except OSError as error:
            self.control.close()
            raise Refused(f"cannot start a supervisor: {words[0]}: {error.strerror}") from error
        finally:
            os.close(number)


class Way(Value):
    """How a command is started, besides what it is.

    `where` is *background*: in /, with an empty stdin, and the log as stdout and stderr; *here*: the same in
    the caller's working directory; *foreground*: with the caller's descriptors, terminal and process group,
    its supervisor a child of the caller (foreground.py waits for it). `environment` (KEY=VALUE) is added
    to the caller's. `then` is a program to be started when all has ended, unless a caller in the foreground
    lives to do its work; with one, what outlives the command is ended. `supervisor` is one that was
    started ahead. `pid` is the supervisor's, once the command runs.
    """

    where: str = "background"
    environment: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    supervisor: Supervisor | None = None
    pid: int = 0


BACKGROUND: Final = Way()


def launch(folder: str, name: str, netns: os.stat_result, netns_path: str, argv: Sequence[str], way: Way) -> int:
    """Have a supervisor start a command, and put its pid on record before; return that.

    Raises:
        IsthmusError: the command could not be started.
    """
    supervisor = way.supervisor or Supervisor()  # before signals are held: the command has the mask that it starts with
    if way.where == "foreground":
        from isthmus.kernel.foreground import hold_signals

        hold_signals()
    try:
        pid = _tell(supervisor.control, folder, name, netns, netns_path, argv, way)
    except BaseException:
        supervisor.control.close()  # which ends it, if it has started nothing
        if way.where == "foreground":
            from isthmus.kernel.foreground import release_signals

            release_signals()
        _reap(supervisor.pid)
        raise
    supervisor.control.close()
    if way.where != "foreground":
        _reap(supervisor.pid)  # it has left a child in the background
    return pid


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # the caller ignores SIGCHLD: the kernel reaps


def _tell(
    control: _socket.socket,
    folder: str,
    name: str,
    netns: os.stat_result,
    netns_path: str,
    argv: Sequence[str],
    way: Way,
) -> int:
    environment = (*way.environment, f"{VARIABLE}={name}")
    words = (os.path.abspath(folder), netns_path, way.where, environment, way.then, tuple(argv))
    text = marshal.dumps(words)
    try:
        control.sendall(b"%8d" % len(text) + text)
        # The supervisor starts nothing before it hears that its pid is on record: a kill of ours up to here
        # ends it, and from here on `stop` finds it.
        first, _, more = control.recv(32).partition(b"\n")
        pid = int(first) if first.isdigit() and not more else 0
        birth = started(pid) if pid else None
        if birth is None:
            raise _failure(name, more or first)  # it may fail at once after it has told its pid
        with open(f"{folder}/pid.new", "w") as file:
            file.write(f"{pid} {birth} {netns.st_dev} {netns.st_ino}\n")
        os.rename(f"{folder}/pid.new", f"{folder}/pid")
        control.send(b"g")
        answer = _read_all(control)
    except ConnectionError:
        raise _failure(name, b"") from None
    except OSError as error:
        raise Unavailable(f"cannot start command of {name}: {_named(error.errno or 0)}") from error
    if answer != b"+":
        raise _refusal(name, argv[0], answer)
    return pid


def _read_all(control: _socket.socket) -> bytes:
    """Read to the end of file: the program runs then (close-on-exec), or its child has said why not."""
    answer = b""
    while part := control.recv(4096):
        answer += part
    return answer


def _failure(name: str, said: bytes) -> Unavailable:
    """Return what a supervisor failed of; it may have said so."""
    why = f": {_named(int(said[1:]))}" if said.startswith(b"-") else ""
    return Unavailable(f"cannot start command of {name}: its supervisor ended{why}")


def _named(number: int) -> str:
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"


def _refusal(name: str, program: str, answer: bytes) -> IsthmusError:
    if answer.startswith(b"-"):
        return _failure(name, answer)
    number, _, rest = answer[1:].partition(b"\0")
    if not number or not answer.startswith(b"+"):
        return Unavailable(f"cannot start command of {name}: its process ended before the program ran")
    what = rest.rstrip(b"\0").decode(errors="replace")
    if what:
        return Refused(f"cannot start command of {name}: {what}")
    code = int(number)
    message = f"cannot start command of {name}: {program}: {_named(code)}"
    return ProgramNotFound(message) if code == errno.ENOENT else NotExecutable(message)
