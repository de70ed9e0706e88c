"""Tries to get a terminal out of another's pod, from inside a workspace: terminal.py ADDRESS ATTEMPTS.

Without TLS, with TLS and no certificate, and with this workspace's own certificate. Prints how many attempts reached the pod, and how many
bytes came back that are no part of a refusal.
"""

import socket
import ssl
import sys

address, attempts = sys.argv[1], int(sys.argv[2])
upgrade = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: tty\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def context(own):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    if own:
        tls.load_cert_chain("/etc/devplane/terminal/tls.crt", "/etc/devplane/terminal/tls.key")
    return tls


def answer(attempt):
    with socket.create_connection((address, 7681), timeout=10) as plain:
        if attempt % 10 < 8:
            plain.sendall(upgrade)
            return plain.recv(65536)
        tls = context(own=attempt % 10 == 9)
        with tls.wrap_socket(plain, server_hostname=None if attempt % 20 < 10 else "x") as wrapped:
            wrapped.sendall(upgrade)
            return wrapped.recv(65536)


reached = got = 0
for attempt in range(attempts):
    try:
        reply = answer(attempt)
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        reached += 1
        continue
    except OSError:
        continue
    reached += 1
    # A record of TLS that says no (RFC 8446, section 6: an alert).
    if not reply.startswith(b"\x15\x03"):
        got += len(reply)
print(reached, got)
