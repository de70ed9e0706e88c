#!/usr/bin/env python3
"""Signs in as LOGIN, opens their terminal as a program would, and prints what it shows until it is closed.

    tests/cluster/terminal.py LOGIN

DEVPLANE_URL and DEVPLANE_LOCAL_CA say where (deploy/local/env.sh). The first line is the name of the Workspace, the last one `closed CODE REASON`.
"""

import base64
import http.cookiejar
import json
import os
import re
import secrets
import socket
import ssl
import struct
import sys
import time
import urllib.parse
import urllib.request

URL = os.environ["DEVPLANE_URL"]
TLS = ssl.create_default_context(cafile=os.environ["DEVPLANE_LOCAL_CA"])
STARTS_WITHIN = 180
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

# Names below localhost are loopback (RFC 6761, section 6.3), which not every resolver knows.
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: resolve("127.0.0.1" if host.endswith(".localhost") else host, *rest, **named)

cookies = http.cookiejar.CookieJar()
browser = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=TLS), urllib.request.HTTPCookieProcessor(cookies)
)


def sign_in(login):
    """From the gateway to the provider's form and back."""
    with browser.open(f"{URL}/login") as page:
        form = re.search(r'action="([^"]+)"', page.read().decode())[1]
        action = urllib.parse.urljoin(page.url, form)
    browser.open(action, urllib.parse.urlencode({"login": login, "password": "any"}).encode()).close()


def started():
    """The workspace, once its terminal answers."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        request = urllib.request.Request(f"{URL}/api/workspace", method="POST", data=b"", headers={"origin": URL})
        with browser.open(request) as answer:
            workspace = json.load(answer)
        if workspace["ttydReady"]:
            return workspace["name"]
        time.sleep(1)
    sys.exit(f"error: no terminal within {STARTS_WITHIN} s: {workspace}")


class Terminal:
    """A WebSocket (RFC 6455) with ttyd's protocol in it."""

    def __init__(self):
        host = urllib.parse.urlsplit(URL)
        request = urllib.request.Request(f"{URL}/ws")
        cookies.add_cookie_header(request)
        self.stream = TLS.wrap_socket(socket.create_connection((host.hostname, host.port)), server_hostname=host.hostname)
        head = {
            "host": host.netloc, "connection": "upgrade", "upgrade": "websocket", "origin": URL, "cookie": request.get_header("Cookie"),
            "sec-websocket-version": "13", "sec-websocket-protocol": "tty", "sec-websocket-key": base64.b64encode(secrets.token_bytes(16)).decode(),
        }  # fmt: skip
        lines = ["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        self.stream.sendall("\r\n".join(lines).encode())
        self.file = self.stream.makefile("rb")
        self.status = self.file.readline().decode().strip()
        while self.file.readline().strip():
            pass

    def send(self, opcode, payload):
        mask = secrets.token_bytes(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.stream.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    def frames(self):
        while head := self.file.read(2):
            length = head[1]
            if length == 126:
                (length,) = struct.unpack(">H", self.file.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.file.read(8))
            yield head[0] & 15, self.file.read(length)


def opened():
    """The name of a Workspace that was started anew leads to its last pod for some seconds."""
    for attempt in range(6):
        terminal = Terminal()
        if " 101 " in terminal.status:
            terminal.send(BINARY, json.dumps({"AuthToken": "", "columns": 120, "rows": 30}).encode())
            return terminal
        time.sleep(attempt)
    sys.exit(f"error: no terminal: {terminal.status}")


def main():
    sign_in(sys.argv[1])
    print(started(), flush=True)
    terminal = opened()
    for opcode, payload in terminal.frames():
        if opcode == PING:
            terminal.send(PONG, payload)
        elif opcode == CLOSE:
            code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            print(f"\nclosed {code} {payload[2:].decode()}", flush=True)
            return
        elif payload[:1] == b"0":
            sys.stdout.buffer.write(payload[1:])
            sys.stdout.flush()
    sys.exit("error: the connection was lost")


if __name__ == "__main__":
    main()
