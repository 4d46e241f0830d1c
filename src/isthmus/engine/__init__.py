"""The verbs: what every door calls, and the Python API.

from isthmus.engine import Host, attach
from isthmus.model.declared import AttachmentWish

with Host() as host:
    attach(host, AttachmentWish(network="br0"), "net0")
"""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.engine.attachments import Attached, attach, connect, detach
from isthmus.engine.declarations import declarations, down, plan, up
from isthmus.engine.namespaces import create_namespace, execute, remove_namespace
from isthmus.engine.networks import create_network, remove_network
from isthmus.engine.publishes import publish, unpublish
from isthmus.engine.reaper import leave_to_child, reap
from isthmus.engine.rebuild import rebuild, set_state_aside
from isthmus.engine.repair import repair
from isthmus.engine.script import commands

__all__ = [
    "Attached",
    "Host",
    "attach",
    "commands",
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
