"""Words and texts as sh(1) reads them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["command", "here", "quoted"]

_SAFE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")


def quoted(word: str) -> str:
    """Return a word as a shell takes it for one."""
    if word and all(letter in _SAFE for letter in word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def command(*words: object) -> str:
    """Return a command line of words."""
    return " ".join(quoted(str(word)) for word in words)


def here(command: str, text: str) -> list[str]:
    """Return the lines that feed a text to a command."""
    mark = "END"
    while f"\n{mark}\n" in f"\n{text}\n":
        mark += "_"
    return [f"{command} <<'{mark}'", *text.rstrip("\n").split("\n"), mark]
