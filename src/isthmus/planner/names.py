"""The files that give a namespace its names: /etc/netns/NAME/hosts and resolv.conf."""

from __future__ import annotations

from isthmus.model.network import Record

__all__ = ["namespace_files"]


def namespace_files(record: Record, namespaces: frozenset[str] | None) -> dict[str, str]:
    """Return path -> text of the files of the namespaces that we made (None: all)."""
    del record, namespaces
    return {}
