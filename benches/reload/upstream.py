"""The resolver behind every server: answers by the name alone, so that nothing outside this machine is asked.

Names with a label far-… have an address elsewhere, all others one in the mainland; other types than A do not exist.
"""

import socket
import struct

MAINLAND, ELSEWHERE = "203.0.113.7", "192.0.2.7"
TTL = 3600
A = 1


def answer(query):
    end = 12
    while query[end]:
        end += query[end] + 1
    question = query[12 : end + 5]
    qtype = struct.unpack("!H", query[end + 1 : end + 3])[0]
    if qtype == A:
        address = ELSEWHERE if b"\x04far-" in question or b"far-" in question else MAINLAND
        record = b"\xc0\x0c" + struct.pack("!HHIH", A, 1, TTL, 4) + socket.inet_aton(address)
        counts = (1, 1, 0, 0)
    else:
        # No data: the SOA of the root says for how long (RFC 2308).
        soa = b"\0\0" + struct.pack("!5I", 1, 3600, 600, 86400, TTL)
        record = b"\0" + struct.pack("!HHIH", 6, 1, TTL, len(soa)) + soa
        counts = (1, 0, 1, 0)
    return query[:2] + b"\x81\x80" + struct.pack("!4H", *counts) + question + record


def main():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    server.bind(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        query, client = server.recvfrom(4096)
        try:
            server.sendto(answer(query), client)
        except (IndexError, struct.error):
            continue


if __name__ == "__main__":
    main()
