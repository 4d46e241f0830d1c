"""From words to a verb and what was given to it.

What is said in the usual way is read by the table alone. Help, errors and rarer spellings are argparse's, which
takes as long to load as the rest of a call does to start; a test holds both to one meaning.
"""

from __future__ import annotations

from isthmus.doors.cli.errors import Usage
from isthmus.doors.cli.table import VERBS, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["Given", "choose", "parse", "read_by_argparse", "read_plainly"]


class Given:
    """What was given to a verb, by the names of its arguments and options."""

    def __init__(self, values: dict[str, object], command: tuple[str, ...]) -> None:
        self._values = values
        self.command = command

    def text(self, name: str) -> str | None:
        """Return the value of an option or argument, None where it was not given."""
        found = self._values[name]
        return None if found is None else str(found)

    def word(self, name: str) -> str:
        """Return the value of an argument that must be given."""
        return str(self._values[name])

    def texts(self, name: str) -> list[str]:
        """Return the values of an option that may be repeated."""
        found = self._values[name]
        return [str(one) for one in found] if isinstance(found, list) else []

    def has(self, name: str) -> bool:
        """Whether a switch was given; one that the verb does not know was not."""
        return bool(self._values.get(name))


def choose(argv: Sequence[str]) -> tuple[Verb, list[str]] | str:
    """Return the verb that is called and what follows it, or a text to print: help or the version.

    Raises:
        Usage: there is no such verb.
    """
    words = list(argv)
    if not words:
        raise Usage("no command given", hint="isthmus --help lists them")
    if words[0] in ("-h", "--help", "help"):
        return _overview(VERBS)
    if words[0] == "--version":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return f"isthmus {version('isthmus')}"
        except PackageNotFoundError:
            return "isthmus (not installed)"
    for verb in VERBS:
        if tuple(words[: len(verb.words)]) == verb.words:
            return verb, words[len(verb.words) :]
    group = [verb for verb in VERBS if len(verb.words) == 2 and verb.words[0] == words[0]]
    if not group:
        raise Usage(f"no command {words[0]!r}", hint="isthmus --help lists them")
    if words[1:2] in (["-h"], ["--help"]):
        return _overview(tuple(group))
    rest = " | ".join(verb.words[1] for verb in group)
    said = f"no command {words[0]} {words[1]!r}" if len(words) > 1 else f"{words[0]} needs a command"
    raise Usage(said, hint=f"isthmus {words[0]} {rest}")


def _overview(verbs: Sequence[Verb]) -> str:
    width = max(len(verb.name) for verb in verbs)
    lines = ["Container networks on Linux: declared, planned, applied, repaired, explained.", ""]
    lines += [f"  isthmus {verb.name:{width}}  {verb.help}" for verb in verbs]
    lines += [
        "",
        "isthmus COMMAND --help says more of each.",
        "",
        "Exit status: 0 done; 64 usage or bad input; 3 refused; 4 not found; 5 no permission; 6 the kernel",
        "lacks it; 1 any other error. plan: 0 nothing to change, 2 changes, 1 error. exec: that of its command;",
        "run: that too, and 125 where isthmus failed.",
    ]
    return "\n".join(lines)


def parse(verb: Verb, words: Sequence[str]) -> Given:
    """Read what was given to a verb.

    Raises:
        Usage: unknown options, arguments missing or too many.
        SystemExit: help was asked for, and is printed.
    """
    head, command = _split_command(verb, list(words))
    values = read_plainly(verb, head)
    if values is None or (verb.command and not command):
        values = read_by_argparse(verb, head, runs=bool(command))
    return Given(values, tuple(command))


def read_plainly(verb: Verb, words: Sequence[str]) -> dict[str, object] | None:
    """Read arguments and options by the table; None: not said in the usual way, or wrong."""
    options = {flag: option for option in verb.options for flag in option.flags}
    values: dict[str, object] = {option.name: None if option.metavar else False for option in verb.options}
    arguments: list[str | None] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            arguments.append(word)
            continue
        flag, sign, value = word.partition("=")
        option = options.get(flag)
        if option is None or (sign and not (option.metavar and flag.startswith("--"))):
            return None
        if not option.metavar:
            values[option.name] = True
            continue
        value = value if sign else next(rest, "-")
        if (value.startswith("-") and not sign) or (option.choices and value not in option.choices):
            return None
        before = values[option.name]
        values[option.name] = [*(before if isinstance(before, list) else ()), value] if option.many else value
    if not sum(not one.optional for one in verb.arguments) <= len(arguments) <= len(verb.arguments):
        return None
    arguments += [None] * (len(verb.arguments) - len(arguments))
    return {**values, **dict(zip((one.name for one in verb.arguments), arguments, strict=True))}


def read_by_argparse(verb: Verb, words: Sequence[str], *, runs: bool = True) -> dict[str, object]:
    """Read arguments and options by argparse; `runs`: there is a command line besides, for a verb that wants one.

    Raises:
        Usage, SystemExit: as `parse` does.
    """
    import argparse

    class Parser(argparse.ArgumentParser):
        """Errors are raised, so that they leave by the one way out."""

        def error(self, message: str) -> NoReturn:
            raise Usage(f"{verb.name}: {message}", hint=f"isthmus {verb.name} --help")

    parser = Parser(
        prog=f"isthmus {verb.name}",
        description=f"{verb.help[0].upper()}{verb.help[1:]}.",
        epilog=verb.more or None,
        allow_abbrev=False,
        usage=_usage(verb) if verb.command else None,
    )
    for argument in verb.arguments:
        parser.add_argument(argument.name, nargs="?" if argument.optional else None, help=argument.help)
    for option in verb.options:
        if not option.metavar:
            parser.add_argument(*option.flags, dest=option.name, action="store_true", help=option.help)
            continue
        parser.add_argument(
            *option.flags,
            dest=option.name,
            action="append" if option.many else "store",
            metavar=option.metavar,
            choices=option.choices or None,
            help=option.help,
        )
    given = parser.parse_args(list(words))
    if verb.command and not runs:
        parser.error("no command to run")
    return vars(given)


def _usage(verb: Verb) -> str:
    return " ".join((f"isthmus {verb.name} [OPTION...]", *(one.name for one in verb.arguments), "-- CMD..."))


def _split_command(verb: Verb, words: list[str]) -> tuple[list[str], list[str]]:
    """Cut off the command line that a verb is to run: after `--`, or after options and arguments."""
    if not verb.command:
        return words, []
    valued = {flag for option in verb.options if option.metavar for flag in option.flags}
    place, arguments = 0, len(verb.arguments)
    while place < len(words) and (words[place].startswith("-") or arguments):
        if words[place] == "--":
            return words[:place], words[place + 1 :]
        if not words[place].startswith("-"):
            arguments -= 1
        elif words[place] in valued:
            place += 1
        place += 1
    rest = words[place:]
    return words[:place], rest[1:] if rest[:1] == ["--"] else rest
