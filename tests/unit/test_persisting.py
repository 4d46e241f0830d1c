"""Files that set sysctls at boot: which of them counts, what a boot makes of them, and the file of ours."""

from __future__ import annotations

import pytest

from isthmus.model.host import Directory, File
from isthmus.model.network import Forwarding, Record
from isthmus.planner.persisting import OWN_FILE, Assignment, assignments, at_boot, is_ours, own_rows, persisted_files

ALL4 = "net/ipv4/ip_forward"
ETH4 = "net/ipv4/conf/eth0/forwarding"
ALL6 = "net/ipv6/conf/all/forwarding"
ETH6 = "net/ipv6/conf/eth0/forwarding"
FORCED = "net/ipv6/conf/eth0/force_forwarding"
NAMES = (
    ALL4, ETH4, "net/ipv4/conf/default/forwarding", "net/ipv4/conf/all/accept_redirects",
    ALL6, ETH6, FORCED,
)  # fmt: skip


def found(*files: tuple[str, str]) -> list[tuple[str, str | None, str]]:
    return [(one.name, one.value, f"{one.path}:{one.line}") for one in assignments(files)]


def booted(*files: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """Return (value, FILE:LINE) of what the files set."""
    state = at_boot(assignments(files), NAMES)
    return {name: (value, f"{line.path}:{line.line}") for name, (value, line) in state.items() if line is not None}


# Source of the forms: sysctl.d(5), "CONFIGURATION FORMAT".
@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("net.ipv4.ip_forward=1", ALL4, "1"),
        ("  net/ipv4/ip_forward  =  1  ", ALL4, "1"),
        ("-net.ipv4.ip_forward = 0", ALL4, "0"),
        ("net.ipv4.conf.enp3s0/200.forwarding=1", "net/ipv4/conf/enp3s0.200/forwarding", "1"),
        ("net/ipv4/conf/enp3s0.200/forwarding=1", "net/ipv4/conf/enp3s0.200/forwarding", "1"),
        ("/proc/sys/net/ipv4/ip_forward = 1", ALL4, "1"),
        ("net.ipv4.conf.*.forwarding = 0", "net/ipv4/conf/*/forwarding", "0"),
        ("-net.ipv4.conf.eth0.forwarding", ETH4, None),
        ("net.ipv4.ip_forward = ", ALL4, ""),
    ],
)
def test_a_line_is_read_in_either_form(line: str, name: str, value: str | None) -> None:
    assert found(("/etc/sysctl.d/a.conf", line)) == [(name, value, "/etc/sysctl.d/a.conf:1")]


@pytest.mark.parametrize("line", ["", "# net.ipv4.ip_forward=1", "; net.ipv4.ip_forward=1", "net.ipv4.ip_forward"])
def test_a_line_that_sets_nothing(line: str) -> None:
    assert found(("/etc/sysctl.d/a.conf", line)) == []


def test_names_are_in_order_whatever_the_directory() -> None:
    first, last = ("/usr/lib/sysctl.d/10-a.conf", f"{ETH4}=0"), ("/etc/sysctl.d/20-b.conf", f"{ALL4}=0")
    assert [one[0] for one in found(last, first)] == [ETH4, ALL4]


def test_a_file_masks_those_of_its_name_in_later_directories() -> None:
    mine, theirs = ("/etc/sysctl.d/a.conf", "# nothing"), ("/usr/lib/sysctl.d/a.conf", f"{ALL4}=1")
    assert found(mine, theirs) == []
    assert found(theirs, mine) == [(ALL4, "1", "/usr/lib/sysctl.d/a.conf:1")]


def test_sysctl_conf_is_last() -> None:
    assert booted(("/etc/sysctl.d/zz.conf", f"{ALL4}=1"), ("/etc/sysctl.conf", f"\n{ALL4}=0"))[ALL4] == (
        "0",
        "/etc/sysctl.conf:2",
    )


def test_what_ufw_applies_comes_after_all() -> None:
    files = (("/etc/sysctl.conf", f"{ALL4}=1"), ("/etc/ufw/sysctl.conf", f"{ALL4}=0"))
    assert booted(("/etc/sysctl.d/zz.conf", f"{ALL4}=1"), *files)[ALL4] == ("0", "/etc/ufw/sysctl.conf:1")


def test_a_switch_is_copied_to_links_at_boot() -> None:
    said = ("1", "/etc/sysctl.d/a.conf:1")
    assert booted(("/etc/sysctl.d/a.conf", f"{ALL4}=1")) == {
        ALL4: said,
        ETH4: said,
        "net/ipv4/conf/default/forwarding": said,
        "net/ipv4/conf/all/accept_redirects": ("0", said[1]),
    }
    assert booted(("/etc/sysctl.d/a.conf", f"{ALL6}=1")) == {ALL6: said, ETH6: said}


def test_a_link_after_the_switch_keeps_its_own() -> None:
    state = booted(("/etc/sysctl.d/a.conf", f"{ALL4}=1\n{ETH4}=0"))
    assert (state[ALL4][0], state[ETH4]) == ("1", ("0", "/etc/sysctl.d/a.conf:2"))


def test_a_switch_that_is_off_already_undoes_no_link() -> None:
    state = booted(("/etc/sysctl.d/60-isthmus.conf", f"{ETH4}=1"), ("/etc/sysctl.d/99.conf", f"{ALL4}=0"))
    assert state[ETH4] == ("1", "/etc/sysctl.d/60-isthmus.conf:1")


def test_ipv6s_switch_ends_what_is_forced() -> None:
    files = (("/etc/sysctl.d/1.conf", f"{ALL6}=1\n{FORCED}=1"), ("/etc/sysctl.d/2.conf", f"{ALL6}=0"))
    assert booted(*files)[FORCED] == ("0", "/etc/sysctl.d/2.conf:1")
    assert booted(files[0])[FORCED] == ("1", "/etc/sysctl.d/1.conf:2")


def test_both_names_of_the_switch_are_one() -> None:
    assert booted(("/etc/sysctl.d/a.conf", "net.ipv4.conf.all.forwarding=1"))[ALL4] == ("1", "/etc/sysctl.d/a.conf:1")


def test_a_pattern_leaves_alone_what_is_named() -> None:
    text = "net.ipv4.conf.*.forwarding = 1\n-net.ipv4.conf.eth0.forwarding\n"
    state = booted(("/etc/sysctl.d/a.conf", text))
    assert state["net/ipv4/conf/default/forwarding"][0] == "1"
    assert state[ALL4][0] == "1"
    # The copy of the switch reaches it all the same.
    assert state[ETH4] == ("1", "/etc/sysctl.d/a.conf:1")
    state = booted(("/etc/sysctl.d/a.conf", f"net.ipv4.conf.e*.forwarding = 1\n{ETH4} = 0"))
    assert state[ETH4] == ("0", "/etc/sysctl.d/a.conf:2")


def test_the_last_line_of_a_name_counts() -> None:
    assert assignments((("/etc/sysctl.d/a.conf", f"{ALL4}=1\n{ETH4}=0\n{ALL4}=0"),)) == [
        Assignment(name=ETH4, value="0", path="/etc/sysctl.d/a.conf", line=2),
        Assignment(name=ALL4, value="0", path="/etc/sysctl.d/a.conf", line=3),
    ]


# Our file

ROWS = (
    Forwarding(family=4, persist=True),
    Forwarding(family=6, persist=True, uplinks=("eth0",), owner="web"),
    Forwarding(family=4, link="eth0.100", persist=True),
    Forwarding(family=6, link="eth0", persist=True, owner="web"),
)


def record(*rows: Forwarding) -> Record:
    return Record.empty().replace(forwarding={row.id: row for row in rows})


def own_text(*rows: Forwarding) -> str:
    (text,) = [item.text for item in persisted_files(record(*rows)) if isinstance(item, File)]
    return text


def test_our_file_has_a_line_for_each_row() -> None:
    directory, file = persisted_files(record(*ROWS))
    assert directory == Directory(path="/etc/sysctl.d")
    assert isinstance(file, File)
    assert file.path == "/etc/sysctl.d/60-isthmus-forwarding.conf" == OWN_FILE
    assert [line for line in file.text.splitlines() if not line.startswith("# kept") and "takes it" not in line] == [
        "net/ipv4/ip_forward = 1",
        "# of web",
        "net/ipv6/conf/eth0/accept_ra = 2",
        "net/ipv6/conf/all/forwarding = 1",
        "# of web",
        "net/ipv6/conf/eth0/force_forwarding = 1",
        "net/ipv4/conf/eth0.100/forwarding = 1",
    ]


def test_our_file_is_read_back() -> None:
    assert own_rows(own_text(*ROWS)) == {row.id: row for row in ROWS}


def test_nothing_for_good_needs_no_file() -> None:
    assert list(persisted_files(record(Forwarding(family=4)))) == []


def test_our_file_is_known_by_how_it_begins() -> None:
    assert is_ours(own_text(ROWS[0]))
    assert is_ours("")
    assert not is_ours("# somebody's\nnet/ipv4/ip_forward = 1\n")


def test_what_is_not_forwarding_in_our_file_is_no_row() -> None:
    assert own_rows("net/ipv4/conf/eth0/rp_filter = 1\nnet/ipv4/ip_forward = 0\nkernel/panic = 1\n") == {}
