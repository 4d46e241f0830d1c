"""A command in the foreground: its caller waits for it, and passes on the signals that it is sent.

The command is in the caller's process group. What is typed at the terminal (Ctrl-C, Ctrl-Z, a new size) reaches
both from the kernel, so of that nothing is passed on; what somebody sends to the caller alone is. Of a terminal
that goes away the leader of its session is told first, and others by that or not at all: so SIGHUP is always
passed on, and ends the command if the terminal is gone since. That its sender was the kernel would not tell: signals
of one number become one. Source: __tty_hangup, disassociate_ctty, __isig in drivers/tty; sigaction(2).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Final
else:
    import _signal  # `signal` imports `enum`

__all__ = ["attend", "has_terminal", "hold_signals", "release_signals"]

_SI_KERNEL: Final = 0x80
_SIGRTMIN: Final = 34  # supervisor.py: SIGRTMIN + N is N for the command
_TOLD: Final = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGALRM,
    _signal.SIGVTALRM,
    _signal.SIGPROF,
    _signal.SIGWINCH,
    _signal.SIGIO,
    _signal.SIGPWR,
    _signal.SIGCHLD,
)


def hold_signals() -> None:
    """Keep signals until `attend` passes them on, from before the command is started."""
    if _signal.getsignal(_signal.SIGCHLD) is not _signal.SIG_DFL:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _TOLD)


def release_signals() -> None:
    """Take signals again as they come."""
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _TOLD)


def attend(pid: int, *, terminal: bool) -> int | None:
    """Wait until the supervisor `pid`, our child, has ended all; return the command's exit status.

    `terminal`: there was one when the command was started. None: the supervisor was killed. Who has SIGHUP ignored
    (nohup) does not go with the terminal, and nor does the command.
    """
    waited = set(_TOLD)
    if _signal.getsignal(_signal.SIGHUP) is _signal.SIG_IGN:
        waited.remove(_signal.SIGHUP)
    while True:
        news = _signal.sigwaitinfo(waited)
        number = news.si_signo
        if number == _signal.SIGCHLD:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else None
        elif number == _signal.SIGHUP or news.si_code != _SI_KERNEL:
            os.kill(pid, _SIGRTMIN + number)
            if number == _signal.SIGHUP and terminal and not has_terminal():
                os.kill(pid, _signal.SIGTERM)


def has_terminal() -> bool:
    """Whether this process has a terminal that controls it."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
