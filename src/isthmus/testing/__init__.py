"""What tests of this and of other projects may use: a throw-away host and LAN on the real kernel.

    with Lab() as lab:
        lab.host.isthmus("up", "web.yaml", cwd=folder)
        assert lab.lan.probe("203.0.113.2", 8080) == "web 203.0.113.9 80"

It knows isthmus by its command line alone. Needs root, iproute2 and util-linux.
"""

from isthmus.testing.lab import HOST4, HOST4_SECOND, HOST6, LAN4, LAN6, Lab
from isthmus.testing.machine import LeftBehind
from isthmus.testing.place import CommandFailed, Host, Place, Unnamed
from isthmus.testing.snapshot import snapshot

__all__ = [
    "HOST4",
    "HOST4_SECOND",
    "HOST6",
    "LAN4",
    "LAN6",
    "CommandFailed",
    "Host",
    "Lab",
    "LeftBehind",
    "Place",
    "Unnamed",
    "snapshot",
]
