"""A program that sweeps one verb inside a lab's host: `python -m tests.sweep.resident VERB MODE PART PARTS`.

It forks a process for each call, as a command is one, with the n-th system call of that process failed or the
process killed there (faults.c, loaded before it), and looks at the host by other eyes (witness.py) afterwards.
Of verbs that have a `program`, the fault is in that one, which the process starts.
The answer is one line of JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from tests.sweep.verbs import BESIDE, VERBS, Step, Verb, seed
from tests.sweep.witness import difference, pending, witness

import isthmus
from isthmus.engine import Host, reap, repair
from isthmus.errors import IsthmusError
from isthmus.testing import HOST4, HOST4_SECOND, HOST6, LAN4, LAN6

COUNT, FAIL, KILL_BEFORE, KILL_AFTER, INTERRUPT = 1, 2, 3, 4, 5
MODES: Final = {"fail": FAIL, "before": KILL_BEFORE, "after": KILL_AFTER, "interrupt": INTERRUPT}
CHANGE, READ = 0, 1
STATE, RUN = os.environ["ISTHMUS_STATE_DIR"], os.environ["ISTHMUS_RUN_DIR"]
_READS: Final = {
    "fail": 12,
    "before": 0,
    "after": 0,
    "interrupt": 60,
}  # every n-th call that only reads is swept too; 0: none
# "After" a call is "before" the next, but for what others do meanwhile.
_STRIDE: Final = {"fail": 1, "before": 1, "after": 4, "interrupt": 7}
_NETLINK: Final = ("socket 16", "setsockopt", "send ", "recv ")
_LOG: Final = f"{STATE}.faults"
_LIBRARY: Final = os.environ.pop("LD_PRELOAD")
_FAULTS: Final = ctypes.CDLL(_LIBRARY)
_FAULTS.name_of.restype = ctypes.c_char_p


def load_all() -> None:
    """Load all modules, so that no call reads source."""
    for one in pkgutil.walk_packages(isthmus.__path__, "isthmus."):
        if not one.name.endswith("__main__") and not one.name.startswith(("isthmus.testing", "isthmus.doors")):
            __import__(one.name)


Answer = dict[str, Any]


def call(work: Callable[[Host], Any], how: int = 0, which: int = 0, number: int = 0, program: str = "") -> Answer:
    """Do work in a process of its own, with a fault in it or in a program that it starts; return how it ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        signal.signal(signal.SIGALRM, _hang)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else as whoever runs the tests has it
        signal.alarm(15)
        answer = _work(work, how, which, number, program)
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == -signal.SIGKILL:
        return {"error": "killed"}
    if status or not text:
        return {"error": f"status {status}", "odd": f"ended with status {status}"}
    return dict(json.loads(text))


def _hang(_number: int, _frame: object) -> None:
    raise RuntimeError("the call hangs")


def _work(work: Callable[[Host], Any], how: int, which: int, number: int, program: str) -> Answer:
    answer: Answer = {"error": None}
    seed(work)
    host = Host()
    if program:
        os.environ |= {"LD_PRELOAD": _LIBRARY, "ISTHMUS_FAULT": f"{how} {which} {number} 0 {_LOG} {program}"}
    else:
        _FAULTS.arm(how, which, number)
    try:
        with host:
            work(host)
    except (IsthmusError, OSError) as error:  # both of them a door says in one line
        answer = {"error": f"{type(error).__name__}: {error}", "undone": getattr(error, "undone", True)}
        answer["bare"] = isinstance(error, OSError)
    except KeyboardInterrupt:
        answer = {"error": "interrupted", "undone": True}
    except BaseException as error:  # noqa: BLE001  a traceback is what is looked for
        answer = {"error": repr(error), "odd": traceback.format_exc()}
    if program:
        os.environ.pop("ISTHMUS_FAULT")
    else:
        _FAULTS.disarm()
        answer["fired"] = bool(_FAULTS.has_fired())
        answer["hit"] = _FAULTS.name_of(which, number).decode()
    if how == COUNT and not program:
        for kind in (CHANGE, READ):
            answer[str(kind)] = [_FAULTS.name_of(kind, n).decode() for n in range(_FAULTS.counted(kind))]
    try:
        if os.path.exists(f"{STATE}/state.db") and "reaper" not in program:
            reap(STATE)
    except (IsthmusError, OSError) as error:
        answer["reap"] = repr(error)
    return answer


def call_beside(work: Callable[[Host], Any], how: int, which: int, number: int, program: str) -> Answer:
    """Do work whose program has a fault, and wait for what it left behind; `log` is what the fault library tells."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_LOG)
    answer = call(work, how, which, number, program)
    await_end(b"isthmus.engine.")
    lines = []
    with contextlib.suppress(FileNotFoundError), open(_LOG) as file:
        lines = file.read().splitlines()
    return {**answer, "log": lines, "fired": bool(lines), "hit": lines[0] if lines else ""}


def await_end(words: bytes) -> None:
    """Wait until no process of this lab has these words in its command line."""
    deadline = time.monotonic() + 15
    while found := [pid for pid, words_of in processes() if words in words_of]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{words.decode()} does not end: pids {found}")
        time.sleep(0.01)


def processes() -> Iterator[tuple[int, bytes]]:
    """Yield the other processes of this lab, with their command lines, and ISTHMUS_COMMAND if they have one."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read()
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read()
        except OSError:
            continue
        if os.environ["ISTHMUS_LAB"].encode() in environment:
            _, name, value = environment.partition(b"ISTHMUS_COMMAND=")
            yield int(pid), words + name + value


def said(lines: list[str]) -> str:
    return "\n    ".join(lines[:12])


def look() -> dict[str, Any]:
    return witness(STATE, RUN)


class Sweep:
    """One verb, one mode."""

    def __init__(self, verb: Verb, mode: str) -> None:
        self._verb = verb
        self._mode = mode
        self.failures: list[str] = []
        self.said: set[str] = set()
        self.points = 0
        self.tolerated: dict[str, int] = {}
        self._old: dict[str, Any] = {}
        self._reset()
        self._trace = self._whole()
        time.sleep(0.3)
        self._old = look()
        self._reach_end()
        time.sleep(0.3)
        self._new = look()
        self._go_back()

    def _steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            answer = call(step)
            if answer["error"]:
                raise RuntimeError(f"{answer}")
        if self._verb.program:
            await_end(b"isthmus.engine.")

    def _whole(self) -> dict[int, dict[int, str]]:
        """Run the verb once and return the calls that it makes, by number: what a program forks has its own."""
        self._steps(self._verb.first)
        answer = self._faulty(COUNT, CHANGE, 0)
        if answer["error"]:
            raise RuntimeError(f"{answer}")
        self._steps(self._verb.back)
        if self._verb.program:
            lines = [line.split(" ", 2) for line in answer["log"]]
            return {
                kind: {int(number): name for which, number, name in lines if which == str(kind)}
                for kind in (CHANGE, READ)
            }
        return {kind: dict(enumerate(answer[str(kind)])) for kind in (CHANGE, READ)}

    def _faulty(self, how: int, which: int, number: int) -> Answer:
        if self._verb.program:
            return call_beside(self._verb.run, how, which, number, self._verb.program)
        return call(self._verb.run, how, which, number)

    def _reach_end(self) -> None:
        self._steps((*self._verb.first, self._verb.run))

    def _go_back(self) -> None:
        self._steps(self._verb.back)
        now = look()
        deadline = time.monotonic() + 3
        while now != self._old and time.monotonic() < deadline:
            time.sleep(0.05)
            now = look()
        if now != self._old:
            raise RuntimeError(f"the way back does not lead to the start:\n    {said(difference(self._old, now))}")

    def points_of(self, part: int, parts: int) -> list[tuple[int, int]]:
        step = self._verb.every * _STRIDE[self._mode]
        points = [(CHANGE, number) for number in sorted(self._trace[CHANGE])[::step]]
        every = _READS[self._mode]
        if every:
            # What the kernel answers to a change is lost when reading it fails: more of those.
            points += [
                (READ, number)
                for number, name in self._trace[READ].items()
                if (number % every == 0 and not self._verb.program)  # most of them are an interpreter's start
                or (number % 5 == 0 and name.startswith(("recv", "read socket")))
            ]
        return points[part::parts]

    def run(self, points: list[tuple[int, int]]) -> None:
        for which, number in points:
            name = self._trace[which][number]
            problem = self._point(which, number)
            if problem:
                self.failures.append(f"{self._mode} {'read' if which else 'change'} {number} ({name}): {problem}")
                self._start_over()

    def _start_over(self) -> None:
        self._reset()

    def _point(self, which: int, number: int) -> str:
        self._steps(self._verb.first)
        answer = self._faulty(MODES[self._mode], which, number)
        if answer.get("fired") is False:
            return self._settle(answer)  # the call went another way this time
        self.points += 1
        if "odd" in answer:
            return str(answer["odd"])
        if answer["error"] == "killed":
            return self._settle(answer)
        if answer.get("bare") and (self._verb.program or answer["hit"].startswith(_NETLINK)):
            return f"not an error of ours: {answer['error']}"
        problem = self._after_failure(answer)
        return problem or self._settle(answer)

    def _after_failure(self, answer: Answer) -> str:
        """Check what a call that saw an error left, before anything repairs it."""
        now = look()
        error = answer["error"]
        self.said.add(str(error))
        if error is None:
            name = "tolerated"
            self.tolerated[name] = self.tolerated.get(name, 0) + 1
            if self._verb.program:
                return ""  # it may have come after the call: then the next one sees it
            return self._unlike("no error, yet not the new state", now, self._new)
        if not answer["undone"]:
            return f"an interrupt alone is not undone: {error}" if self._mode == "interrupt" else ""
        is_either = self._verb.leaving or error == "interrupted"
        allowed = [self._old, self._new] if is_either else [self._old]
        if error.startswith("StoreError"):
            # What could not be written, or was written and could not be synced, is the next call's to see.
            allowed = [{**one, "record": now["record"]} for one in allowed]
        deadline = time.monotonic() + 3
        while error == "interrupted" and now not in allowed and time.monotonic() < deadline:
            now = look()  # what the kernel tells a moment later, nobody waited for
        return self._unlike(f"after {error}", now, *allowed)

    def _unlike(self, what: str, now: dict[str, Any], *allowed: dict[str, Any]) -> str:
        if now in allowed:
            return ""
        return f"{what}:\n    {said(min((difference(one, now) for one in allowed), key=len))}"

    def _settle(self, answer: Answer) -> str:
        """Repair, check that the host is wholly old or new, and go back to the start."""
        mended = call(repair)
        if mended["error"]:
            return f"repair after {answer['error']}: {mended}"
        now = look()
        problem = self._unlike(f"repaired after {answer['error']}", now, self._old, self._new)
        if problem:
            return problem
        if left := pending(STATE):
            return f"the journal still holds {left}"
        try:
            if now != self._old:
                self._go_back()
            if self._verb.program:
                await_end(b"kernel/supervisor.py")
        except RuntimeError as error:
            return str(error)
        return ""

    def _reset(self) -> None:
        """Clear the host without the engine, and make the start anew."""
        clear()
        self._steps(self._verb.before)
        deadline = time.monotonic() + 5
        while self._old and look() != self._old and time.monotonic() < deadline:
            time.sleep(0.05)  # what the kernel tells a moment later


def clear() -> None:
    """Take away all that is ours without the engine."""
    for pid, words in processes():
        if any(one in words for one in (b"ISTHMUS_COMMAND=", b"isthmus.engine.", b"kernel/supervisor.py")):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    names = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    for name in names:
        subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)
        if os.path.exists(f"/run/netns/{name}"):
            os.unlink(f"/run/netns/{name}")
    shutil.rmtree("/etc/netns", ignore_errors=True)
    for folder in (STATE, RUN):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder, 0o700, exist_ok=True)
    for family in ("inet", "bridge"):
        subprocess.run(("nft", "delete", "table", family, "isthmus"), check=False, capture_output=True)
    bring_home()
    for link in json.loads(subprocess.run(("ip", "-j", "link"), check=True, capture_output=True).stdout):
        if link["ifname"] not in ("lo", "eth0"):
            subprocess.run(("ip", "link", "del", link["ifname"]), check=False, capture_output=True)
    shutil.rmtree("/etc/sysctl.d", ignore_errors=True)
    os.mkdir("/etc/sysctl.d")
    for path in ("ipv6/conf/all/forwarding", "ipv4/ip_forward", "ipv4/conf/eth0/forwarding"):
        if os.path.exists(f"/proc/sys/net/{path}"):
            with open(f"/proc/sys/net/{path}", "w") as file:
                file.write("0")


def bring_home() -> None:
    """Give the lab's cable its addresses and routes again, which a bridge may have."""
    if HOST4 in subprocess.run(("ip", "addr", "show", "eth0"), check=True, capture_output=True, text=True).stdout:
        return
    subprocess.run(("ip", "link", "set", "eth0", "nomaster"), check=True)
    subprocess.run(("ip", "link", "del", "lan0"), check=False, capture_output=True)
    with open("/proc/sys/net/ipv6/conf/eth0/addr_gen_mode", "w") as file:
        file.write("0")
    for line in (
        f"addr add {HOST4}/24 dev eth0",
        f"addr add {HOST4_SECOND}/24 dev eth0",
        f"addr add {HOST6}/64 dev eth0 nodad",
        f"route add default via {LAN4}",
        f"route add default via {LAN6}",
    ):
        subprocess.run(("ip", *line.split()), check=True)


def main() -> None:
    verb, mode, part, parts = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    load_all()
    sweep = Sweep((VERBS | BESIDE)[verb], mode)
    sweep.run(sweep.points_of(part, parts))
    clear()
    answer = {
        "points": sweep.points,
        "tolerated": sweep.tolerated,
        "failures": sweep.failures,
        "said": sorted(sweep.said),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
