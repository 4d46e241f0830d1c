"""Whether a link inside heeds ICMPv6 redirects.

On an adopted bridge the host that forwards for a member may share the link with whom it forwards to. It tells the
member so (net/ipv6/ip6_output.c, ip6_forward), whatever is translated on the way, and there is no switch against it;
what the member then sends to its neighbour directly leaves with an address of ours.
Source: net/ipv6/route.c, rt6_do_redirect, which asks the link's own switch alone.
"""

from __future__ import annotations

from isthmus.kernel.access import Access
from isthmus.kernel.netns import Inside
from isthmus.kernel.sysctl import read_sysctl, write_sysctl
from isthmus.model.host import Unredirected

__all__ = ["heed_redirects", "is_unredirected"]


def is_unredirected(access: Access, item: Unredirected) -> bool:
    """Whether a link heeds none; one without IPv6 has nobody to."""
    with Inside(access.fd(item.netns)):
        return read_sysctl(item.sysctl) in ("0", None)


def heed_redirects(access: Access, item: Unredirected, *, on: bool) -> None:
    """Have a link heed them or not."""
    with Inside(access.fd(item.netns)):
        write_sysctl(item.sysctl, str(int(on)))
