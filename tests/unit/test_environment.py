"""Variables for a command, as docker reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.declare.environment import variables
from isthmus.errors import InvalidInput

CALLER = {"HOME": "/root", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A=1\nB=two words", ("A=1", "B=two words")),
        ("# no\n\n   \n  A=1", ("A=1",)),
        ("A='1' # all of it", ("A='1' # all of it",)),
        ("A==b=\nC=", ("A==b=", "C=")),
        ("HOME\nEMPTY\nGONE", ("HOME=/root", "EMPTY=")),
        ("A=1\nA=2", ("A=2",)),
        ("\ufeffA=1\r\nB=2\r\n", ("A=1", "B=2")),
        ("A=x\u2028y\x0cz", ("A=x\u2028y\x0cz",)),  # only a newline ends a line
    ],
)
def test_a_file_of_variables(tmp_path: Path, text: str, wanted: tuple[str, ...]) -> None:
    (tmp_path / "env").write_bytes(text.encode())
    assert variables([f"{tmp_path}/env"], [], CALLER) == wanted


def test_options_go_before_files_and_later_before_earlier(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("A=1\nB=1\nC=1\n")
    (tmp_path / "two").write_text("B=2\nC=2\n")
    files = [f"{tmp_path}/one", f"{tmp_path}/two"]
    assert variables(files, ["C=3", "HOME"], CALLER) == ("A=1", "B=2", "C=3", "HOME=/root")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"A=1\n=2\n", "env:2: '=2': a variable has a name"),
        (b"A B=2\n", "env:1: 'A B=2': the name of a variable has no blanks"),
        (b"A=\xff\n", "is not UTF-8"),
        (b"A=\0\n", "holds no NUL"),
    ],
)
def test_what_is_no_variable_is_named_by_its_line(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "env").write_bytes(data)
    with pytest.raises(InvalidInput, match=words):
        variables([f"{tmp_path}/env"], [], CALLER)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InvalidInput, match="--env-file: '/nowhere/env': No such file"):
        variables(["/nowhere/env"], [], CALLER)
