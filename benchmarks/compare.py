"""tfsac beside its peers: python benchmarks/compare.py --sb3=PYTHON --sbx=PYTHON --tf_agents=PYTHON --policies=FOLDER

Each PYTHON is the interpreter of the environment that peers/requirements-*.txt describe; a peer not named is left out.
All processes are up at once and take turns, window by window, on one core and then on two: Reacher-v5 from end to end
and gradient steps alone; with --policies, the directory of a `tfsac.export`, also predictions, those of its artefacts
among them. Writes compare.csv or --out (threads, what, peer, window, value), prints tables of medians and ratios. For a
quiet machine: 20 minutes.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
OURS = "tfsac"
WINDOWS, TRAIN_STEPS, UPDATES = 15, 240, 120
CALLS = {1: 1_000, 1_024: 20}  # predictions a window by batch size
ARTEFACTS = ("policy.tflite", "policy_float16.tflite", "policy_dynamic.tflite", "policy_int8.tflite", "saved_model")
# What a value is, by the first word of `what`.
UNITS = {
    "train": "steps/s",
    "update": "updates/s",
    "predict": "us a call",
    "first_update": "s from start to first update",
}


class Peer:
    """A process that trains when it is told to; see peers/peer.py for what it understands."""

    def __init__(self, python, script, threads, block):
        command = [python, HERE / "peers" / script, "serve", "--env_id=Reacher-v5", f"--threads={threads}"]
        self._process = subprocess.Popen(
            [*command, f"--block={block}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        self.first_update = self._answer()["first_update_seconds"]

    def seconds(self, command):
        """How long the peer takes for this."""
        print(command, file=self._process.stdin, flush=True)
        return self._answer()["seconds"]

    def quit(self):
        """Ends the process."""
        print("quit", file=self._process.stdin, flush=True)
        self._process.wait(60)

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(map(str, self._process.args))} ended: run it by hand to see why")
        return json.loads(line)


def measure(pythons, threads, policies, write):
    """Starts every peer and lets them take turns; write(what, peer, window, value)."""
    peers = {}
    for name, python in pythons.items():
        for block in (1,) if name == "tf_agents" else (1, 8):
            peers[name, block] = Peer(python, f"{name}_peer.py", threads, block)
            write("first_update", label(name, block), 0, peers[name, block].first_update)
    for window in range(WINDOWS):
        for (name, block), peer in peers.items():
            write("train", label(name, block), window, TRAIN_STEPS / peer.seconds(f"train {TRAIN_STEPS}"))
        for (name, block), peer in peers.items():
            write("update", label(name, block), window, UPDATES / peer.seconds(f"update {UPDATES}"))
        for batch, calls in CALLS.items() if policies else ():
            for (name, block), peer in peers.items():
                if block == 1:
                    paths = ("", *(policies / x for x in ARTEFACTS if policies)) if name == OURS else ("",)
                    for path in paths:
                        took = peer.seconds(f"predict {batch} {calls} {path}")
                        who = f"{name}, {path.name}" if path else name
                        write(f"predict {batch}", who, window, took / calls * 1e6)
    for peer in peers.values():
        peer.quit()


def label(name, block):
    """How a peer is called in the tables."""
    return name if block == 1 else f"{name}, in blocks of {block}"


def table(rows):
    """Medians and what tfsac (in its blocks of 8, as it trains by default) is worth in peers, in Markdown."""
    values = {}
    for row in rows:
        values.setdefault((row["what"], row["threads"]), {}).setdefault(row["peer"], []).append(float(row["value"]))
    lines = []
    for (what, threads), peers in sorted(values.items()):
        ours = np.array(peers.get(label(OURS, 8), peers.get(OURS)))
        lines += [
            "",
            f"{what}, {UNITS[what.split()[0]]}, {threads} thread(s)",
            "",
            "| | median | tfsac's over it |",
            "|---|---|---|",
        ]
        for peer, found in peers.items():
            ratio = np.median(ours / np.array(found))  # window by window: the machine's speed drifts
            lines.append(f"| {peer} | {np.median(found):.4g} | {ratio:.2f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("sb3", "sbx", "tf_agents"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--policies", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "compare.csv")
    args = parser.parse_args()
    pythons = {OURS: sys.executable, "sb3": args.sb3, "sbx": args.sbx, "tf_agents": args.tf_agents}
    pythons = {name: python for name, python in pythons.items() if python}
    rows = []
    with open(args.out, "w", newline="") as file:
        writer = csv.DictWriter(file, ["threads", "what", "peer", "window", "value"], lineterminator="\n")
        writer.writeheader()
        for threads in (1, 2):

            def write(what, peer, window, value, threads=threads):
                row = {"threads": threads, "what": what, "peer": peer, "window": window, "value": f"{value:.5g}"}
                rows.append(row)
                writer.writerow(row)
                file.flush()

            measure(pythons, threads, args.policies, write)
    print(table(rows))


if __name__ == "__main__":
    main()
