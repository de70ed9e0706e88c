#!/usr/bin/env python3
"""Turns every packet that comes in by an interface, and every DNS question in it, into counts of what was meant to be asked and what was not.

    watch.py INTERFACE ADDRESS REPORT NAME... -- PORT...

Answers DNS at ADDRESS: each NAME is there, no other name exists. Packets to ADDRESS are expected on PORTs (tcp/443, udp/53), and nowhere
else. At SIGTERM it writes REPORT, a line each, fields apart by tabs: `expected` or `foreign`, what, and how often.
"""

import collections
import ipaddress
import signal
import socket
import struct
import sys
import threading

ETH_P_ALL = 3
PACKET_OUTGOING = 4
# Which neighbours there are (RFC 4861), and who listens to multicast (RFC 3810): between a kernel and its link.
NEIGHBOURS = {130, 131, 132, 133, 134, 135, 136, 143}
counts = collections.Counter()
# Three threads count.
counting = threading.Lock()


def count(kind, what, number=1):
    with counting:
        counts[kind, what] += number


def transport(protocol, data):
    """The protocol and destination port, such as tcp/443."""
    name = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6"}.get(protocol, f"protocol {protocol}")
    if protocol in (6, 17) and len(data) >= 4:
        return f"{name}/{struct.unpack('>H', data[2:4])[0]}"
    return name


def destination(frame):
    """Where a frame goes, as address and transport; None when it is between neighbours only."""
    ethertype = struct.unpack(">H", frame[12:14])[0]
    data = frame[14:]
    if ethertype == 0x0806:
        return None
    if ethertype == 0x0800:
        header = (data[0] & 15) * 4
        return socket.inet_ntoa(data[16:20]), transport(data[9], data[header:])
    if ethertype == 0x86DD:
        protocol, payload = data[6], data[40:]
        # Multicast listener reports come behind a hop-by-hop header.
        if protocol == 0:
            protocol, payload = payload[0], payload[(payload[1] + 1) * 8 :]
        if protocol == 58 and payload and payload[0] in NEIGHBOURS:
            return None
        return str(ipaddress.IPv6Address(data[24:40])), transport(protocol, payload)
    return "the link", f"ethertype {ethertype:#06x}"


def question(query):
    """The name that a DNS message asks for, its type, and where the question ends (RFC 1035, 4.1)."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += query[at] + 1
    return ".".join(labels).lower(), struct.unpack(">H", query[at + 1 : at + 3])[0], at + 5


def answer(query, names, address):
    name, kind, end = question(query)
    count("expected" if name in names else "foreign", f"question {name}")
    here = name in names and kind == 1
    flags = 0x8580 if name in names else 0x8583
    head = query[:2] + struct.pack(">HHHHH", flags, 1, int(here), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(address) if here else b""
    return head + query[12:end] + record


def serve_udp(listener, names, address):
    while True:
        query, sender = listener.recvfrom(4096)
        try:
            listener.sendto(answer(query, names, address), sender)
        except (IndexError, struct.error):
            count("foreign", "what is no DNS question on port 53")


def serve_tcp(listener, names, address):
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                query = connection.recv(4096)[2:]
                reply = answer(query, names, address)
                connection.sendall(struct.pack(">H", len(reply)) + reply)
            except (IndexError, OSError, struct.error):
                count("foreign", "what is no DNS question on port 53")


def main():
    interface, address, report, *rest = sys.argv[1:]
    names, ports = set(rest[: rest.index("--")]), set(rest[rest.index("--") + 1 :])
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    packets.bind((interface, ETH_P_ALL))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, 53))
    tcp = socket.create_server((address, 53))
    for serve, listener in ((serve_udp, udp), (serve_tcp, tcp)):
        threading.Thread(target=serve, args=(listener, names, address), daemon=True).start()

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    packets.settimeout(0.2)
    print("watching", flush=True)
    while True:
        # What has come in by then still counts.
        if stopping.is_set():
            packets.setblocking(False)
        try:
            frame, (_, _, direction, *_) = packets.recvfrom(65535)
        except TimeoutError:
            continue
        except BlockingIOError:
            break
        # With the offloads of a virtual link a frame may be longer than a packet: it is one to a destination all the same.
        place = destination(frame) if direction != PACKET_OUTGOING else None
        if place:
            kind = "expected" if place[0] == address and place[1] in ports else "foreign"
            count(kind, f"packets to {place[0]} {place[1]}")
    dropped = struct.unpack("II", packets.getsockopt(263, 6, 8))[1]
    if dropped:
        count("foreign", "packets that came too fast to be looked at", dropped)
    with counting:
        lines = sorted(counts.items())
    with open(report, "w", encoding="utf-8") as file:
        for (kind, what), number in lines:
            print(kind, what, number, sep="\t", file=file)


main()
