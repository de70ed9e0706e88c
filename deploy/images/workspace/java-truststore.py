#!/usr/bin/env python3
"""Turns PEM certificates on standard input into a trust store for Java on standard output.

What is no certificate is left out, with a warning on standard error: Java would take nothing of a store with one in it.

The form is JKS: every Java reads it, and, unlike PKCS#12, without a password. With one it is `changeit`, as that of Java's own store.
"""

import base64
import hashlib
import re
import ssl
import struct
import sys

PASSWORD = "changeit"
TRUSTED = 2


def text(value):
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def decoded(blocks):
    """The certificates (DER) among PEM blocks, each once."""
    certificates = {}
    parser = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for number, block in enumerate(blocks, 1):
        try:
            certificate = base64.b64decode(b"".join(block.split()), validate=True)
            parser.load_verify_locations(cadata=certificate)
        except (ValueError, ssl.SSLError) as error:
            print(f"devplane: warning: PEM block {number} of {len(blocks)} is no certificate, Java does without it: {error}", file=sys.stderr)
        else:
            certificates[certificate] = None
    return list(certificates)


def main():
    # A block ends where the next begins: one that was cut takes no other with it.
    block = rb"-----BEGIN CERTIFICATE-----((?:(?!-----BEGIN).)*?)-----END CERTIFICATE-----"
    certificates = decoded(re.findall(block, sys.stdin.buffer.read(), re.DOTALL))
    store = struct.pack(">III", 0xFEEDFEED, 2, len(certificates))
    for number, certificate in enumerate(certificates):
        # The time, in milliseconds since 1970, is nobody's concern; always the same, the same input gives the same store.
        store += struct.pack(">I", TRUSTED) + text(f"authority-{number}") + struct.pack(">Q", 0)
        store += text("X.509") + struct.pack(">I", len(certificate)) + certificate
    digest = hashlib.sha1(PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + store, usedforsecurity=False)
    sys.stdout.buffer.write(store + digest.digest())


main()
