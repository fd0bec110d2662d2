"""A client of DNS over QUIC. Sends the queries given in hexadecimal, each on a stream of its own, and prints one line of JSON:
the answers in hexadecimal, in the order of the queries."""

import argparse
import asyncio
import json
import ssl

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration


async def ask(client, query):
    reader, writer = await client.create_stream()
    writer.write(len(query).to_bytes(2, "big") + query)
    writer.write_eof()
    answer = await reader.read()
    assert len(answer) == 2 + int.from_bytes(answer[:2], "big")
    return answer[2:].hex()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("ca")
    parser.add_argument("name")
    parser.add_argument("queries", nargs="+")
    arguments = parser.parse_args()
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["doq"], server_name=arguments.name)
    configuration.verify_mode = ssl.CERT_REQUIRED
    configuration.load_verify_locations(arguments.ca)
    async with connect("127.0.0.1", arguments.port, configuration=configuration) as client:
        answers = await asyncio.gather(*(ask(client, bytes.fromhex(query)) for query in arguments.queries))
    print(json.dumps(answers))


asyncio.run(main())
