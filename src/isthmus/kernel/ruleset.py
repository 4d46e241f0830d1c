"""The static ruleset: load it, tell whether it is as we loaded it, replace it, take it away.

`nft` compiles its text once, when the first network comes; whether anybody touched it since is told by the
nf_tables generation id, and when that has moved, by a fingerprint of what the kernel holds.
"""

from __future__ import annotations

import errno
import os

from isthmus.errors import KernelError, Unsupported
from isthmus.kernel.access import Access
from isthmus.model.ruleset import RULESET, element_command
from isthmus.netlink import nft
from isthmus.netlink.wire import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from isthmus.model.host import Element

__all__ = ["fingerprint", "generation", "load_ruleset", "ruleset_text", "unload_ruleset"]

_PROGRAMS: Final = ("/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/usr/bin/nft")
_NFTA_TABLE_FLAGS: Final = 2
_PLACEHOLDER: Final = "@VERSION@"


def ruleset_source() -> str:
    """Return the text of planner/ruleset.nft."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(f"{here}/planner/ruleset.nft", encoding="utf-8") as file:
        return file.read()


def ruleset_text() -> str:
    """Return what `nft -f` is to load: the text with its version in the table's comment."""
    return ruleset_source().replace(_PLACEHOLDER, RULESET)


def _digest(data: bytes) -> str:
    from _blake2 import blake2s

    return str(blake2s(data, digest_size=8).hexdigest())


def generation(access: Access) -> int:
    """Return the nf_tables generation id of the host's namespace."""
    return nft.decode_generation(access.nft.do(nft.generation())[0].payloads[0])


def fingerprint(access: Access) -> str | None:
    """Return what identifies the loaded rules; None: our table is not there."""
    answer = access.nft.ask([nft.table()])[0]
    if answer.errno == errno.ENOENT:
        return None
    if answer.errno:
        raise answer.error()
    socket = access.nft
    dumps = [socket.dump(request) for request in (nft.chains(), nft.rules(), nft.sets())]
    # A table may be made dormant as a whole.
    flags = attributes(answer.payloads[0], 4).get(_NFTA_TABLE_FLAGS, b"")
    return _digest(nft.fingerprint(*dumps) + flags)


def load_ruleset(elements: Iterable[Element], lock: int) -> None:
    """Load the static ruleset in the place of any that is there, with elements, in one transaction.

    `lock` is a descriptor that `nft` inherits: when we are killed, the next call waits until it has ended.

    Raises:
        Unsupported: there is no `nft` program.
        KernelError: nft or the kernel refuses it.
    """
    program = next((path for path in _PROGRAMS if os.access(path, os.X_OK)), None)
    if program is None:
        raise Unsupported("nft", "cannot load the ruleset: there is no nft program", hint="install nftables")
    text = f"table inet isthmus\ndelete table inet isthmus\n{ruleset_text()}"
    text += "".join(f"{element_command('add', one)}\n" for one in elements)
    status, words = _feed(program, text.encode(), lock)
    if status:
        raise KernelError("load", "table inet isthmus", errno.EINVAL, words.strip().replace("\n", "; "))


def _feed(program: str, text: bytes, lock: int) -> tuple[int, str]:
    """Run `nft -f -` with a text; return its exit status and what it said."""
    source, says = os.memfd_create("isthmus-ruleset"), os.memfd_create("isthmus-nft")
    try:
        os.write(source, text)
        os.lseek(source, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, says, 1), (os.POSIX_SPAWN_DUP2, says, 2)]
        actions.append((os.POSIX_SPAWN_DUP2, lock, 3))
        pid = os.posix_spawn(program, [program, "-f", "-"], os.environ, file_actions=actions)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.lseek(says, 0, os.SEEK_SET)
        return status, os.read(says, 4000).decode(errors="replace")
    finally:
        os.close(source)
        os.close(says)


def unload_ruleset(access: Access) -> None:
    """Delete our table and all in it; missing is success."""
    refused = access.nft.batch(nft.batch_begin(None), [nft.delete_table()], nft.batch_end())
    if refused and refused[0].errno != errno.ENOENT:
        raise refused[0].error()
