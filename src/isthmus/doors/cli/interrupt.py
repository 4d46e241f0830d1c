"""Ctrl-C: while the command line loads it ends the process; a verb hears of it, and undoes what it had begun.

An import that is interrupted would be told as a traceback.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # `signal` imports `enum`

__all__ = ["end_at_interrupt", "raise_at_interrupt"]


def end_at_interrupt() -> None:
    """Have Ctrl-C end this process, unless whoever started it had that ignored."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def raise_at_interrupt() -> None:
    """Have Ctrl-C raise KeyboardInterrupt again."""
    if _signal.getsignal(_signal.SIGINT) is _signal.SIG_DFL:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
