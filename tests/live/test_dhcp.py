"""Addresses by DHCP: who manages the interface is told, its lease is gone on with, and members get leases of their own.

The server is dnsmasq on the lab's LAN. dhclient, dhcpcd and udhcpc are the real ones; of services that need systemd or
D-Bus there are the files, as the real ones wrote them, and a process of their name.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from tests.live.driving import end, up, wait_for

from isthmus.testing import HOST4, HOST4_SECOND, LAN4, LAN6, Host, Lab, Place, snapshot

CREATE: Final = ("network", "create", "lan0", "--uplink", "nic:eth0", "--confirm-within", "none")
SERVER: Final = (
    *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces"),
    *("--no-ping", "--dhcp-authoritative", "--user=root", "--domain=lan.example", "--dhcp-option=6,203.0.113.9"),
    *("--dhcp-leasefile=/run/leases", "--pid-file=/run/dnsmasq.pid", "--log-facility=/run/dnsmasq.log"),
)


class Server:
    """A DHCP server on the LAN: its log, and the leases that it gave."""

    def __init__(self, lab: Lab, addresses: str = "203.0.113.150,203.0.113.160") -> None:
        self._lan = lab.lan
        lab.lan.run("rm", "-f", "/run/dnsmasq.log", "/run/leases")
        lab.lan.spawn(*SERVER, f"--dhcp-range={addresses},2m")
        wait_for(lambda: "IP range" in self.log(), "the DHCP server")

    def stop(self) -> None:
        self._lan.run("sh", "-c", "kill $(cat /run/dnsmasq.pid)")
        wait_for(lambda: "exiting on receipt" in self.log(), "the server's end")

    def log(self) -> str:
        return self._lan.run("cat", "/run/dnsmasq.log", check=False).stdout

    def count(self, words: str) -> int:
        return self.log().count(words)

    def identifier(self, address: str) -> str:
        """Return the client identifier of a lease, `*` for none (dnsmasq(8), lease file)."""
        lines = [line.split() for line in self._lan.run("cat", "/run/leases").stdout.splitlines()]
        return next(words[4] for words in lines if words[2] == address)


@pytest.fixture
def server(lab: Lab) -> Server:
    """Give a DHCP server, and a host whose /var/lib is its own."""
    lab.host.run("mount", "-t", "tmpfs", "none", "/var/lib")
    lab.host.run("mkdir", "/var/lib/dhcp", "/var/lib/dhcpcd")
    return Server(lab)


def write(host: Host, path: str, text: str) -> None:
    host.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "sh", path, input=text)


def addresses(place: Place, link: str) -> list[str]:
    found = place.ip_json("-4", "address", "show", "dev", link)
    return [one["local"] for link in found for one in link["addr_info"]]


def clients(host: Host, pid: int | None = None) -> list[int]:
    """Return the udhcpc in the host's network namespace, or in that of a process."""
    done = host.run("pgrep", "--ns", str(pid or host.pid), "--nslist", "net", "-x", "busybox", check=False)
    return [int(one) for one in done.stdout.split()]


# Who manages the interface

# As NetworkManager 1.42.4 wrote them, with the addresses and the UUID of here.
NM_DEVICE: Final = """[device]
managed=true
perm-hw-addr-fake=F6:52:B5:5E:E7:F3
connection-uuid=6f5b1e2c-0d0e-4d5c-9d63-1f5c8e1f6a01
nm-owned=false
route-metric-default-effective=100
"""
NM_LEASE: Final = """next-server=203.0.113.9

[dhcp4]
dhcp4.broadcast_address=203.0.113.255
dhcp4.dhcp_client_identifier=ff:2b:50:67:35:00:02:00:00:ab:11:00:33:bd:eb:f9:5e:19:2c
dhcp4.dhcp_lease_time=120
dhcp4.dhcp_server_identifier=203.0.113.9
dhcp4.domain_name=lan.example
dhcp4.domain_name_servers=203.0.113.9
dhcp4.expiry=1795715356
dhcp4.host_name=host
dhcp4.ip_address=203.0.113.2
dhcp4.next_server=203.0.113.9
dhcp4.routers=203.0.113.9
dhcp4.subnet_mask=255.255.255.0
"""
NM_LEASE6: Final = """
[dhcp6]
dhcp6.dhcp6_client_id=00:04:33:e8:7c:10:b6:ad:ca:84:2d:29:a2:c5:ad:73:f3:86
dhcp6.fqdn_fqdn=host
dhcp6.iaid=2b:50:67:35
dhcp6.ip6_address=2001:db8::1cab
"""
NM_PROFILE: Final = """[connection]
id=wired
uuid=6f5b1e2c-0d0e-4d5c-9d63-1f5c8e1f6a01
type=ethernet
interface-name=eth0
timestamp=1795715242

[ethernet]

[ipv4]
{ipv4}
[ipv6]
addr-gen-mode=default
method=auto

[proxy]
"""
NM_TEMPORARY: Final = """
[.nmmeta]
shadowed-storage=/etc/NetworkManager/system-connections/wired.nmconnection
shadowed-owned=true
"""
NM_EXTERNAL: Final = """
[.nmmeta]
nm-generated=true
volatile=true
external=true
"""
NM_AUTO: Final = "method=auto\n"
NM_BY_DUID: Final = "dhcp-client-id=duid\nmethod=auto\n"
NM_BY_OCTETS: Final = "dhcp-client-id=01:52:54:0:a:b:c\nmethod=auto\n"
NM_MANUAL: Final = "address1=203.0.113.2/24,203.0.113.9\nmethod=manual\n"


def nm_state(*more: str) -> tuple[str, str]:
    return "/run/NetworkManager/devices/{index}", "".join([NM_DEVICE, *more])


def nm_profile(ipv4: str, folder: str = "etc", more: str = "") -> tuple[str, str]:
    text = NM_PROFILE.replace("{ipv4}", ipv4)
    return f"/{folder}/NetworkManager/system-connections/wired.nmconnection", text + more


NM_REMEDY: Final = (
    r"hint: printf '[device-isthmus-eth0]\nmatch-device=interface-name:eth0\nmanaged=0\n' "
    ">/etc/NetworkManager/conf.d/isthmus-eth0.conf && nmcli device set eth0 managed no; then say it again"
)
NM_FIXED: Final = (nm_state(), nm_profile(NM_MANUAL))
NM_TOLD: Final = (
    "note: NetworkManager manages eth0: at a reboot or sooner "
    "its profile /etc/NetworkManager/system-connections/wired.nmconnection gives eth0 its address again"
)
NETWORKD: Final = (
    "/run/systemd/netif/links/{index}",
    "# This is private data.\nADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/10-wired.network\n",
)
NETWORKD_LEASE: Final = (
    "/run/systemd/netif/leases/{index}",
    "# This is private data. Do not parse.\nADDRESS=203.0.113.2\nCLIENTID=ff00112233000200000ab11234567890abcdef\n",
)
# As connman 1.41 wrote them.
CONNMAN: Final = """[ethernet_{mac}_cable]
Name=Wired
AutoConnect=true
Modified=2026-11-26T17:53:46Z
IPv4.method={ipv4}
IPv6.method=auto
IPv6.privacy=disabled
"""
CONNMAN_LEASE: Final = "dhcp\nIPv4.DHCP.LastAddress=203.0.113.2"
CONNMAN_MANUAL: Final = "manual\nIPv4.netmask_prefixlen=24\nIPv4.local_address=203.0.113.2\nIPv4.gateway=203.0.113.9"


def connman_settings(ipv4: str) -> tuple[str, str]:
    return "/var/lib/connman/ethernet_{mac}_cable/settings", CONNMAN.replace("{ipv4}", ipv4)


CONNMAN_REMEDY: Final = (
    "hint: NetworkInterfaceBlacklist=vmnet,vboxnet,virbr,ifb,ve-,vb-,ham,veth,eth0,isv,lan0 below [General] of "
    "/etc/connman/main.conf; kill -KILL {pid}; systemctl restart connman; then say it again"
)
INTERFACES: Final = (
    "/etc/network/interfaces",
    "# the loopback\nauto lo\niface lo inet loopback\nsource interfaces.d/*\n",
)
IFUPDOWN: Final = (
    "/etc/network/interfaces.d/wired",
    "auto eth0\niface eth0 inet static\n    address 203.0.113.2/24\n",
)


@dataclasses.dataclass(frozen=True)
class Service:
    """A program's name and that of its process; what it leaves of a lease, and of a fixed address; what is told."""

    name: str
    program: str
    leasing: tuple[tuple[str, str], ...]
    remedy: str
    fixed: tuple[tuple[str, str], ...]
    told: str
    refused: bool = False


def network_manager(*leasing: tuple[str, str], again: str) -> Service:
    return Service("NetworkManager", "NetworkManager", leasing, f"{NM_REMEDY}{again}\n", NM_FIXED, NM_TOLD)


SERVICES: Final = {
    "NetworkManager": network_manager(
        nm_state(NM_LEASE),
        nm_profile(NM_BY_DUID),
        again=" with --dhcp ff:2b:50:67:35:00:02:00:00:ab:11:00:33:bd:eb:f9:5e:19:2c",
    ),
    "NetworkManager that waits for a server": network_manager(
        nm_state(), nm_profile(NM_BY_OCTETS), again=" with --dhcp 01:52:54:00:0a:0b:0c"
    ),
    "NetworkManager with a temporary profile": network_manager(
        nm_state(),
        nm_profile(NM_BY_OCTETS, "run", NM_TEMPORARY),
        nm_profile(NM_MANUAL),
        again=" with --dhcp 01:52:54:00:0a:0b:0c",
    ),
    "NetworkManager by DHCPv6": network_manager(
        nm_state(NM_LEASE6), nm_profile(NM_MANUAL), again="; nobody renews the address then"
    ),
    "systemd-networkd": Service(
        "systemd-networkd",
        "systemd-networkd",
        (NETWORKD, NETWORKD_LEASE),
        (
            "10-wired.network.d/isthmus.conf && networkctl reload"
            "; then say it again with --dhcp ff:00:11:22:33:00:02:00:00:0a:b1:12:34:56:78:90:ab:cd:ef\n"
        ),
        (NETWORKD,),
        (
            "systemd-networkd manages eth0: at a reboot or sooner "
            "/etc/systemd/network/10-wired.network gives eth0 its address"
        ),
    ),
    "connman": Service(
        "connman",
        "connmand",
        (connman_settings(CONNMAN_LEASE),),
        f"{CONNMAN_REMEDY} with --dhcp 01:{{mac}}\n",
        (connman_settings(CONNMAN_MANUAL),),
        (
            "eth0 has its address from connman, which would take it off when the link leaves the bridge\n"
            f"{CONNMAN_REMEDY}; at a reboot nobody gives eth0 its address then\n"
        ),
        refused=True,
    ),
}


def lay_out(host: Host, files: tuple[tuple[str, str], ...]) -> list[str]:
    """Write files, and return their paths."""
    (link,) = host.ip_json("link", "show", "eth0")
    names = {"index": link["ifindex"], "mac": link["address"].replace(":", "")}
    written = [(path.format(**names), text.format(**names)) for path, text in files]
    for path, text in written:
        write(host, path, text)
    return [path for path, _ in written]


def run_as(host: Host, program: str) -> subprocess.Popen[str]:
    """Run a process of a name."""
    host.run("mkdir", "/run/bin")
    host.run("cp", "/bin/sleep", f"/run/bin/{program}")
    process = host.spawn(f"/run/bin/{program}", "60")
    comm = Path(f"/proc/{process.pid}/comm")
    wait_for(lambda: comm.read_text().strip() == program[:15], program)
    return process


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_known_by_its_traces_while_it_runs(lab: Lab, name: str) -> None:
    host, service = lab.host, SERVICES[name]
    paths = lay_out(host, service.leasing)
    process = run_as(host, service.program)
    words = {"pid": str(process.pid), "mac": host.ip_json("link", "show", "eth0")[0]["address"]}
    done = host.isthmus(*CREATE, check=False)
    assert (done.returncode, f"eth0 has its address from {service.name}, which would not" in done.stderr) == (3, True)
    assert filled(service.remedy, words) in done.stderr, done.stderr
    assert [one["ifname"] for one in host.ip_json("link", "show")] == ["lo", "eth0"]
    # With an address of its own it is let through, and told of, but by one that would take that away later.
    host.run("rm", *paths)
    lay_out(host, service.fixed)
    done = host.isthmus(*CREATE, check=False)
    assert (done.returncode, filled(service.told, words) in done.stderr) == (3 * service.refused, True), done.stderr
    if not service.refused:
        host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    # What a dead one left is no manager.
    lay_out(host, service.leasing)
    end(process)
    assert service.name not in host.isthmus(*CREATE).stderr


def filled(text: str, words: dict[str, str]) -> str:
    return text.replace("{pid}", words["pid"]).replace("{mac}", words["mac"])


def test_what_networkmanager_only_looks_at_is_somebody_elses(lab: Lab) -> None:
    host = lab.host
    lay_out(host, (nm_state(), nm_profile(NM_AUTO, "run", NM_EXTERNAL)))
    run_as(host, "NetworkManager")
    assert "NetworkManager" not in host.isthmus(*CREATE).stderr


def test_what_ifupdown_will_do_at_the_next_reboot_is_told(lab: Lab) -> None:
    host = lab.host
    lay_out(host, (INTERFACES, IFUPDOWN))
    done = host.isthmus(*CREATE)
    assert (
        "note: ifupdown manages eth0: at a reboot or sooner "
        "/etc/network/interfaces.d/wired:2 gives eth0 its address again; the next verb of isthmus puts it on lan0\n"
    ) in done.stderr
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    write(host, IFUPDOWN[0], "auto eth0\niface eth0 inet manual\n")
    assert "reboot" not in host.isthmus(*CREATE).stderr


def test_a_lease_that_nobody_renews_is_told(lab: Lab) -> None:
    lab.host.run("ip", "address", "add", "203.0.113.7/24", "dev", "eth0", "valid_lft", "3000", "preferred_lft", "3000")
    done = lab.host.isthmus(*CREATE)
    assert "address 203.0.113.7 of eth0 is leased, and nobody renews it: --dhcp auto would" in done.stderr


def run_networkd(host: Host) -> None:
    """Run the real systemd-networkd, with a bus for networkctl; it asks no udev where /sys is read-only."""
    host.run("mount", "-o", "remount,ro", "/sys")
    host.run(
        "sh", "-c", "mkdir -p /run/dbus /run/systemd/netif && chown systemd-network:systemd-network /run/systemd/netif"
    )
    host.spawn("dbus-daemon", "--system", "--nofork", "--nopidfile")
    wait_for(lambda: host.run("test", "-S", "/run/dbus/system_bus_socket", check=False).returncode == 0, "the bus")
    write(host, "/etc/systemd/network/10-wired.network", "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n")
    host.run("ip", "-4", "address", "flush", "dev", "eth0")
    host.spawn("/lib/systemd/systemd-networkd")


@pytest.mark.skipif(not Path("/lib/systemd/systemd-networkd").exists(), reason="systemd-networkd is not installed")
def test_the_real_networkd_lets_go_as_it_is_told_and_its_lease_is_gone_on_with(lab: Lab, server: Server) -> None:
    host = lab.host
    run_networkd(host)
    (link,) = host.ip_json("link", "show", "eth0")
    state = f"/run/systemd/netif/links/{link['ifindex']}"
    wait_for(lambda: "ADMIN_STATE=configured" in host.run("cat", state, check=False).stdout, "networkd")
    (leased,) = addresses(host, "eth0")
    identifier = server.identifier(leased)
    done = host.isthmus(*CREATE, check=False)
    assert (done.returncode, f"address {leased} from systemd-networkd" in done.stderr) == (3, True), done.stderr
    told = re.search(
        r"hint: (.*); then say it again with (--dhcp .*), in the same line: it takes the address along\n", done.stderr
    )
    assert told is not None, done.stderr
    place = f"--subnet 203.0.113.0/24 --subnet 2001:db8::/64 --gateway {LAN4} --gateway {LAN6}"
    assert told[2] == f"--dhcp {identifier} {place}"
    host.run("sh", "-c", told[1])
    wait_for(lambda: "ADMIN_STATE=unmanaged" in host.run("cat", state, check=False).stdout, "its end")
    assert addresses(host, "eth0") == []
    done = host.isthmus(*CREATE, *told[2].split())
    assert addresses(host, "lan0") == [leased]
    assert server.identifier(leased) == identifier
    assert "reboot" not in done.stderr
    (found,) = json.loads(host.isthmus("network", "ls", "--format", "json").stdout)
    assert [one["gateway"] for one in found["subnets"]] == [LAN4, LAN6]


# Taking over

CLIENTS: Final = {
    "dhclient -i": "dhclient -4 -i -pf /run/c.pid -lf /var/lib/dhcp/dhclient.eth0.leases eth0",
    "dhclient": "dhclient -4 -pf /run/c.pid eth0",
    "dhcpcd": "dhcpcd -4 --noarp --waitip=4 eth0",
    "udhcpc": "busybox udhcpc -i eth0 -s /run/script -x 0x3d:00616263",
}
SCRIPT: Final = (
    '#!/bin/sh\n[ "$1" != bound ] || ip addr add $ip/$mask dev $interface valid_lft $lease preferred_lft $lease\n'
)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_lease_is_gone_on_with_by_the_same_identifier(lab: Lab, server: Server, name: str) -> None:
    host = lab.host
    host.run("ip", "-4", "address", "flush", "dev", "eth0")
    write(host, "/run/script", SCRIPT)
    host.run("chmod", "+x", "/run/script")
    host.run("sh", "-c", f"{CLIENTS[name]} </dev/null >/dev/null 2>&1")
    (leased,) = addresses(host, "eth0")
    identifier = server.identifier(leased)
    done = host.isthmus(*CREATE, check=False)
    assert (done.returncode, addresses(host, "eth0")) == (3, [leased])
    told = re.search(r"hint: (.*); then say it again with (--dhcp [0-9a-z:]+)", done.stderr)
    assert f"address {leased} from {name.split(maxsplit=1)[0]} (pid " in done.stderr, done.stderr
    assert told is not None, done.stderr
    assert told[2] == f"--dhcp {'none' if identifier == '*' else identifier}"
    # With it, the same while the client runs; what is printed ends it, and the address stays.
    assert host.isthmus(*CREATE, *told[2].split(), check=False).returncode == 3
    host.run("sh", "-c", told[1])
    wait_for(lambda: not host.run("pgrep", "--ns", str(host.pid), "--nslist", "net", "dhc", check=False).stdout, name)
    assert addresses(host, "eth0") == [leased]
    host.isthmus(*CREATE, "--dhcp", "auto" if name != "udhcpc" else told[2].split()[1])
    assert addresses(host, "lan0") == [leased]
    assert server.identifier(leased) == identifier
    assert json.loads(host.isthmus("network", "ls", "--format", "json").stdout)[0]["dhcp"] is not None
    before = server.count(f"DHCPACK(eth0) {leased}")
    (client,) = clients(host)
    host.run("kill", "-USR1", str(client))
    wait_for(lambda: server.count(f"DHCPACK(eth0) {leased}") > before, "a renewal")
    assert host.isthmus("repair").stdout.strip() in ("", "nothing to change")
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert (addresses(host, "eth0"), clients(host)) == ([leased], [])
    assert server.count("DHCPRELEASE") == 0


OF_ANOTHER: Final = ("--interface=eth1", "--inter eth1", "-ieth1", "-fqi eth1")


@pytest.mark.parametrize("options", OF_ANOTHER)
def test_a_client_of_another_interface_is_not_in_the_way(lab: Lab, options: str) -> None:
    host = lab.host
    host.run("sh", "-c", "ip link add eth1 type veth peer name far1; ip link set far1 up; ip link set eth1 up")
    client = host.spawn("busybox", "udhcpc", "-b", "-t", "100", "-s", "/bin/true", *options.split())
    refused = host.isthmus(*CREATE[:3], "--uplink", "nic:eth1", "--subnet", "10.0.0.0/24", check=False)
    assert f"its address from udhcpc (pid {client.pid})" in refused.stderr
    assert "udhcpc" not in host.isthmus(*CREATE).stderr
    end(client)


CLIENTS6: Final = {
    "dhclient": "dhclient -6 -pf /run/c.pid eth0",
    "dhcpcd": "dhcpcd -6 --waitip=6 --noipv6rs --ia_na eth0",
}


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("name", CLIENTS6)
def test_an_ipv6_lease_is_refused_while_its_client_runs(lab: Lab, name: str) -> None:
    host = lab.host
    announce6(lab, "2001:db8::1000,2001:db8::1fff,64,2m")
    host.run("sh", "-c", f"{CLIENTS6[name]} </dev/null >/dev/null 2>&1")
    wait_for(lambda: leased6(host, "eth0") != [], "a lease")
    (mine,) = leased6(host, "eth0")
    done = host.isthmus(*CREATE, check=False)
    assert (done.returncode, f"address {mine} from {name} (pid " in done.stderr) == (3, True), done.stderr
    told = re.search(r"hint: (.*); then say it again; nobody renews the address then", done.stderr)
    assert told is not None, done.stderr
    host.run("sh", "-c", told[1])
    wait_for(lambda: not host.run("pgrep", "--ns", str(host.pid), "--nslist", "net", "dhc", check=False).stdout, name)
    note = f"address {mine} of eth0 is leased, and nobody renews it"
    assert note in host.isthmus(*CREATE).stderr
    assert leased6(host, "lan0") == [mine]


@pytest.mark.usefixtures("server")
def test_an_interface_whose_lease_went_with_its_client_gets_one(lab: Lab) -> None:
    host = lab.host
    host.run("ip", "-4", "address", "flush", "dev", "eth0")
    host.isthmus(*CREATE, "--dhcp", "01:02:03", "--subnet", "203.0.113.0/24")
    assert host.pings(LAN4)
    assert [one["dev"] for one in host.ip_json("-4", "route", "show", "default")] == ["lan0"]


def test_a_client_that_died_without_a_server_stands_in_nobodys_way(lab: Lab, server: Server) -> None:
    host = lab.host
    host.isthmus(*CREATE, "--dhcp", "01:02:03")
    (leased,) = set(addresses(host, "lan0")) - {HOST4, HOST4_SECOND}
    server.stop()
    host.run("kill", "-KILL", *map(str, clients(host)))
    # The supervisor hears of it a moment later; and the new one is a shell first.
    wait_for(lambda: not (host.path / "run/commands/dhcp lan0/pid").exists(), "the client's end")
    host.isthmus("network", "create", "br0")
    wait_for(lambda: len(clients(host)) == 1, "the client")
    assert leased in addresses(host, "lan0")
    Server(lab)
    host.isthmus("network", "rm", "lan0", "--confirm-within", "none")
    assert clients(host) == []


ANOTHER_BOOT: Final = """
import os
from isthmus.store.sqlite import Database
Database(os.environ['ISTHMUS_STATE_DIR'], writable=True).set_meta('boot_id', 'another')
"""


def test_after_a_reboot_no_call_waits_for_the_server(lab: Lab, server: Server) -> None:
    host = lab.host
    host.isthmus(*CREATE, "--dhcp", "01:02:03")
    server.stop()
    host.run("kill", "-KILL", *map(str, clients(host)))
    host.run("ip", "link", "delete", "lan0")
    host.run("sh", "-c", f"rm -r {host.path}/run/*")
    host.python(ANOTHER_BOOT)
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "lan0", "a", "--ip", "203.0.113.50")
    assert addresses(host, "lan0") == []
    Server(lab)
    wait_for(lambda: addresses(host, "lan0") != [], "the lease")
    assert host.netns("a").pings(addresses(host, "lan0")[0])


@pytest.mark.usefixtures("server")
def test_what_is_not_confirmed_goes_back_with_its_client(lab: Lab) -> None:
    host = lab.host
    before = addresses(host, "eth0")
    host.isthmus(*CREATE[:5], "--confirm-within", "60", "--dhcp", "01:02:03")
    assert len(clients(host)) == 1
    host.isthmus("confirm", "--revert")
    assert clients(host) == []
    assert addresses(host, "eth0")[: len(before)] == before


def test_without_a_server_nothing_is_taken_over(lab: Lab) -> None:
    host = lab.host
    done = host.isthmus(*CREATE, "--dhcp", "none", check=False)
    assert (done.returncode, "no DHCP server gives an address" in done.stderr) == (3, True)
    assert (addresses(host, "eth0"), clients(host)) == ([HOST4, HOST4_SECOND], [])
    assert [one["ifname"] for one in host.ip_json("link", "show")] == ["lo", "eth0"]


# Members


def test_a_member_has_its_address_from_the_server_of_its_lan(lab: Lab, server: Server) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    host.isthmus("ns", "create", "a")
    done = host.isthmus("attach", "lan0", "a", "--ip", "dhcp", "--ip", "2001:db8::50")
    a = host.netns("a")
    (leased,) = addresses(a, "eth0")
    assert leased.startswith("203.0.113.15") or leased == "203.0.113.160"
    assert f"a has {leased} 2001:db8::50 on lan0" in done.stdout
    assert a.pings(LAN4)
    assert [one["gateway"] for one in a.ip_json("-4", "route", "show", "default")] == [LAN4]
    (shown,) = json.loads(host.isthmus("network", "inspect", "lan0", "--format", "json").stdout)["members"]
    assert (shown["addresses"], shown["leased"]) == ([f"{leased}/24", "2001:db8::50/64"], True)
    assert f"{leased}/24" in host.isthmus("ls").stdout
    # A client that died is missed; the address is not.
    (pid,) = (int(one) for one in host.run("ip", "netns", "pids", "a").stdout.split())
    assert host.isthmus("repair").stdout.strip() in ("", "nothing to change")
    host.run("kill", "-KILL", str(pid))
    wait_for(lambda: not list((host.path / "run/commands").glob("dhcp */pid")), "the client's end")
    mended = host.isthmus("repair").stdout.splitlines()
    assert mended[0] == "~ DHCP client on eth0 in a: it had ended, and is started again"
    wait_for(
        lambda: server.count(f"DHCPACK(eth0) {leased}") == 2 and addresses(a, "eth0") == [leased], "the same lease"
    )
    host.isthmus("detach", "lan0", "a")
    wait_for(lambda: server.count(f"DHCPRELEASE(eth0) {leased}") == 1, "the release")
    assert host.run("ip", "netns", "pids", "a").stdout == ""
    host.isthmus("ns", "rm", "a")


@pytest.mark.usefixtures("server")
def test_a_record_made_again_knows_of_leases(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE, "--dhcp", "01:02:03")
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "lan0", "a", "--ip", "dhcp", "--ip", "2001:db8::50")
    before = host.isthmus("network", "inspect", "lan0").stdout
    host.run("sh", "-c", "rm -r $ISTHMUS_STATE_DIR")
    assert "DHCP" not in host.isthmus("repair", "--rebuild").stdout
    assert host.isthmus("network", "inspect", "lan0").stdout == before
    (found,) = json.loads(host.isthmus("network", "ls", "--format", "json").stdout)
    assert found["dhcp"] == "010203"
    host.isthmus("network", "rm", "lan0", "--force", "--confirm-within", "none")
    assert clients(host) == []
    assert host.run("ip", "netns", "pids", "a").stdout == ""


@pytest.mark.usefixtures("server")
def test_a_file_says_it_too(lab: Lab) -> None:
    host = lab.host
    text = """
    name: wire
    networks:
      lan0: {uplink: {nic: eth0}, dhcp: none}
    namespaces:
      a: {networks: {lan0: {ip: dhcp}}}
      b: {networks: {lan0: {ip: [dhcp, "2001:db8::60"]}}}
    """
    host.run("sh", "-c", "cat > /run/wire.yaml", input=text)
    host.isthmus("up", "/run/wire.yaml", "--confirm-within", "none")
    assert host.netns("a").pings(LAN4)
    assert up(host, text) == []
    # One that the file gives an address itself gives its lease up.
    done = up(host, text.replace("ip: dhcp", "ip: 203.0.113.60"))
    assert "Remove Process" in str(done)
    assert addresses(host.netns("a"), "eth0") == ["203.0.113.60"]
    assert host.netns("a").pings(LAN4)
    host.isthmus("down", "wire", "--confirm-within", "none")
    assert [one["ifname"] for one in host.ip_json("link", "show")] == ["lo", "eth0"]


def test_without_a_server_a_member_is_refused_and_nothing_is_left(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    host.isthmus("ns", "create", "a")
    done = host.isthmus("attach", "lan0", "a", "--ip", "dhcp", check=False)
    assert (done.returncode, "no DHCP server gives an address in a" in done.stderr) == (3, True)
    wait_for(lambda: len(host.netns("a").ip_json("link", "show")) == 1, "the link's end")
    assert host.run("ip", "netns", "pids", "a").stdout == ""
    assert json.loads(host.isthmus("network", "ls", "--format", "json").stdout)[0]["members"] == []


def test_without_the_client_it_is_named(lab: Lab) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    host.isthmus("ns", "create", "a")
    host.run("mkdir", "/run/bin")
    host.run("sh", "-c", "ln -s $(command -v sh ip sed) /run/bin")
    attach = f"PATH=/run/bin {sys.executable} -m isthmus.doors.cli attach lan0 a --ip dhcp"
    done = host.run("sh", "-c", attach, check=False)
    assert (done.returncode, "no program busybox" in done.stderr) == (3, True), done.stderr


def test_on_a_network_of_ours_no_server_is_asked(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "br0")
    lab.host.isthmus("ns", "create", "a")
    done = lab.host.isthmus("attach", "br0", "a", "--ip", "dhcp", check=False)
    assert (done.returncode, "network br0 is no LAN" in done.stderr) == (64, True)


# Runs

INSIDE: Final = "ip -4 -oneline address show dev eth0; ip -4 route show default; cat /etc/hosts /etc/resolv.conf"


def test_a_run_starts_when_its_lease_is_there_and_gives_it_back(lab: Lab, server: Server) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    before = snapshot(host)
    options = ("--network", "lan0", "--ip", "dhcp", "--name", "web")
    done = host.isthmus("run", *options, "--", "sh", "-c", f"{INSIDE}; exit 7", check=False)
    leased = re.search(r"inet (203\.0\.113\.1[56]\d)/24 ", done.stdout)
    assert (done.returncode, leased is not None) == (7, True), done
    assert f"default via {LAN4} " in done.stdout
    assert leased is not None
    assert f"\n{leased[1]} web\n" in done.stdout
    assert f"\nnameserver {LAN4}\n" in done.stdout
    wait_for(lambda: server.count(f"DHCPRELEASE(eth0) {leased[1]}") == 1, "the release")
    wait_for(lambda: snapshot(host) == before, "the host is as before")


def test_a_killed_run_gives_its_lease_back_too(lab: Lab, server: Server) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    before = snapshot(host)
    argv = ("run", "--network", "lan0", "--ip", "dhcp", "--", "sh", "-c", "echo ready; sleep 599")
    process = host.spawn(sys.executable, "-m", "isthmus.doors.cli", *argv)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    wait_for(lambda: server.count("DHCPRELEASE(eth0)") == 1, "the release")
    wait_for(lambda: snapshot(host) == before, "the host is as before")


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--network", "lan0"), 125, "no DHCP server gives an address in web"),
        (("--network", "br0"), 125, "none of br0 is a LAN"),
        (("--network", "lan0", "--ip", "203.0.113.50"), 125, "a second IPv4 address"),
        ((), 125, "no network is named"),
    ],
)
def test_a_run_without_a_lease_leaves_nothing(lab: Lab, options: tuple[str, ...], status: int, said: str) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    host.isthmus("network", "create", "br0")
    before = snapshot(host)
    done = host.isthmus("run", *options, "--ip", "dhcp", "--name", "web", "--", "true", check=False)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    wait_for(lambda: snapshot(host) == before, "the host is as before")


# Names


def hosts(place: Place) -> dict[str, str]:
    """Return the names that a process inside finds, with their addresses, but those of the loopback."""
    lines = [line.split() for line in place.run("cat", "/etc/hosts").stdout.splitlines()]
    return {words[1]: words[0] for words in lines if words[0] not in ("#", "127.0.0.1", "127.0.1.1", "::1")}


def client_of_link(host: Host, name: str) -> str:
    """Return the pid of the DHCP client in a namespace."""
    pids = host.run("ip", "netns", "pids", name).stdout.split()
    return next(pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "busybox\n")


def test_others_know_a_leased_member_by_name_and_it_asks_the_lans_resolver(lab: Lab, server: Server) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    host.isthmus("network", "create", "br0", "--subnet", "10.7.0.0/24")
    for name in ("a", "b", "both"):
        host.isthmus("ns", "create", name)
    a, b, both = map(host.netns, ("a", "b", "both"))
    host.isthmus("attach", "lan0", "b", "--ip", "203.0.113.60")
    host.isthmus("attach", "br0", "both")
    host.isthmus("attach", "lan0", "both", "--ip", "dhcp")
    before = snapshot(host)
    host.isthmus("attach", "lan0", "a", "--ip", "dhcp")
    (one,) = addresses(a, "eth0")
    (other,) = addresses(both, "eth1")
    known = {"a": one, "b": "203.0.113.60", "both": other}
    assert (hosts(a), hosts(b)) == (known, known)
    assert hosts(both).items() >= {"a": one, "b": "203.0.113.60"}.items()
    said = a.run("cat", "/etc/resolv.conf").stdout.splitlines()
    assert said == ["# kept by isthmus", f"# by DHCP, with {one}", "search lan.example", f"nameserver {LAN4}"]
    # Whoever has its default route elsewhere has its resolver from there.
    assert "DHCP" not in both.run("cat", "/etc/resolv.conf").stdout
    assert host.isthmus("repair").stdout.strip() in ("", "nothing to change")
    for words in (("ls",), ("ns", "ls"), ("network", "inspect", "lan0")):
        assert f"{one}/24" in host.isthmus(*words).stdout
    host.isthmus("detach", "lan0", "a")
    assert "a" not in {**hosts(b), **hosts(both)}
    wait_for(lambda: server.count(f"DHCPRELEASE(eth0) {one}") == 1, "the release")
    host.isthmus("ns", "rm", "a")
    host.isthmus("ns", "create", "a")
    wait_for(lambda: snapshot(host) == before, "the host is as before")


def test_a_name_follows_its_lease(lab: Lab, server: Server) -> None:
    host = lab.host
    host.isthmus(*CREATE)
    for name in ("a", "b"):
        host.isthmus("ns", "create", name)
    host.isthmus("attach", "lan0", "b", "--ip", "dhcp")
    host.isthmus("attach", "lan0", "a", "--ip", "dhcp")
    a = host.netns("a")
    (old,) = addresses(a, "eth0")
    # A process keeps the file that it found, so its text changes in place.
    inside = host.netns("a").spawn("sh", "-c", "echo ready; sleep 599")
    assert inside.stdout is not None
    assert inside.stdout.readline() == "ready\n"
    seen = [Path(f"/proc/{inside.pid}/root/etc/{name}") for name in ("hosts", "resolv.conf")]
    assert all(old in path.read_text() for path in seen)
    server.stop()
    Server(lab, "203.0.113.170,203.0.113.180")
    host.run("kill", "-USR1", *(client_of_link(host, name) for name in ("a", "b")))
    wait_for(lambda: any(one.startswith("203.0.113.1") and one != old for one in addresses(a, "eth0")), "another")
    (new,) = addresses(a, "eth0")
    wait_for(lambda: all(new in path.read_text() for path in seen), "its name")
    assert all(old not in path.read_text() for path in seen)
    (other,) = addresses(host.netns("b"), "eth0")
    wait_for(lambda: hosts(a) == {"a": new, "b": other}, "both names")
    assert f"{new}/24" in host.isthmus("ls").stdout
    assert host.isthmus("repair").stdout.strip() in ("", "nothing to change")
    # Given back, as at the end of its time: no name without an address; and it may come again.
    host.run("kill", "-USR2", client_of_link(host, "a"))
    wait_for(lambda: "a" not in hosts(host.netns("b")), "no name")
    assert addresses(a, "eth0") == []
    assert "DHCP" not in a.run("cat", "/etc/resolv.conf").stdout
    host.run("kill", "-USR1", client_of_link(host, "a"))
    wait_for(lambda: hosts(host.netns("b")).get("a") in addresses(a, "eth0"), "the name again")


SHORT: Final = """start 203.0.113.150
end 203.0.113.160
interface eth0
lease_file /run/leases
pidfile /run/udhcpd.pid
option subnet 255.255.255.0
option lease 3
"""


def test_an_address_whose_time_is_over_is_not_kept(lab: Lab) -> None:
    """The client may be dead: the kernel takes the address away."""
    host = lab.host
    write(lab.lan, "/run/udhcpd.conf", SHORT)
    lab.lan.run("touch", "/run/leases")
    server = lab.lan.spawn("busybox", "udhcpd", "-f", "-I", LAN4, "/run/udhcpd.conf")
    host.isthmus(*CREATE)
    for name in ("a", "b"):
        host.isthmus("ns", "create", name)
    host.isthmus("attach", "lan0", "b", "--ip", "203.0.113.60")
    host.isthmus("attach", "lan0", "a", "--ip", "dhcp")
    assert "a" in hosts(host.netns("b"))
    end(server)
    host.run("kill", "-KILL", client_of_link(host, "a"))
    wait_for(lambda: not list((host.path / "run/commands").glob("dhcp */pid")), "the client's end")
    wait_for(lambda: addresses(host.netns("a"), "eth0") == [], "the end of the lease")
    host.isthmus("repair")
    assert "a" not in hosts(host.netns("b"))


# IPv6 of the LAN's router


def announce6(lab: Lab, kind: str = "2001:db8::,ra-only") -> None:
    """Have the LAN's router say who is on the LAN, or give addresses of a range by DHCP."""
    # A neighbour advertisement bears the router flag where the link forwards; one without it, by which the kernel
    # confirms the router five seconds after its first use, takes the learned default route away (ndisc_recv_na).
    lab.lan.sysctl("net/ipv6/conf/eth0/forwarding", 1)
    pid = ("--pid-file=/run/ra.pid", "--log-facility=/run/ra.log", "--port=0", "--user=root")
    argv = ("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--interface=eth0", "--bind-interfaces", *pid)
    lab.lan.spawn(*argv, "--enable-ra", f"--dhcp-range={kind}", "--dhcp-leasefile=/run/leases6")
    log = lab.lan.run
    wait_for(lambda: "router advertisement" in log("cat", "/run/ra.log", check=False).stdout, "the router")


def learned(place: Place, link: str) -> list[str]:
    (found,) = place.ip_json("-6", "address", "show", "dev", link)
    ready = [one for one in found["addr_info"] if one["scope"] == "global" and not one.get("tentative")]
    return [one["local"] for one in ready if one.get("dynamic")]


def leased6(place: Place, link: str) -> list[str]:
    """Return the addresses of a DHCP server, which have no prefix."""
    found = place.ip_json("-6", "address", "show", "dev", link)[0]["addr_info"]
    return [one["local"] for one in found if one.get("dynamic") and one["prefixlen"] == 128]


def default_routes(place: Place) -> list[dict[str, Any]]:
    return place.ip_json("-6", "route", "show", "default")


def ways_out(place: Place) -> list[tuple[str, str]]:
    return [(one["dev"], one["protocol"]) for one in default_routes(place)]


def test_a_member_without_an_ipv6_address_has_that_of_the_lans_router(lab: Lab) -> None:
    host = lab.host
    announce6(lab)
    host.isthmus(*CREATE)
    host.isthmus("network", "create", "br0", "--subnet", "fd00:7::/64")
    for name in ("a", "b"):
        host.isthmus("ns", "create", name)
    host.isthmus("attach", "lan0", "a", "--ip", "203.0.113.50")
    host.isthmus("attach", "lan0", "b", "--ip", "2001:db8::60")
    a, b = host.netns("a"), host.netns("b")
    wait_for(lambda: learned(a, "eth0") != [], "an address")
    (mine,) = learned(a, "eth0")
    assert a.pings(LAN6)
    assert a.pings("2001:db8::60")
    assert ways_out(a) == [("eth0", "ra")]
    # One that was given one asks nobody; what it hears is the kernel's affair.
    assert "link" not in [one["scope"] for one in b.ip_json("-6", "address", "show", "dev", "eth0")[0]["addr_info"]]
    (shown,) = (
        one for one in json.loads(host.isthmus("ls", "--format", "json").stdout)["namespaces"] if one["name"] == "a"
    )
    assert shown["addresses"] == [f"{mine}/64", "203.0.113.50/24"]
    assert host.isthmus("repair").stdout.strip() in ("", "nothing to change")
    # Where another network has the way out it is not the router's.
    host.isthmus("attach", "br0", "a")
    assert ways_out(a) == [("eth1", "105")]
    assert learned(a, "eth0") == [mine]
    # What was set otherwise is drift; what goes leaves nothing.
    a.run("sysctl", "-qw", "net/ipv6/conf/eth0/accept_ra_defrtr=1")
    assert "router advertisements on eth0 in a" in host.isthmus("repair").stdout
    # The host hears the router, too: of two ways of one metric the one that somebody set counts, whichever came first.
    wait_for(lambda: {one["protocol"] for one in default_routes(host)} == {"boot", "ra"}, "a way out that is heard of")
    (given,) = (one for one in default_routes(host) if one["protocol"] == "boot")
    host.run("ip", "-6", "route", "del", "default", "proto", "boot")
    host.run("ip", "-6", "route", "append", "default", "via", given["gateway"], "dev", "lan0")
    before = host.isthmus("network", "inspect", "lan0").stdout
    host.run("sh", "-c", "rm -r $ISTHMUS_STATE_DIR")
    host.isthmus("repair", "--rebuild")
    assert host.isthmus("network", "inspect", "lan0").stdout == before
    host.isthmus("detach", "lan0", "a")
    host.isthmus("attach", "lan0", "a", "--ip", "203.0.113.51", "--no-default-route")
    wait_for(lambda: learned(a, "eth0") != [], "an address")
    assert ways_out(a) == [("eth1", "105")]


RANGE6: Final = "2001:db8::1000,2001:db8::1fff,64,2m"


@pytest.mark.usefixtures("server")
def test_a_member_has_an_ipv6_address_of_a_dhcp_server_too(lab: Lab) -> None:
    host = lab.host
    announce6(lab, RANGE6)
    host.isthmus(*CREATE)
    for name in ("a", "b"):
        host.isthmus("ns", "create", name)
    a, b = host.netns("a"), host.netns("b")
    host.isthmus("attach", "lan0", "b", "--ip", "203.0.113.60")
    before = snapshot(host)
    done = host.isthmus("attach", "lan0", "a", "--ip", "dhcp", "--ip", "dhcp6")
    (mine,), (other,) = addresses(a, "eth0"), leased6(a, "eth0")
    assert f"a has {mine} {other} on lan0" in done.stdout
    lines = b.run("cat", "/etc/hosts").stdout
    assert f"\n{mine} a\n" in lines
    assert f"\n{other} a\n" in lines
    wait_for(lambda: ways_out(a) == [("eth0", "ra")], "the router")
    assert a.pings(LAN6)
    assert host.isthmus("repair").stdout.strip() in ("", "nothing to change")
    state = host.isthmus("network", "inspect", "lan0").stdout
    host.run("sh", "-c", "rm -r $ISTHMUS_STATE_DIR")
    assert "DHCP" not in host.isthmus("repair", "--rebuild").stdout
    assert host.isthmus("network", "inspect", "lan0").stdout == state
    host.isthmus("detach", "lan0", "a")
    log = lab.lan.run
    wait_for(lambda: "DHCPRELEASE" in log("cat", "/run/ra.log").stdout, "the release")
    assert "a" not in hosts(b)
    wait_for(lambda: snapshot(host) == before, "the host is as before")


def test_a_run_with_an_ipv6_lease_alone(lab: Lab) -> None:
    host = lab.host
    announce6(lab, RANGE6)
    host.isthmus(*CREATE)
    argv = ("run", "--network", "lan0", "--ip", "dhcp6", "--name", "web", "--", "cat", "/etc/hosts")
    assert re.search(r"^2001:db8::1[0-9a-f]{3} web$", host.isthmus(*argv).stdout, re.MULTILINE)
    host.run("sh", "-c", "mkdir /run/bin; ln -s $(command -v sh ip sed mount mkdir) /run/bin")
    done = host.run(
        "sh", "-c", 'PATH=/run/bin exec "$0" "$@"', sys.executable, "-m", "isthmus.doors.cli", *argv, check=False
    )
    assert (done.returncode, "no program dhcpcd" in done.stderr) == (125, True), done.stderr
