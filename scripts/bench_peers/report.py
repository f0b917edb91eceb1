"""Tables in Markdown, on stdout and in docs/BENCHMARKS.md, where the words between them are ours."""

import re

from tools import REPO, say

FILE = REPO / "docs/BENCHMARKS.md"
HEAD = ("what", "coinetl", "peer", "ratio", "target", "met?")


class Row:
    """`met` is None where nothing was promised."""

    def __init__(self, what, ours, peer="", ratio=None, target="", met=None):
        verdict = {None: "", True: "yes", False: "**no**"}[met]
        ratio = "" if ratio is None else f"{ratio:.2f} ×"
        self.cells = (what, ours, peer, ratio, target, verdict)
        # At once: what comes later may take long, and be ended.
        say("| " + " | ".join(self.cells) + " |")


def table(rows):
    lines = [HEAD, ("---",) * len(HEAD), *(row.cells for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def publish(section, facts, rows, keep):
    """Shows a section, and replaces it between its markers on the page; the words around it stay."""
    text = "\n".join([facts, "", table(rows)])
    print(f"\n{text}\n", flush=True)
    if not keep:
        return
    begin, end = f"<!-- scripts/bench {section}: begin -->", f"<!-- scripts/bench {section}: end -->"
    page = FILE.read_text() if FILE.exists() else "# Benchmarks\n"
    block = f"{begin}\n{text}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        page = pattern.sub(lambda _: block, page)
    else:
        page += f"\n{block}\n"
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(page)
