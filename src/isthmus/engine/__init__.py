"""The verbs: what every door calls, and the Python API.

from isthmus.engine import Host, attach
from isthmus.model.declared import AttachmentWish

with Host() as host:
    attach(host, AttachmentWish(network="br0"), "net0")
"""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.engine.attachments import Attached, attach, connect, detach
from isthmus.engine.publishes import publish, unpublish
from isthmus.engine.seldom import (
    commands,
    confirm,
    create_namespace,
    create_network,
    declarations,
    down,
    execute,
    leave_to_child,
    plan,
    reap,
    rebuild,
    remove_namespace,
    remove_network,
    repair,
    set_state_aside,
    up,
)

__all__ = [
    "Attached",
    "Host",
    "attach",
    "commands",
    "confirm",
    "connect",
    "create_namespace",
    "create_network",
    "declarations",
    "detach",
    "down",
    "execute",
    "leave_to_child",
    "plan",
    "publish",
    "reap",
    "rebuild",
    "remove_namespace",
    "remove_network",
    "repair",
    "set_state_aside",
    "unpublish",
    "up",
]
