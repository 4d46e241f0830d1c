"""Variables for a command: KEY=VALUE, or KEY for the one that the caller has; files of such lines as docker has them.

Source: docker/cli, `run --env-file`: lines that begin with # and empty ones say nothing, blanks before a name are
dropped, and what follows the first = is the value to its last character, quotes and all.
"""

from __future__ import annotations

from isthmus.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["variables"]


def variables(files: Iterable[str], texts: Iterable[str], caller: Mapping[str, str]) -> tuple[str, ...]:
    """Return KEY=VALUE of each variable; texts go before files, later ones before earlier ones.

    A KEY alone that the caller has not is left out.

    Raises:
        InvalidInput: a file that cannot be read, or a line without a name.
    """
    found: dict[str, str] = {}
    for path in files:
        for place, line in _lines(path):
            _take(found, line, place, caller)
    for text in texts:
        _take(found, text, "--env", caller)
    return tuple(f"{name}={value}" for name, value in found.items())


def _lines(path: str) -> list[tuple[str, str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise InvalidInput("--env-file", path, error.strerror or "cannot be read") from None
    except UnicodeDecodeError:
        raise InvalidInput("--env-file", path, "is not UTF-8") from None
    texts = ((number, line.removesuffix("\r").lstrip()) for number, line in enumerate(lines, 1))
    return [(f"{path}:{number}", text) for number, text in texts if text and not text.startswith("#")]


def _take(found: dict[str, str], text: str, place: str, caller: Mapping[str, str]) -> None:
    name, sign, value = text.partition("=")
    if not name:
        raise InvalidInput(place, text, "a variable has a name before the =")
    if any(one.isspace() for one in name):
        raise InvalidInput(place, text, "the name of a variable has no blanks")
    if "\0" in text:
        raise InvalidInput(place, text, "a variable holds no NUL")
    if sign:
        found[name] = value
    elif name in caller:
        found[name] = caller[name]
