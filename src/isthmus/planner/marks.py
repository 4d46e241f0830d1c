"""What we write into the alias of a link of ours: `isthmus KIND SUBJECT [of OWNER]`.

By it a link is told from a stranger's, and the record can be made again when it is lost.
"""

from __future__ import annotations

from isthmus.model.value import Value

__all__ = ["Mark", "mark", "parse_mark"]


class Mark(Value):
    """`kind` is network, attachment or link; `subject` its name or id; `owner` the declaration."""

    kind: str
    subject: str
    owner: str = ""


def mark(kind: str, subject: str, owner: str) -> str:
    """Return the alias of a link."""
    return f"isthmus {kind} {subject} of {owner}" if owner else f"isthmus {kind} {subject}"


def parse_mark(alias: str) -> Mark | None:
    """Read an alias back; None: it is not one of ours."""
    words = alias.split(" ")
    if len(words) == 3 and words[0] == "isthmus":
        return Mark(kind=words[1], subject=words[2])
    if len(words) == 5 and words[0] == "isthmus" and words[3] == "of":
        return Mark(kind=words[1], subject=words[2], owner=words[4])
    return None
