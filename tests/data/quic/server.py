"""An HTTP/3 server that says what it was asked for and by which address. Prints its port, then serves until it is ended."""

import argparse
import asyncio

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import SessionTicket

VERSIONS = {"1": QuicProtocolVersion.VERSION_1, "2": QuicProtocolVersion.VERSION_2}
TICKETS: dict[bytes, SessionTicket] = {}


class Site(QuicConnectionProtocol):
    """One connection."""

    http = None
    peer = None

    def datagram_received(self, data, addr):
        self.peer = addr
        super().datagram_received(data, addr)

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        for received in self.http.handle_event(event) if self.http else []:
            if isinstance(received, HeadersReceived):
                self.answer(received)

    def answer(self, received):
        fields = dict(received.headers)
        path = fields[b":path"].strip(b"/")
        length = int(path) if path.isdigit() else 0
        text = f"site {fields[b':authority'].decode()} to port {self.peer[1]}\n".encode()
        headers = [(b":status", b"200"), (b"content-type", b"text/html")]
        self.http.send_headers(received.stream_id, headers)
        self.http.send_data(received.stream_id, text + b"x" * length, end_stream=True)
        self.transmit()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--retry", action="store_true")
    parser.add_argument("--versions", default="1,2")
    options = parser.parse_args()
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN,
        is_client=False,
        supported_versions=[VERSIONS[text] for text in options.versions.split(",")],
    )
    configuration.load_cert_chain(options.certificate, options.key)
    server = await serve(
        "127.0.0.1",
        0,
        configuration=configuration,
        create_protocol=Site,
        retry=options.retry,
        session_ticket_fetcher=lambda label: TICKETS.pop(label, None),
        session_ticket_handler=lambda ticket: TICKETS.__setitem__(ticket.ticket, ticket),
    )
    print(server._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
