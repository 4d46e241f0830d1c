"""The one path: desired, dump, diff, write down, apply, settle."""

from isthmus.converge.host import Host

__all__ = ["Host"]
