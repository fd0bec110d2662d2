"""The tables: N names, the same for every server, made up the same way on every machine."""

import os
import shutil

# The row that changes, and the one that events are appended for.
CHANGED, APPENDED = "zz-changed.com", "zz-appended.com"
ENDINGS = ("com", "cn", "com.cn", "net")
ROWS_AT_A_TIME = 100_000


def domain(n):
    """Name n: some fifteen octets, unlike its neighbours, unlike all others (an odd factor modulo a power of two)."""
    return f"{n * 0x9E3779B97F4A7C15 % (1 << 36):09x}.{ENDINGS[n % 4]}"


def domains(count):
    """All names of a table of `count`, in its order: the two that change stand in the middle."""
    for n in range(count):
        yield CHANGED if n == count // 2 else APPENDED if n == count // 2 + 1 else domain(n)


def row(n, name, access):
    number = f"京ICP备2021{n % 999_999 + 1:06}号"
    return f"{name},{number},{number}-{n // 999_999 + 1},企业,京,{access},2021-03-04,2024-05-06,2029-07-08\n"


def write_csv(directory, count):
    """Two tables that differ in one row of the middle: gives the paths of the one that allows and the one that blocks."""
    allows, blocks = os.path.join(directory, "allows"), os.path.join(directory, "blocks")
    with open(allows, "w", buffering=1 << 20, encoding="utf-8") as file:
        file.write("domain,subject_no,site_no,subject_type,province,access,filed_on,updated_on,expires_on\n")
        rows, before, after = [], 0, 0
        for n, name in enumerate(domains(count)):
            if name == CHANGED:
                file.write("".join(rows))
                rows, before = [], file.tell()
                file.write(row(n, name, "self"))
                after = file.tell()
                continue
            # Every name is ours, so that any of them may be asked and passes.
            rows.append(row(n, name, ("self", "p001;self", "self;p002", "self")[n % 4]))
            if len(rows) == ROWS_AT_A_TIME:
                file.write("".join(rows))
                rows = []
        file.write("".join(rows))
    with open(allows, "rb") as source, open(blocks, "wb") as file:
        copy(source, file, before)
        # Longer than it was: everything behind it moves.
        file.write(row(count // 2, CHANGED, "p00123").encode())
        source.seek(after)
        shutil.copyfileobj(source, file, 1 << 20)
    return allows, blocks


def copy(source, file, octets):
    while octets:
        piece = source.read(min(octets, 1 << 20))
        file.write(piece)
        octets -= len(piece)


def write_rpz_body(path, count):
    """The same names as a response policy zone that passes each, without the changed one and without a head."""
    with open(path, "w", buffering=1 << 20) as file:
        lines = []
        for name in domains(count):
            if name != CHANGED:
                lines.append(f"{name} CNAME rpz-passthru.\n")
            if len(lines) == ROWS_AT_A_TIME:
                file.write("".join(lines))
                lines = []
        file.write("".join(lines))


def write_rpz(path, body, serial, blocks):
    """A whole zone beside `path`, renamed over it."""
    action = "A 127.0.0.1" if blocks else "CNAME rpz-passthru."
    with open(path + ".new", "wb") as file, open(body, "rb") as source:
        file.write(
            f"$TTL 300\n@ SOA localhost. root.localhost. {serial} 3600 600 86400 300\n@ NS localhost.\n"
            f"{CHANGED} {action}\n*.{CHANGED} {action}\n".encode()
        )
        shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".new", path)


def write_queries(path, count):
    """10,000 questions: 70 % for names of the table, 10 % for others in the mainland, 20 % for others elsewhere."""
    with open(path, "w") as file:
        for i in range(10_000):
            if i % 10 < 7:
                name = "www." + domain(i * 7_368_787 % count)
                # The two that change stand where these would.
            elif i % 10 == 7:
                name = f"www.no-{domain(i)}"
            else:
                name = f"www.far-{domain(i)}"
            file.write(f"{name} A\n")
