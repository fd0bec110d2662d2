"""An HTTP/3 client. Prints one line of JSON: what it got, or the code that its connection was closed with."""

import argparse
import asyncio
import json
import socket
import ssl
import time

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicProtocolVersion

VERSIONS = {"1": QuicProtocolVersion.VERSION_1, "2": QuicProtocolVersion.VERSION_2}


class Client(QuicConnectionProtocol):
    """One connection."""

    http = None
    answer = None

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated) and self.answer and not self.answer.done():
            self.answer.set_result({"close": event.error_code})
        for received in self.http.handle_event(event) if self.http else []:
            if isinstance(received, HeadersReceived):
                self.status = dict(received.headers)[b":status"].decode()
            if isinstance(received, DataReceived):
                self.body += received.data
                if received.stream_ended:
                    self.answer.set_result({"status": self.status, "body": self.body.decode()})

    async def get(self, name, path, limit):
        self.http = self.http or H3Connection(self._quic)
        self.answer, self.body = asyncio.get_running_loop().create_future(), b""
        stream = self._quic.get_next_available_stream_id()
        fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", name.encode()), (b":path", path.encode())]
        self.http.send_headers(stream, fields, end_stream=True)
        self.transmit()
        try:
            return await asyncio.wait_for(self.answer, limit)
        except asyncio.TimeoutError:
            return {"timeout": True}


async def rebind(client):
    """Goes on from another port, as behind a router that has lost its table."""
    client._transport.close()
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: client, sock=sock)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("name")
    parser.add_argument("--versions", default="1")
    parser.add_argument("--path", default="/0")
    parser.add_argument("--rebind", action="store_true")
    parser.add_argument("--new-cid", action="store_true")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    versions = [VERSIONS[text] for text in options.versions.split(",")]
    tickets = []
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, server_name=options.name)
    configuration.verify_mode = ssl.CERT_NONE
    configuration.original_version = versions[0]
    configuration.supported_versions = list(reversed(versions))
    begun, res = time.monotonic(), []
    for turn in range(2 if options.resume else 1):
        if turn:
            configuration.session_ticket = tickets[-1]
        # The request leaves with the first packets: as 0-RTT where there is a ticket.
        async with connect(
            "127.0.0.1",
            options.port,
            configuration=configuration,
            create_protocol=Client,
            session_ticket_handler=tickets.append,
            wait_connected=False,
        ) as client:
            res.append(await client.get(options.name, options.path, 30))
            if options.rebind:
                if options.new_cid:
                    # One that the server gave; nothing is sent between here and the other port.
                    while not client._quic._peer_cid_available:
                        await asyncio.sleep(0)
                    client._quic.change_connection_id()
                await rebind(client)
                res.append(await client.get(options.name, options.path, 3))
            res[-1]["version"] = client._quic._version
            res[-1]["early"] = client._quic.tls.early_data_accepted
    print(json.dumps({"answers": res, "seconds": time.monotonic() - begun}))


asyncio.run(main())
