"""How soon a real browser shows the dashboard with 17,600 coins, and what the page weighs."""

import gzip
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request

from databases import NAME, Sqlite
from report import Row
from tools import WORK, Sandbox, binary, fail, median, run, say

COINS = 17_600
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def call(address, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["value"]


def first_paint(driver, url):
    """Milliseconds from asking for the page to its first content, in a browser that never saw it."""
    with tempfile.TemporaryDirectory() as profile:
        options = {"args": [*FLAGS, f"--user-data-dir={profile}", "--window-size=1440,1000"],
                   "binary": shutil.which("chromium")}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        session = call(driver, "/session", wanted)["sessionId"]
        try:
            call(driver, f"/session/{session}/url", {"url": url})
            script = "return performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)[0] || null"
            for _ in range(100):
                painted = call(driver, f"/session/{session}/execute/sync", {"script": script, "args": []})
                if painted is not None:
                    return painted
                time.sleep(0.05)
            fail("the browser painted nothing")
        finally:
            urllib.request.urlopen(urllib.request.Request(f"http://{driver}/session/{session}", method="DELETE"))


def weight(address):
    """Bytes of the page, its style and its script, as they are and as they travel."""
    page = urllib.request.urlopen(f"http://{address}/").read()
    parts = [page]
    for path in sorted(set(re.findall(rb'(?:href|src)="(/static/[^"]+)"', page))):
        parts.append(urllib.request.urlopen(f"http://{address}{path.decode()}").read())
    return sum(map(len, parts)), sum(len(gzip.compress(part, 1)) for part in parts)


def measure(rounds):
    if not shutil.which("chromedriver") or not shutil.which("chromium"):
        say("no chromium, no chromedriver: first paint is not measured")
        return []
    database = Sqlite()
    database.drop(NAME)
    with Sandbox(COINS) as sandbox:
        env = {"DATABASE_URL": database.url(NAME), "COINGECKO_API_URL": sandbox.url, "COINETL_CALLS_PER_MINUTE": "0"}
        for command in (["db-setup"], ["assets", "upsert"], ["prices", "insert"]):
            run([binary("coinetl"), *command, "--quiet"], env)
    server = subprocess.Popen([binary("coinetl"), "serve", "--bind", "127.0.0.1:0", "--database-url", database.url(NAME)],
                              cwd=WORK, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = re.search(r"http://(\S+)", server.stdout.readline()).group(1)
        port = next(found.group(1) for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        plain, packed = weight(address)
        # The first browser of all reads its own programs from the disk.
        first_paint(f"127.0.0.1:{port}", f"http://{address}/healthz")
        painted = [first_paint(f"127.0.0.1:{port}", f"http://{address}/") for _ in range(max(rounds, 3))]
    finally:
        server.terminate()
        driver.terminate()
        server.wait()
        driver.wait()
    return [
        Row(f"first paint of the dashboard, {COINS:,} coins, headless Chromium", f"{median(painted):.0f} ms", target="< 1 s",
            met=median(painted) < 1000),
        Row("weight of that page with style and script", f"{plain / 1024:.0f} KiB, packed {packed / 1024:.0f} KiB"),
    ]
