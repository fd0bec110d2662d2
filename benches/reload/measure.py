"""One change under load: the probe, the load with its latencies by time, memory and processor time of the server."""

import contextlib
import os
import random
import select
import signal
import socket
import struct
import subprocess
import time

BLOCKED = "127.0.0.1"
# Seconds between two looks of the probe, each at a cached and at a fresh name.
LOOK_AGAIN = 0.004
# Seconds between two time marks in the load's output.
SLICE = 0.02
# Seconds of load before the change that are compared with those of the change; the first is not looked at.
BEFORE = 4.0
# Seconds after the first changed answer for a fresh name in which the cached one has to follow.
CACHED_AFTER_MAX = 10.0
# The least time after the write that counts as "during": short changes have too few questions for a percentile.
DURING_MIN = 0.5
# Seconds after which a question is lost; a stub resolver has asked again by then.
LOST_AFTER = 3
# Seconds after the change in which what it leaves to be done shows in memory and processor time, and losses are seen.
AFTER = LOST_AFTER + 0.5


#--- Questions ---------------------------------------------------------------------------------------------------------

def question(name, number):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def address(answer):
    """The last address of an answer, or its rcode."""
    rcode, count = answer[3] & 15, struct.unpack("!H", answer[6:8])[0]
    if rcode or not count:
        return f"rcode {rcode}"
    # The section of answers is the last one: no server here adds others to it, but for an OPT nobody asked for.
    at = 12
    while answer[at]:
        at += answer[at] + 1
    at += 5
    for _ in range(count):
        while answer[at] and answer[at] < 0xC0:
            at += answer[at] + 1
        at += 2 if answer[at] else 1
        kind, _, _, length = struct.unpack("!HHIH", answer[at : at + 10])
        at += 10
        if kind == 1:
            return socket.inet_ntoa(answer[at : at + 4])
        at += length
    return "no address"


class Probe:
    """Asks two names of the changed domain every few milliseconds: one that is cached, and each time a new one."""

    def __init__(self, port, domain):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.cached, self.domain = domain, domain
        self.number, self.sent = 0, {}

    def close(self):
        self.socket.close()

    def ask(self, kind):
        self.number = (self.number + 1) % 65536
        fresh = f"p{self.number}-{random.randrange(1 << 32):x}.{self.domain}"
        self.sent[self.number] = kind
        with contextlib.suppress(OSError):
            self.socket.send(question(self.cached if kind == "cached" else fresh, self.number))

    def answers(self, until):
        """Pairs of kind and whether it is blocked that arrive before `until`."""
        while (left := until - time.time()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return
            try:
                answer = self.socket.recv(4096)
            except OSError:
                time.sleep(min(left, LOOK_AGAIN))
                continue
            kind = self.sent.pop(struct.unpack("!H", answer[:2])[0], None)
            found = address(answer)
            if kind and not found.startswith("rcode"):
                yield kind, found == BLOCKED

    def right(self, patience, blocks):
        """The kinds of name that are answered as they should be within `patience` seconds."""
        deadline, right = time.time() + patience, set()
        while time.time() < deadline and len(right) < 2:
            self.ask("cached"), self.ask("fresh")
            for kind, is_blocked in self.answers(time.time() + 0.1):
                right.add(kind) if is_blocked == blocks else right.discard(kind)
        return right

    def follow(self, written, patience, blocks):
        """Seconds from the write to the first changed answer of each kind, and wrong answers after it."""
        res, wrong = {}, 0
        while time.time() < written + patience and len(res) < 2:
            if "fresh" in res and time.time() > written + res["fresh"] + CACHED_AFTER_MAX:
                break
            self.ask("cached"), self.ask("fresh")
            for kind, is_blocked in self.answers(time.time() + LOOK_AGAIN):
                if is_blocked == blocks:
                    res.setdefault(kind, time.time() - written)
                else:
                    wrong += kind in res
        return res, wrong


#--- Load --------------------------------------------------------------------------------------------------------------

class Load:
    """dnsperf at a fixed rate. It tells every answer's latency and, between them, the time."""

    def __init__(self, port, queries, rate, seconds_max, output, pin):
        command = ["dnsperf", "-s", "127.0.0.1", "-p", port, "-d", queries, "-Q", rate, "-l", seconds_max, "-t", LOST_AFTER]
        # More outstanding than a stall of seconds leaves: the rate must not follow the server.
        command += ["-c", 4, "-q", min(65000 * 4, max(1000, rate * 5)), "-b", 4096, "-S", SLICE, "-v"]
        self.output = output
        with open(output, "w") as file:
            self.process = subprocess.Popen([*pin, *map(str, command)], stdout=file, stderr=subprocess.DEVNULL)

    def end(self):
        """Ends the load in good order and gives what it told."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=30)
        return Told(self.output)


class Told:
    """What a load told: latencies in slices of time, and its sums."""

    def __init__(self, output):
        self.slices, self.sent, self.lost, self.others = [], 0, 0, {}
        latencies = []
        with open(output) as file:
            for line in file:
                if line.startswith("> "):
                    words = line.split()
                    # A question given up (T) or cut off by the end (I) has no latency.
                    if len(words) == 5:
                        latencies.append(float(words[4]))
                    else:
                        self.others[words[1]] = self.others.get(words[1], 0) + 1
                elif line[:1].isdigit() and ": " in line:
                    self.slices.append((float(line.split(":")[0]), latencies))
                    latencies = []
                elif "Queries sent:" in line:
                    self.sent = int(line.split()[-1])
                elif "Queries lost:" in line:
                    self.lost = int(line.split()[2])

    def between(self, begin, end):
        """Latencies of the answers that came between two times, sorted."""
        return sorted(each for at, latencies in self.slices if begin < at <= end for each in latencies)


def percentile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


#--- The server's process ----------------------------------------------------------------------------------------------

def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid, what="VmRSS"):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(what))


def forget_peak(pid):
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


#--- One change --------------------------------------------------------------------------------------------------------

def change_under_load(server, pid, settings):
    """Changes one row under load and gives the figures of that run; `None` for what could not be measured."""
    probe = Probe(server.port, server.changed)
    load = Load(server.port, settings.queries, settings.rate, BEFORE + settings.patience + AFTER + 5,
                settings.output, settings.pin_load)
    try:
        time.sleep(1.0)
        begun, cpu_begun = time.time(), processor_seconds(pid)
        # The cached name is cached from here on, with the verdict of before.
        right = probe.right(2.0, server.blocks)
        time.sleep(max(0.0, begun + BEFORE - 1.0 - time.time()))
        forget_peak(pid)
        resident = resident_mib(pid)
        before, cpu_before = time.time(), processor_seconds(pid)
        written = server.change()
        cpu_written = processor_seconds(pid)
        changed, wrong = probe.follow(written, settings.patience, server.blocks)
        ended = written + max([DURING_MIN, *changed.values()]) if changed else time.time()
        time.sleep(max(0.0, ended + AFTER - time.time()))
        after, cpu_after = time.time(), processor_seconds(pid)
        peak, resident_after = resident_mib(pid, "VmHWM"), resident_mib(pid)
    finally:
        told = load.end()
        probe.close()
    quiet, busy = told.between(begun, before), told.between(written, ended + 2 * SLICE)
    share = (cpu_before - cpu_begun) / (before - begun)
    return {
        "fresh": changed.get("fresh"),
        # A name that was still answered by the verdict before the last one shows no change.
        "cached": changed.get("cached") if "cached" in right else None,
        "wrong": wrong,
        "sent": told.sent,
        "lost": told.lost,
        "p50 before": percentile(quiet, 0.5),
        "p99 before": percentile(quiet, 0.99),
        "p50 during": percentile(busy, 0.5),
        "p99 during": percentile(busy, 0.99),
        "worst": busy[-1] if busy else None,
        "load cpu": share,
        "cpu": cpu_after - cpu_written - share * (after - written),
        "before": resident,
        "peak": peak,
        "after": resident_after,
    }
