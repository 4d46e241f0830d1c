"""The static rulesets: load one, tell whether it is as we loaded it, replace it, take it away.

`nft` compiles a text once, when the first network that needs it comes; whether anybody touched it since is told by
the nf_tables generation id, and when that has moved, by a fingerprint of what the kernel holds.
"""

from __future__ import annotations

import errno
import os

from isthmus.errors import KernelError, Unavailable, Unsupported
from isthmus.kernel.access import Access
from isthmus.model.ruleset import FAMILIES, RULESET, element_command
from isthmus.netlink import nft
from isthmus.netlink.wire import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterable
    from typing import Final

    from isthmus.model.host import Element
else:
    import _signal  # `signal` imports `enum`

__all__ = [
    "fingerprint",
    "generation",
    "has_bridge_table",
    "load_ruleset",
    "other_tables",
    "ruleset_text",
    "set_elements",
    "unload_ruleset",
]

_PROGRAMS: Final = ("/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/usr/bin/nft")
_NFTA_TABLE_FLAGS: Final = 2
_PLACEHOLDER: Final = "@VERSION@"


def ruleset_text(family: str) -> str:
    """Return what `nft -f` is to load for a family: the text with its version in the table's comment."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(f"{here}/planner/{FAMILIES[family]}", encoding="utf-8") as file:
        return file.read().replace(_PLACEHOLDER, RULESET)


def _digest(data: bytes) -> str:
    from _blake2 import blake2s

    return str(blake2s(data, digest_size=8).hexdigest())


def generation(access: Access) -> int:
    """Return the nf_tables generation id of the host's namespace."""
    return nft.decode_generation(access.nft.get(nft.generation()))


def fingerprint(access: Access) -> str:
    """Return what identifies the loaded rules: FAMILY:HASH for each table of ours that is there."""
    chains = access.nft.dump(nft.chains())
    return " ".join(f"{family}:{_print(access, family, chains)}" for family in nft.families_of(chains))


def _print(access: Access, family: str, chains: list[bytes]) -> str:
    socket = access.nft
    answer = socket.do(nft.table(family))[0]
    # A table may be made dormant as a whole.
    flags = attributes(answer.payloads[0], 4).get(_NFTA_TABLE_FLAGS, b"")
    return _digest(
        nft.fingerprint(family, chains, socket.dump(nft.rules(family)), socket.dump(nft.sets(family))) + flags
    )


def other_tables(found: str, loaded: str) -> str:
    """Return which of the tables that were loaded is not there or not as it was, from the two fingerprints."""
    now = found.split()
    return " and ".join(f"table {one.partition(':')[0]} isthmus" for one in loaded.split() if one not in now)


def set_elements(access: Access, name: str) -> list[Element]:
    """Return all elements of a set or map of ours; none where it or its table is not there."""
    return nft.decode_elements(access.nft.dump(nft.dump_elements(name), absent=errno.ENOENT))


def has_bridge_table(access: Access) -> bool:
    """Whether the kernel (and nft) can keep isolated ports apart by planner/bridge.nft: it is there, or nft checks it.

    It may have been built without CONFIG_NF_TABLES_BRIDGE.
    """
    if not access.nft.ask([nft.table("bridge")])[0].errno:
        return True
    return not _feed(_program(), ("--check", "-f", "-"), ruleset_text("bridge").encode(), None)[0]


def load_ruleset(family: str, elements: Iterable[Element], lock: int) -> None:
    """Load a static ruleset in the place of any that is there, with elements, in one transaction.

    `lock` is a descriptor that `nft` inherits: when we are killed, the next call waits until it has ended.

    Raises:
        Unsupported: there is no `nft` program.
        KernelError: nft or the kernel refuses it. Unavailable: nft was ended by a signal.
    """
    table = f"table {family} isthmus"
    text = f"{table}\ndelete {table}\n{ruleset_text(family)}"
    text += "".join(f"{element_command('add', one)}\n" for one in elements)
    program = _program()
    status, words = _feed(program, ("-f", "-"), text.encode(), lock)
    if status < 0:
        raise Unavailable(f"cannot load {table}: {program} was ended by signal {-status}")
    if status:
        raise KernelError("load", table, errno.EINVAL, words.strip().replace("\n", "; "))


def _program() -> str:
    program = next((path for path in _PROGRAMS if os.access(path, os.X_OK)), None)
    if program is None:
        raise Unsupported("nft", "cannot load the ruleset: there is no nft program", hint="install nftables")
    return program


def _feed(program: str, words: Iterable[str], text: bytes, lock: int | None) -> tuple[int, str]:
    """Run `nft` on a text; return its exit status and what it said."""
    source, says = os.memfd_create("isthmus-ruleset"), os.memfd_create("isthmus-nft")
    try:
        os.write(source, text)
        os.lseek(source, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, says, 1), (os.POSIX_SPAWN_DUP2, says, 2)]
        if lock is not None:
            actions.append((os.POSIX_SPAWN_DUP2, lock, 3))
        status = _wait_for(program, [program, *words], actions)
        os.lseek(says, 0, os.SEEK_SET)
        return status, os.read(says, 4000).decode(errors="replace")
    finally:
        os.close(source)
        os.close(says)


def _wait_for(program: str, argv: list[str], actions: list[tuple[int, int, int]]) -> int:
    """Run a program to its end, which is now where Ctrl-C ends us; return its exit status.

    SIGINT is held while the program starts: else it could come when there is a child and nobody knows its pid.
    """
    held = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT,))
        pid = os.posix_spawn(program, argv, os.environ, file_actions=actions, setsigmask=held)
        try:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, held)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except BaseException:  # it shall not load what is about to be undone
            try:
                os.kill(pid, _signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # it had been waited for already
            raise
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, held)


def unload_ruleset(access: Access, family: str) -> None:
    """Delete our table of a family and all in it; missing is success."""
    refused = access.nft.batch(nft.batch_begin(None), [nft.delete_table(family)], nft.batch_end())
    if refused and refused[0].errno != errno.ENOENT:
        raise refused[0].error()
