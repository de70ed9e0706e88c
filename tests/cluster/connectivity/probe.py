"""Tells whether a packet gets there and back: probe.py tcp|udp ADDRESS PORT. Exit code 0 is yes, 1 is no."""

import socket
import struct
import sys

protocol, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
with socket.socket(family, kind) as end:
    end.settimeout(3)
    try:
        end.connect((address, port))
        if protocol == "udp":
            # A question for the address of localhost (RFC 1035): DNS answers it, and an echo gives it back.
            name = b"\x09localhost\x00"
            end.send(struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1))
            end.recv(512)
    except ConnectionRefusedError:
        pass  # The far end has said no, so it was reached.
    except OSError:
        sys.exit(1)
