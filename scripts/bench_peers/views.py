"""The view latest_prices over ten million prices."""

from databases import NAME
from report import Row
from tools import binary, median, run, say, spread

COINS, ROWS, GROUP = 17_858, 10_000_000, 5 * 17_858
LIMIT = 0.5


def measure(databases, rounds):
    rows = []
    for database in databases:
        database.drop(NAME)
        run([binary("price_sink"), "prepare", database.url(NAME), COINS])
        _, seconds = run([binary("price_sink"), "store", database.url(NAME), GROUP, COINS, ROWS, 1])
        say(f"{database.title}: {ROWS:,} prices stored in {seconds:.0f} s")
        for view in ("latest_prices", "cap_top_10"):
            times = [database.query(NAME, f"SELECT * FROM {view}", discard=True)[1] for _ in range(rounds + 1)][1:]
            met = median(times) < LIMIT
            rows.append(Row(f"{database.title}: `SELECT * FROM {view}`", spread(times), target=f"< {LIMIT} s", met=met))
        database.drop(NAME)
    return FACTS, rows


FACTS = f"""\
{ROWS:,} prices of {COINS:,} coins, {ROWS // COINS} snapshots, stored by the price sink. All columns of all rows of the view through the
database's own client, its start included; the first run, which warms the caches, is left out."""
