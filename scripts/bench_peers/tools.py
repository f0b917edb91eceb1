"""What every part of the benchmark needs: running programs, medians, the two binaries."""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
# On the repository's disk, where the servers' folders are too; it ignores itself in git.
WORK = REPO / ".bench"
DATA = WORK / "data"
HERE = Path(__file__).resolve().parent


def say(text):
    print(f"scripts/bench: {text}", file=sys.stderr, flush=True)


def fail(text):
    say(text)
    sys.exit(1)


def run(command, env=None, stdin=None, discard=False):
    """Runs a program to its end; its stdout, and how long it took. Any failure ends the benchmark."""
    started = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=WORK,
        env={**os.environ, **(env or {})},
        input=stdin,
        stdout=subprocess.DEVNULL if discard else subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        fail(f"exit {done.returncode} of {' '.join(map(str, command))}\n{done.stdout or ''}{done.stderr}")
    return done.stdout, seconds


def peak_memory(command, env=None):
    """Runs a program; its stdout, seconds and largest resident set in MiB."""
    started = time.perf_counter()
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=WORK,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        out = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    # A child starts with its parent's figure, so the parent must be the smaller one.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if child.returncode not in (0, 3):
        fail(f"exit {child.returncode} of {' '.join(map(str, command))}\n{out}")
    mib = usage.ru_maxrss / 1024
    if usage.ru_maxrss <= own:
        fail(f"the peak of {command[0]} is not known: it is not above this script's own {own / 1024:.0f} MiB")
    return out, time.perf_counter() - started, mib


class Sandbox:
    """`coinetl sandbox` in a process of its own."""

    def __init__(self, assets, at="2026-09-16T10:14:20Z"):
        self.process = subprocess.Popen(
            [binary("coinetl"), "sandbox", "--bind", "127.0.0.1:0", "--assets", str(assets), "--seed", "7"]
            + ["--at", at, "--speed", "0"],
            cwd=WORK,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        told = re.search(r"COINGECKO_API_URL=([^\s)]+)", self.process.stdout.readline())
        if not told:
            self.process.kill()
            fail("the sandbox does not start")
        self.url = told.group(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def binary(name):
    return WORK / "bin" / name


def build():
    """Builds the binary and the driver, and keeps copies: cargo may replace its own at any time."""
    command = ["cargo", "build", "--release", "--locked", "--features", "full", "--bin", "coinetl"]
    command += ["--bench", "price_sink", "--bench", "quote_stream", "--bench", "http_load", "--message-format", "json-render-diagnostics"]
    say(" ".join(command[:7]) + " …")
    done = subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        fail("the build failed")
    binary("coinetl").parent.mkdir(exist_ok=True)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            copy = binary(message["target"]["name"])
            copy.unlink(missing_ok=True)
            copy.write_bytes(Path(message["executable"]).read_bytes())
            copy.chmod(0o755)


def python_peer():
    """The interpreter of a virtual environment with the peers' libraries."""
    python, wanted = WORK / "venv/bin/python", HERE / "requirements.txt"
    stamp = WORK / "venv/requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        say("making a virtual environment for the Python peers")
        run([sys.executable, "-m", "venv", WORK / "venv"])
        run([python, "-m", "pip", "install", "--quiet", "--requirement", wanted])
        stamp.write_text(wanted.read_text())
    return python


def median(figures):
    return statistics.median(figures)


def settle():
    """Lets the disk finish what the step before left to it, so that each step pays for itself."""
    os.sync()
    time.sleep(1)


def seconds_text(value):
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def spread(figures):
    """The median, and the extremes where there are any."""
    if len(figures) == 1:
        return seconds_text(figures[0])
    return f"{seconds_text(median(figures))} ({seconds_text(min(figures))} … {seconds_text(max(figures))})"
