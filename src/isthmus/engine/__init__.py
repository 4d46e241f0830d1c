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
    attend,
    clear_run,
    commands,
    confirm,
    create_namespace,
    create_network,
    declarations,
    down,
    execute,
    leave_to_child,
    logs,
    plan,
    plan_forwarding,
    reap,
    rebuild,
    remove_namespace,
    remove_network,
    repair,
    run,
    stop,
    switch_forwarding,
    up,
)

__all__ = [
    "Attached",
    "Host",
    "attach",
    "attend",
    "clear_run",
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
    "logs",
    "plan",
    "plan_forwarding",
    "publish",
    "reap",
    "rebuild",
    "remove_namespace",
    "remove_network",
    "repair",
    "run",
    "stop",
    "switch_forwarding",
    "unpublish",
    "up",
]
