"""The main job, narrated: a host with two servers behind one address, and somebody outside who reads them.

Host and outside are namespaces of testing/lab.py, which refuses to start in the machine's own.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path

from isthmus.testing import HOST4, Lab, snapshot

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "examples" / "port-forwarding.yaml"
DEADLINE_S = 20.0
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
FETCH = """
import re, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=2) as page:
    title = re.search("<title>(.*?)</title>", page.read().decode(errors="replace"))
    print(f"HTTP {page.status} from {page.headers['Server']}: {title and title[1]}")
"""


def say(text: str) -> None:
    """Print what happens next."""
    print(f"\n\033[1m{text}\033[0m" if COLOUR else f"\n{text}", flush=True)


def show(where: str, *argv: str) -> None:
    """Print a command line as it would be typed there."""
    line = f"{where}$ {shlex.join(argv)}"
    print(f"\033[2m{line}\033[0m" if COLOUR else line, flush=True)


def isthmus(lab: Lab, *argv: str) -> None:
    """Run the command line on the host and print what it says."""
    show("host", "isthmus", *argv)
    print(lab.host.isthmus(*argv).stdout.rstrip())


def fetch(lab: Lab, port: int) -> None:
    """Fetch a page from outside, once the server listens, and print it."""
    url = f"http://{HOST4}:{port}/"
    show("outside", "curl", url)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        done = lab.lan.run(sys.executable, "-I", "-c", FETCH, url, check=False)
        if done.returncode == 0:
            print(done.stdout.strip())
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"demo: no page from {url}:\n{done.stderr}")
        time.sleep(0.1)


def script_without_ruleset(text: str) -> list[str]:
    """Return the lines of the commands, the static ruleset (150 lines, always the same) left out."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("table inet isthmus") and not inside:
            lines.append("    ... planner/ruleset.nft, the one static ruleset ...")
            inside = True
        elif inside and line == "END":
            inside = False
        if not inside:
            lines.append(line)
    return lines


def main() -> None:
    """Do it all; the lab ends what is left, also after an error."""
    say("A throw-away host (203.0.113.2) and somebody outside (203.0.113.9), joined by a cable.")
    with Lab() as lab:
        before = snapshot(lab.host)

        say(f"What should exist is declared, in examples/{FILE.name}:")
        print("".join(line for line in FILE.read_text().splitlines(keepends=True) if not line.startswith("#")).rstrip())

        say("What would change?")
        show("host", "isthmus", "plan", FILE.name)
        # It ends with 2: there are changes.
        print(lab.host.isthmus("plan", str(FILE), check=False).stdout.rstrip())

        say("Make it so. These are the commands that a person would have typed:")
        show("host", "isthmus", "up", FILE.name, "--show-commands")
        done = lab.host.isthmus("up", str(FILE), "--show-commands")
        print("\n".join(script_without_ruleset(done.stdout.partition("\n# undo\n")[0])))

        say("Each server listens on port 80 of its own namespace; outside sees two ports of one host:")
        fetch(lab, 8080)
        fetch(lab, 8081)

        say("The servers saw who asked: the client's own address.")
        for command in json.loads(lab.host.isthmus("ls", "--format", "json").stdout)["commands"]:
            show("host", "tail", "-n1", command["log"])
            print(lab.host.run("tail", "-n1", command["log"]).stdout.rstrip())

        say("The whole host at a glance:")
        isthmus(lab, "ls")

        say("Once more: nothing to do.")
        isthmus(lab, "up", str(FILE))

        say("And away with it.")
        isthmus(lab, "down", "port-forwarding")
        if snapshot(lab.host) != before:
            raise SystemExit("demo: the host is not as it was before")
        print("The host is as it was before: links, addresses, routes, firewall, sysctls, files.")


if __name__ == "__main__":
    main()
