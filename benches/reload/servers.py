"""The servers: how each is configured, started, changed and reloaded, the way its operators do it."""

import json
import os
import re
import shutil
import socket
import subprocess
import time

import table


def free_port():
    """A port free for UDP and TCP at this moment."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            return udp.getsockname()[1]


def version_of(*command):
    said = subprocess.run(command, capture_output=True, text=True, timeout=10)
    found = re.search(r"\d+\.\d+[\w.]*", said.stdout + said.stderr)
    return found.group() if found else "?"


class Server:
    """One server with its directory; `change` makes the next state and tells the seconds since 1970 of its write."""

    program = package = ""
    name = ""
    # The name in the changed row.
    changed = table.CHANGED

    def __init__(self, directory, count, upstream):
        self.directory, self.count, self.upstream = directory, count, upstream
        self.port, self.serial = free_port(), 1
        self.blocks = False

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    @classmethod
    def is_installed(cls):
        return shutil.which(cls.program) is not None


#--- icpgate -----------------------------------------------------------------------------------------------------------

class Gate(Server):
    """icpgate with a CSV, one row of which is changed by renaming another file over it."""

    name, change_is = "icpgate, CSV", "one row, file renamed over"

    def prepare(self):
        os.mkdir(self.path("registry"))
        self.files = table.write_csv(self.directory, self.count)
        os.link(self.files[0], self.path("registry/table.csv"))
        self.write("registry/events.changes.jsonl", "")
        self.write("ranges.csv", "prefix,region,provider\n203.0.113.0/24,mainland,self\n")
        self.write("icpgate.toml", f"""version = 1
[provider]
id = "self"
[registry]
paths = ["{self.path("registry")}"]
snapshot = "{self.path("registry.snap") if self.snapshot else ""}"
[ranges]
tags = ["{self.path("ranges.csv")}"]
[dns]
listen = ["127.0.0.1:{self.port}"]
[[dns.upstream]]
suffix = ""
servers = ["udp://127.0.0.1:{self.upstream}"]
""")

    def command(self):
        return [self.program, "serve", "--config", self.path("icpgate.toml")]

    def version(self):
        return version_of(self.program, "--version")

    def change(self):
        self.blocks = not self.blocks
        variant = self.files[self.blocks]
        # As if it had been written now.
        os.utime(variant)
        os.link(variant, self.path("registry/.new"))
        os.rename(self.path("registry/.new"), self.path("registry/table.csv"))
        return time.time()


class GateEvents(Gate):
    """icpgate with the same CSV and a changes file, to which one line is appended."""

    name, change_is = "icpgate, changes file", "one line appended"
    changed = table.APPENDED

    def change(self):
        self.blocks = not self.blocks
        event = "cancel-access" if self.blocks else "add-access"
        line = json.dumps({"seq": self.serial, "event": event, "domain": self.changed, "provider": "self"}) + "\n"
        self.serial += 1
        with open(self.path("registry/events.changes.jsonl"), "a") as file:
            file.write(line)
        return time.time()


#--- Peers -------------------------------------------------------------------------------------------------------------

class Peer(Server):
    """A resolver with a response policy zone."""

    change_is = "one name, zone file renamed over, reload"

    def prepare(self):
        table.write_rpz_body(self.path("body"), self.count)
        table.write_rpz(self.path("rpz.zone"), self.path("body"), self.serial, blocks=False)
        self.configure()

    def change(self):
        self.blocks = not self.blocks
        self.serial += 1
        table.write_rpz(self.path("rpz.zone"), self.path("body"), self.serial, self.blocks)
        written = time.time()
        self.reload()
        return written

    def ask_to_reload(self, *command):
        # In the background: some of them return only when the reload is over.
        self.reloading = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.helpers.append(self.reloading)


class Unbound(Peer):
    name, program, package = "Unbound", "unbound", "unbound"

    def configure(self):
        self.write("unbound.conf", f"""server:
  interface: 127.0.0.1@{self.port}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{self.directory}"
  pidfile: ""
  use-syslog: no
  num-threads: 1
  so-rcvbuf: 4m
  msg-cache-size: 64m
  rrset-cache-size: 128m
  module-config: "respip iterator"
  do-not-query-localhost: no
  qname-minimisation: no
rpz:
  name: "rpz.local."
  zonefile: "{self.path("rpz.zone")}"
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{self.upstream}
remote-control:
  control-enable: yes
  control-interface: "{self.path("control")}"
  control-use-cert: no
""")

    def command(self):
        return [self.program, "-d", "-c", self.path("unbound.conf")]

    def version(self):
        return version_of(self.program, "-V")

    def reload(self):
        self.ask_to_reload("unbound-control", "-c", self.path("unbound.conf"), "reload")


class Bind(Peer):
    name, program, package = "BIND", "named", "bind9"

    def configure(self):
        self.control_port = free_port()
        key = 'key "reload" { algorithm hmac-sha256; secret "cmVsb2FkIGJlbmNoIG9mIGxvb3BiYWNrIG9ubHk="; };\n'
        self.write("rndc.conf", key + f"""options {{ default-key "reload"; default-server 127.0.0.1;
  default-port {self.control_port}; }};
""")
        self.write("named.conf", key + f"""options {{
  directory "{self.directory}"; pid-file none; session-keyfile none; managed-keys-directory "{self.directory}";
  listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion yes; allow-recursion {{ 127.0.0.1; }}; dnssec-validation no; minimal-responses yes;
  forward only; forwarders {{ 127.0.0.1 port {self.upstream}; }};
  response-policy {{ zone "rpz.local" min-update-interval 0; }};
}};
controls {{ inet 127.0.0.1 port {self.control_port} allow {{ 127.0.0.1; }} keys {{ "reload"; }}; }};
zone "rpz.local" {{ type primary; file "{self.path("rpz.zone")}"; allow-query {{ none; }}; }};
""")

    def command(self):
        return [self.program, "-g", "-n", "1", "-c", self.path("named.conf")]

    def version(self):
        return version_of(self.program, "-v")

    def reload(self):
        self.ask_to_reload("rndc", "-c", self.path("rndc.conf"), "reload", "rpz.local")


class PowerDns(Peer):
    name, program, package = "PowerDNS Recursor", "pdns_recursor", "pdns-recursor"

    def configure(self):
        self.write("rpz.lua", f'rpzFile("{self.path("rpz.zone")}", {{policyName="rpz.local"}})\n')
        self.write("recursor.conf", f"""local-address=127.0.0.1
local-port={self.port}
socket-dir={self.directory}
lua-config-file={self.path("rpz.lua")}
forward-zones-recurse=.=127.0.0.1:{self.upstream}
dont-query=
dnssec=off
threads=1
pdns-distributes-queries=no
daemon=no
write-pid=no
security-poll-suffix=
setuid=
setgid=
""")

    def command(self):
        return [self.program, f"--config-dir={self.directory}"]

    def version(self):
        return version_of(self.program, "--version")

    def reload(self):
        self.ask_to_reload("rec_control", f"--config-dir={self.directory}", f"--socket-dir={self.directory}",
                           "reload-lua-config")


class Knot(Peer):
    name, program, package = "Knot Resolver", "kresd", "knot-resolver lua-cqueues"
    change_is = "one name, zone file renamed over, watched"

    def configure(self):
        self.write("kresd.conf", f"""net.listen('127.0.0.1', {self.port}, {{ kind = 'dns' }})
trust_anchors.remove('.')
cache.size = 200 * MB
local ask = policy.STUB({{ '127.0.0.1@{self.upstream}' }})
local listed = policy.rpz(policy.DENY, '{self.path("rpz.zone")}', true)
-- A name that is let through must still be asked of the resolver behind.
policy.add(function (request, query)
    local action = listed(request, query)
    if action == policy.PASS then return ask end
    return action
end)
policy.add(policy.all(ask))
""")

    def command(self):
        return [self.program, "-n", "-c", self.path("kresd.conf"), self.directory]

    def version(self):
        return version_of(self.program, "--version")

    def reload(self):
        """It watches the zone file itself."""


PEERS = (Unbound, Bind, PowerDns, Knot)
