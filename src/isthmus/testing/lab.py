"""A throw-away host and its LAN, joined by a cable.

    host  eth0 203.0.113.2/24, 203.0.113.3/24, 2001:db8::2/64 ---- eth0 203.0.113.9/24, 2001:db8::9/64  lan

The host's default routes lead to the LAN's addresses. Both are hosts of their own (testing/place.py);
nothing is made in the machine's own namespaces.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from isthmus.testing.machine import LeftBehind, end_processes, processes_of, traces
from isthmus.testing.place import Host

__all__ = ["HOST4", "HOST4_SECOND", "HOST6", "LAN4", "LAN6", "Lab"]

HOST4: Final = "203.0.113.2"
HOST4_SECOND: Final = "203.0.113.3"
HOST6: Final = "2001:db8::2"
LAN4: Final = "203.0.113.9"
LAN6: Final = "2001:db8::9"

_DEADLINE_S: Final = 10.0
# Duplicate-address detection is off on the cable alone, so that its link-local addresses can be used
# at once; what is made later has the kernel's defaults.
_CABLE: Final = "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; exec ip -batch -"


class Lab:
    """A host and a LAN, ended with all that runs in them when the `with` block ends.

    Raises:
        LeftBehind: at the end, if something of it is left on the machine.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="isthmus-lab-") if path is None else None
        self.path = Path(self._folder.name) if self._folder else path or Path()
        self._id = uuid.uuid4().hex
        self._processes: list[subprocess.Popen[str]] = []
        self._before = traces()
        self._closed = False
        try:
            self.host = Host(self.path / "host", self._id, self._processes)
            self.lan = Host(self.path / "lan", self._id, self._processes)
            self._plug_cable()
        except BaseException:
            self.close()
            raise

    def _plug_cable(self) -> None:
        self.host.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(self.lan.pid))
        # A resolver of the machine is not reached from here, and each question shall be told so, not one a second.
        for name in ("net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"):
            self.lan.sysctl(name, 0)
        _configure(self.lan, LAN4, LAN6)
        _configure(self.host, HOST4, HOST4_SECOND, HOST6)
        deadline = time.monotonic() + _DEADLINE_S
        while not (_is_usable(self.host) and _is_usable(self.lan)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the cable of the lab is not up after {_DEADLINE_S} s")
        routes = f"route add default via {LAN4}\nroute add default via {LAN6}\n"
        self.host.run("ip", "-batch", "-", input=routes)

    def close(self) -> None:
        """End everything, and look whether something is left; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        holders = [place.pid for name in ("host", "lan") if isinstance(place := getattr(self, name, None), Host)]
        try:
            end_processes(self._id, holders)
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout, process.stderr):
                    _close(pipe)
        left = traces() - self._before
        left |= {f"process {pid}" for pid in processes_of(self._id, holders)}
        if self._folder is not None:
            self._folder.cleanup()
        if left:
            raise LeftBehind("left on the machine: " + ", ".join(sorted(left)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _configure(host: Host, *addresses: str) -> None:
    with_length = [f"{address}/64 nodad" if ":" in address else f"{address}/24" for address in addresses]
    lines = ["link set eth0 up", *(f"addr add {address} dev eth0" for address in with_length)]
    host.run("sh", "-c", _CABLE, input="\n".join(lines) + "\n")


def _is_usable(host: Host) -> bool:
    """Tell whether the cable's link is up and no address waits for duplicate-address detection."""
    (link,) = host.ip_json("addr", "show", "dev", "eth0")
    addresses = link["addr_info"]
    has_link_local = any(one["scope"] == "link" for one in addresses)
    return link["operstate"] == "UP" and has_link_local and not any(one.get("tentative") for one in addresses)


def _close(pipe: IO[str] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except BrokenPipeError:  # what was not written yet has no reader any more
        pass
