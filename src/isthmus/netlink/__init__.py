"""Bytes: the netlink wire format; socket.py alone opens AF_NETLINK."""
