"""What a verb made can be used when it returns, also while somebody else makes and deletes links all the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.live.driving import drive, end

from isthmus.testing import Lab

# Deleting a bridge holds the lock of all links (RTNL) for milliseconds, whatever namespace it is in.
_NOISE: Final = "link add {0} type bridge\nlink set {0} up\nlink del {0}\n"
# A closed port refuses at once where all is ready; else the first packet is lost, and the next comes a second later.
_ATTACHED: Final = """
import socket
do(create_network, network('n', SUBNET))
out = []
for number in range(40):
    do(create_namespace, f'a{number}')
    row = do(attach, AttachmentWish(network='n'), f'a{number}').attachment
    try:
        socket.create_connection((str(row.addresses[0]), 9), timeout=0.5)
    except ConnectionRefusedError:
        continue
    except TimeoutError:
        out.append(number)
"""


@pytest.fixture
def noise(lab: Lab, tmp_path: Path) -> Iterator[None]:
    processes = []
    for name in ("nb0", "nb1"):
        lines = tmp_path / name
        lines.write_text(_NOISE.format(name) * 20000)
        processes.append(lab.lan.spawn("ip", "-batch", str(lines)))
    yield
    assert [one.poll() for one in processes] == [None, None], "the noise has ended"
    for one in processes:
        end(one)


@pytest.mark.usefixtures("noise")
@pytest.mark.parametrize("subnet", ["10.1.0.0/24", "fd01::/64"])
def test_the_first_packet_to_an_address_is_taken_up(lab: Lab, subnet: str) -> None:
    assert drive(lab.host, f"SUBNET = {subnet!r}" + _ATTACHED) == []
