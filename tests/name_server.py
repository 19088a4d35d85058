"""A name server that knows nobody and notes for whom it is asked; a script.

`python name_server.py FILE`, in a network namespace: brings loopback up, listens there, prints
"ready".
"""

import fcntl
import socket
import struct
import sys
from pathlib import Path

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
_NO_SUCH_NAME = b"\x81\x83"


def raise_loopback() -> None:
    """What `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        name, flags = struct.unpack(
            "16sh", fcntl.ioctl(link, _GET_FLAGS, struct.pack("16sh", b"lo", 0))
        )
        fcntl.ioctl(link, _SET_FLAGS, struct.pack("16sh", name, flags | _UP))


def read_name(question: bytes) -> str:
    """The name in a question (RFC 1035, 4.1.2): parts, each after its length."""
    parts, at = [], 12
    while length := question[at]:
        parts.append(question[at + 1 : at + 1 + length].decode(errors="replace"))
        at += 1 + length
    return ".".join(parts)


def serve(asked: Path) -> None:
    """Answer every question with "no such name"."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            question, sender = server.recvfrom(4096)
            with asked.open("a", encoding="utf-8") as file:
                file.write(f"{read_name(question)}\n")
            counts = b"\0\1" + b"\0" * 6  # the question comes back, without its additional records
            end = 12 + len(read_name(question).encode()) + 2 + 4
            server.sendto(question[:2] + _NO_SUCH_NAME + counts + question[12:end], sender)


if __name__ == "__main__":
    raise_loopback()
    serve(Path(sys.argv[1]))
