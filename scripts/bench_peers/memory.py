"""Peak memory of the commands, the time to start, the size of the binary."""

from databases import NAME
from report import Row
from tools import Sandbox, binary, fail, median, peak_memory, run, say, seconds_text

LIMIT, SLACK = 64, 16
STEPS = (["assets", "upsert"], ["prices", "insert"])
SIZES = (17_600, 1_000_000)


def measure(databases, rounds):
    peaks, rows = {}, []
    for coins in SIZES:
        with Sandbox(coins) as sandbox:
            env = {"COINGECKO_API_URL": sandbox.url, "COINETL_CALLS_PER_MINUTE": "0"}
            for database in databases:
                database.drop(NAME)
                url = ["--database-url", database.url(NAME)]
                run([binary("coinetl"), "db-setup", *url])
                for step in STEPS:
                    _, seconds, mib = peak_memory([binary("coinetl"), *step, "--output", "json", *url], env)
                    peaks[database.title, coins, step[0]] = mib, seconds
                    say(f"{database.title}, {coins:,} coins, {' '.join(step)}: {mib:.1f} MiB, {seconds:.1f} s")
                database.drop(NAME)
    few, many = SIZES
    for database in databases:
        for step in STEPS:
            small, large = (peaks[database.title, coins, step[0]] for coins in SIZES)
            what = f"{database.title}: peak of `{' '.join(step)}`"
            rows.append(Row(f"{what}, {few:,} coins", f"{small[0]:.1f} MiB", target=f"≤ {LIMIT} MiB",
                            met=small[0] <= LIMIT))
            rows.append(Row(f"{what}, {many:,} coins", f"{large[0]:.1f} MiB in {large[1]:.0f} s",
                            target=f"≤ {LIMIT + SLACK} MiB", met=large[0] <= LIMIT + SLACK))
    starts = [run([binary("coinetl"), "--version"])[1] for _ in range(21)][1:]
    rows.append(Row("`coinetl --version`", seconds_text(median(starts)), target="≤ 10 ms", met=median(starts) <= 0.01))
    size = binary("coinetl").stat().st_size / 1e6
    rows.append(Row("the binary, all three databases built in", f"{size:.1f} MB"))
    return FACTS, rows


FACTS = """\
The largest resident set that the kernel noted for the process, one run each, new database, `coinetl sandbox` in a process
of its own without a rate limit. The time of `--version` includes starting the process from Python."""
