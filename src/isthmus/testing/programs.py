"""The two small programs that the lab runs inside: a server that says who asks, and one that asks.

They are texts, run by `python -I -S -c`, so that they start fast and need nothing of ours.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PROBE", "SERVER"]

# Arguments: name, address ('' for all of both families), protocols by comma, ports.
# Answers each line (TCP; the connection stays open) or datagram (UDP) with "name peer-address local-port".
# An UDP answer leaves from the address that was asked (IP_PKTINFO), as a connected client demands.
SERVER: Final = r"""
import select, socket, struct, sys

IP_PKTINFO = 8
name, address, protocols, *ports = sys.argv[1:]
families = [socket.AF_INET6 if ":" in address else socket.AF_INET] if address else [socket.AF_INET, socket.AF_INET6]
poll, sockets = select.epoll(), {}

def watch(sock):
    sockets[sock.fileno()] = sock
    poll.register(sock, select.EPOLLIN)

def forget(sock):
    poll.unregister(sock)
    del sockets[sock.fileno()]
    sock.close()

def answer(sock, peer):
    return f"{name} {peer[0]} {sock.getsockname()[1]}\n".encode()

def answer_datagram(sock):
    _, control, _, peer = sock.recvmsg(2048, 256)
    (level, kind, data), *_ = control
    if level == socket.IPPROTO_IP:
        data = struct.pack("=i4s4s", 0, data[8:12], bytes(4))
    sock.sendmsg([answer(sock, peer)], [(level, kind, data)], 0, peer)

for port in map(int, ports):
    for protocol in protocols.split(","):
        for family in families:
            sock = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if protocol == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            elif family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind((address, port))
            if protocol == "tcp":
                sock.listen(64)
            watch(sock)

print("ready", flush=True)
while True:
    for number, _ in poll.poll():
        sock = sockets[number]
        try:
            if sock.type == socket.SOCK_DGRAM:
                answer_datagram(sock)
            elif sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                watch(sock.accept()[0])
            elif sock.recv(2048):
                sock.sendall(answer(sock, sock.getpeername()))
            else:
                forget(sock)
        except OSError:
            if sock.type == socket.SOCK_STREAM and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                forget(sock)
"""

# Arguments: address, port, protocol, timeout in seconds, source address or '', source port or 0.
# Prints the answer, or one word or two for what came instead.
PROBE: Final = r"""
import errno, socket, sys

address, port, protocol, timeout, source, source_port = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
words = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPERM: "not permitted",
         errno.EHOSTUNREACH: "unreachable", errno.ENETUNREACH: "unreachable", errno.EACCES: "prohibited",
         errno.ETIMEDOUT: "timed out", errno.EADDRNOTAVAIL: "no such source address"}
sock = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
sock.settimeout(float(timeout))
try:
    if source or int(source_port):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source, int(source_port)))
    sock.connect(socket.getaddrinfo(address, int(port), family)[0][4])
    sock.send(b"who\n")
    print(sock.recv(2048).decode().strip() or "closed")
except TimeoutError:
    print("timed out")
except OSError as error:
    print(words.get(error.errno) or errno.errorcode.get(error.errno, str(error)))
"""
