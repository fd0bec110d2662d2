"""Asks for a page with the TLS of many browsers: every profile, name and version of HTTP. Prints a line of JSON each."""

import json
import sys

from curl_cffi import CurlHttpVersion, CurlOpt
from curl_cffi.requests import BrowserType, Session
from curl_cffi.requests.exceptions import RequestException

VERSIONS = {"1.1": CurlHttpVersion.V1_1, "2": CurlHttpVersion.V2TLS}


def ask(port, profile, name, version):
    options = {CurlOpt.RESOLVE: [f"{name}:{port}:127.0.0.1".encode()]}
    with Session(curl_options=options) as session:
        try:
            answer = session.get(
                f"https://{name}:{port}/",
                impersonate=profile,
                http_version=VERSIONS[version],
                verify=False,
                timeout=10,
            )
            return {"status": answer.status_code, "body": answer.text}
        except RequestException as error:
            return {"code": int(error.code), "error": str(error)}


def main():
    port, names = int(sys.argv[1]), sys.argv[2:]
    for profile in sorted(profile.value for profile in BrowserType):
        for name in names:
            for version in VERSIONS:
                asked = {"profile": profile, "name": name, "version": version}
                print(json.dumps(asked | ask(port, profile, name, version)), flush=True)


main()
