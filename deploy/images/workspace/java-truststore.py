#!/usr/bin/env python3
"""Turns PEM certificates on standard input into a trust store for Java on standard output.

The form is JKS: every Java reads it, and, unlike PKCS#12, without a password. With one it is `changeit`, as that of Java's own store.
"""

import base64
import hashlib
import re
import struct
import sys

PASSWORD = "changeit"
TRUSTED = 2


def text(value):
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def main():
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", sys.stdin.read(), re.DOTALL)
    certificates = list(dict.fromkeys(base64.b64decode(block) for block in blocks))
    store = struct.pack(">III", 0xFEEDFEED, 2, len(certificates))
    for number, certificate in enumerate(certificates):
        # The time, in milliseconds since 1970, is nobody's concern; always the same, the same input gives the same store.
        store += struct.pack(">I", TRUSTED) + text(f"authority-{number}") + struct.pack(">Q", 0)
        store += text("X.509") + struct.pack(">I", len(certificate)) + certificate
    digest = hashlib.sha1(PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + store, usedforsecurity=False)
    sys.stdout.buffer.write(store + digest.digest())


main()
