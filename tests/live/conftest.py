"""Fixtures of the tests on the real kernel: a throw-away host and its LAN."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.testing import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Give a host and a LAN of this test alone, and fail it when something of them is left."""
    with Lab(tmp_path) as lab:
        yield lab


@pytest.fixture(params=[0, 1], ids=["nf0", "nf1"])
def bridge_nf(request: pytest.FixtureRequest, lab: Lab) -> int:
    """Run a test twice: bridged packets do not, and do, pass iptables on the host."""
    mode: int = request.param
    if lab.host.run("test", "-d", "/proc/sys/net/bridge", check=False).returncode:
        if mode == 1:
            pytest.skip("br_netfilter: the kernel lacks it, or it is not loaded")
        return mode
    for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
        lab.host.sysctl(f"net/bridge/{name}", mode)
    return mode
