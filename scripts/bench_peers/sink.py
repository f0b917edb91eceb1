"""A million rows through the price sink and through the database's own loader."""

import json

from databases import NAME
from report import Row
from tools import DATA, binary, fail, median, run, say, settle, spread

COINS, ROWS = 17_858, 1_000_000
# Five whole snapshots: by the size of a row about 20 MB, and as much again encoded, which should
# fit the memory promise. `prices insert` itself writes far smaller groups: see PAGES_GROUP, whose
# figures stand in the same table.
GROUP = 5 * COINS
# The most that `prices insert` writes in one transaction: 16 pages of 250.
PAGES_GROUP = 4_000
TARGETS = {"SQLite": (1.5, 1.5), "PostgreSQL": (1.0, 0.5), "MariaDB": (0.9, 0.6)}


def prepare(database):
    database.drop(NAME)
    run([binary("price_sink"), "prepare", database.url(NAME), COINS])


def store(database, number, group=GROUP):
    """One pass through the sink; what it says it did must be what there was to do."""
    settle()
    database.prepare_server()
    told = json.loads(run([binary("price_sink"), "store", database.url(NAME), group, COINS, ROWS, number])[0])
    wanted = {"new": ROWS, "updated": 0} if number == 1 else {"new": 0, "updated": ROWS}
    if any(told[name] != count for name, count in wanted.items()) or told["unchanged"]:
        fail(f"{database.title}: the sink counted {told} in pass {number}")
    check(database, number)
    return told["seconds"]


def load(database, number, how):
    settle()
    database.prepare_server()
    seconds = how(NAME, file_of(database, number))
    check(database, number)
    return seconds


def check(database, number):
    """Every value of every row against the generator's; the doubles that are off by their last bit."""
    out = run([binary("price_sink"), "check", database.url(NAME), COINS, ROWS, number])[0]
    off = json.loads(out)["last_bit_off"]
    if off:
        say(f"{database.title}: {off} doubles differ in their last bit")


def file_of(database, number):
    return DATA / f"{number}-{'empty' if database.null == '' else 'null'}.tsv"


def measure(databases, rounds):
    DATA.mkdir(exist_ok=True)
    for database in databases:
        for number in (1, 2):
            file = file_of(database, number)
            if not file.exists():
                run([binary("price_sink"), "write", file, database.null, COINS, ROWS, number])
    rows = []
    for database in databases:
        ours, peer, plain, pages = ([], []), ([], []), [], ([], [])
        for turn in range(rounds):
            prepare(database)
            for number in (1, 2):
                ours[number - 1].append(store(database, number))
            prepare(database)
            peer[0].append(load(database, 1, database.load))
            peer[1].append(load(database, 2, database.merge))
            say(f"{database.title} {turn + 1}/{rounds}: sink {ours[0][-1]:.2f} and {ours[1][-1]:.2f} s, "
                f"loader {peer[0][-1]:.2f} and {peer[1][-1]:.2f} s")
        prepare(database)
        for number in (1, 2):
            pages[number - 1].append(store(database, number, PAGES_GROUP))
        database.drop(NAME)
        rows += rows_of(database, ours, peer, pages)
    for file in DATA.glob("*.tsv"):
        file.unlink()
    return FACTS, rows


def rows_of(database, ours, peer, pages):
    names = ("into an empty range", "onto existing keys, all numbers changed")
    loaders = (database.loader, database.merger)
    rows = []
    for at in (0, 1):
        ratio, target = median(peer[at]) / median(ours[at]), TARGETS[database.title][at]
        rows.append(
            Row(
                f"{database.title}: {names[at]}",
                f"{spread(ours[at])}, {ROWS / median(ours[at]) / 1000:.0f} k rows/s",
                f"{spread(peer[at])}, `{loaders[at]}`",
                ratio,
                f"≥ {target} ×",
                ratio >= target,
            )
        )
    plain = median(peer[0]) / median(ours[1])
    rows.append(Row(f"{database.title}: onto existing keys, against the loader's figure for an empty range",
                    spread(ours[1]), spread(peer[0]), plain))
    rows.append(Row(f"{database.title}: as `prices insert` writes at most, {PAGES_GROUP:,} rows a transaction",
                    f"{spread(pages[0])} empty, {spread(pages[1])} existing"))
    return rows


FACTS = f"""\
{ROWS:,} rows, {-(-ROWS // COINS)} snapshots of {COINS:,} coins in snapshot order, 15 columns, three indexes, the key, the
foreign key; each database's default durability. The sink: `Session::batch` with {GROUP:,} rows (five snapshots) a
transaction, each with the lease's proof and the run's counts; from opening the connection to closing it. The loader: its
whole process. Runs interleaved; median (fastest … slowest). After each run every value of every row is compared with the
one it was made from."""
