"""Ctrl-C at any instant leaves the old or the new state, without a repair."""

from __future__ import annotations

import difflib
import errno
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from isthmus.testing import Lab, snapshot

NAMESPACES = 20
ROUNDS = 14


def declared() -> str:
    spaces = "".join(
        f'  n{one}: {{networks: {{br0: {{ip: 10.7.0.{one + 10}}}}}, publish: ["{8100 + one}:80/tcp"]}}\n'
        for one in range(NAMESPACES)
    )
    return f'name: many\nnetworks: {{br0: {{subnets: [10.7.0.0/24, "fd07::/64"]}}}}\nnamespaces:\n{spaces}'


def unlike(lab: Lab, wanted: str) -> list[str]:
    """Return what is otherwise than wanted once the child that clears dead links is done."""
    deadline = time.monotonic() + 15
    while (now := snapshot(lab.host)) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return list(difflib.unified_diff(wanted.splitlines(), now.splitlines(), lineterm="", n=0))


def test_an_interrupted_up_leaves_the_old_or_the_new_state(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    file.write_text(declared())
    # Whoever runs the tests in the background may have SIGINT ignored, and that is inherited.
    argv = ("env", "--default-signal=INT", sys.executable, "-m", "isthmus.doors.cli", "up", str(file))
    # One whole round: /run/netns is a mount from now on, and the time is known.
    start = time.monotonic()
    lab.host.isthmus("up", str(file))
    whole_s = time.monotonic() - start
    lab.host.isthmus("down", "many")
    old = snapshot(lab.host)
    chance = random.Random(1)
    outcomes = []
    for number in range(ROUNDS):
        process = lab.host.spawn(*argv)
        time.sleep(whole_s * (number + chance.random()) / ROUNDS)
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        is_new = lab.host.isthmus("plan", str(file), check=False).returncode == 0
        outcomes.append((process.returncode, is_new))
        if is_new:
            lab.host.isthmus("down", "many")
        assert unlike(lab, old) == [], f"round {number}: {process.returncode} {errors}"
    assert sum(status in (130, -signal.SIGINT) for status, _ in outcomes) >= 3, outcomes
    assert any(not is_new for _, is_new in outcomes), outcomes


# Stands in for nft: loads what it is given when it hears of it.
LATE_NFT = """#!/bin/sh
echo started >{folder}/started
read -r _ <{folder}/go
exec {folder}/nft "$@"
"""


def test_what_nft_would_load_after_an_interrupt_is_not_loaded(lab: Lab, tmp_path: Path) -> None:
    before = snapshot(lab.host)
    for name in ("started", "go"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "late").write_text(LATE_NFT.format(folder=tmp_path))
    program = lab.host.run("sh", "-c", "command -v nft").stdout.strip()
    lab.host.run("sh", "-ec", f"cp {program} nft; chmod +x late; mount --bind late {program}", cwd=tmp_path)
    argv = (sys.executable, "-m", "isthmus.doors.cli", "network", "create", "br0", "--subnet", "10.7.0.0/24")
    started = os.open(tmp_path / "started", os.O_RDONLY | os.O_NONBLOCK)
    process = lab.host.spawn("env", "--default-signal=INT", *argv)
    assert select.select([started], [], [], 30)[0], "nft is not started"
    os.close(started)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    try:
        go = os.open(tmp_path / "go", os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        assert error.errno == errno.ENXIO, "nobody waits any more"  # noqa: PT017
    else:
        os.close(go)
    lab.host.run("umount", program)
    assert unlike(lab, before) == []
