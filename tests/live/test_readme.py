"""README.md tells the truth: its commands run in a lab, one after another, and print what it shows.

Blocks ```console are run: lines after `$ ` by a shell on the host, the others are what that printed. A block after
`<!-- file: NAME -->` is that file; the block ```python is run last. What differs from run to run (MACs, ids, times)
is compared by its shape. ISTHMUS_UPDATE_README=1 writes the real output into README.md.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from isthmus.testing import HOST4, LAN4, Lab, snapshot

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE: Final = re.compile(r"<!-- file: (\S+) -->\n$")
# One address to give, so that it is known which.
DHCP_SERVER: Final = (
    *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces"),
    *(
        "--dhcp-range=203.0.113.150,203.0.113.150",
        "--no-ping",
        "--user=root",
        "--pid-file=",
        "--log-facility=/dev/null",
    ),
    "--dhcp-leasefile=/run/leases",
)
_SHAPES: Final = (
    (re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "MAC"),
    (re.compile(r"\bfe80::[0-9a-f:]+"), "LINKLOCAL"),
    (re.compile(r"\bisv[0-9a-f]+\b"), "LINK"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"time \d+ms"), "TIME"),
    (re.compile(r"-+"), "-"),
    (re.compile(r"[ \t]+"), " "),
)


def blocks() -> Iterator[tuple[str, str, str]]:
    """Yield (language, text, name of the file that it is) of each block."""
    text = README.read_text()
    for found in _BLOCK.finditer(text):
        named = _FILE.search(text, 0, found.start())
        yield found[1], found[2], named[1] if named else ""


def shape(text: str) -> list[str]:
    """Return what does not differ from run to run; steps that do not depend on each other come in any order."""
    for pattern, word in _SHAPES:
        text = pattern.sub(word, text)
    return sorted(line.strip() for line in text.strip().splitlines())


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block, with what it is said to print."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def run(lab: Lab, command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "ISTHMUS_RUN_DIR": "/run/isthmus"}
    done = lab.host.run("sh", "-c", f"exec 2>&1; {command}", cwd=folder, env=environment, check=False)
    return re.sub(r"[ \t]+$", "", done.stdout, flags=re.MULTILINE)


def test_readme_shows_what_its_commands_print(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    lab.lan.spawn(*DHCP_SERVER)
    before = snapshot(lab.host)
    renewed = README.read_text()
    differing = []
    for language, text, name in blocks():
        if name:
            (folder / name).write_text(text)
        elif language == "console":
            real = ""
            for command, said in commands(text):
                output = run(lab, command, folder)
                real += f"$ {command}\n{output}"
                if shape(said) != shape(output):
                    differing.append(f"$ {command}\nREADME:\n{said}really:\n{output}")
            renewed = renewed.replace(f"```console\n{text}```", f"```console\n{real}```")
        elif language == "python":
            assert lab.host.python(text).stdout == "192.168.2.2 8080:80/tcp\n"
    if os.environ.get("ISTHMUS_UPDATE_README"):
        README.write_text(renewed)
    else:
        assert not differing, "\n".join(differing)
    assert snapshot(lab.host) == before


def test_readme_begins_with_demo_and_test() -> None:
    first = next(text for language, text, _ in blocks() if language == "sh")
    assert [line.split(" #")[0].strip() for line in first.splitlines()] == ["sudo make demo", "sudo make test"]


def test_readme_has_the_exit_codes_of_the_documentation() -> None:
    rows = {line for line in (ROOT / "docs" / "json.md").read_text().splitlines() if re.match(r"\| \d", line)}
    shown = {line for line in README.read_text().splitlines() if re.match(r"\| \d", line)}
    assert {line.split("|")[1] for line in rows} == {line.split("|")[1] for line in shown}


def test_documents_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_addresses_of_readme_are_the_labs() -> None:
    text = README.read_text()
    assert HOST4 in text
    assert LAN4 in text
