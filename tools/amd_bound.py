#!/usr/bin/env python3
"""Bounds of a step of gpt-oss-20b's shape on an AMD card, from what the simulated card counts: not measurements.

    tools/amd_bound.py [--arch gfx90a] [--terms 2] [--experts mxfp4|fp16] [ROWS ...]    (docs/AMDSIM.md; default 1 32 512 1870)

Each product and attention runs a few blocks of its real size (tools/amd_bound.cpp) with AMDSIM_REPORT. The cycles of
each unit are scaled to the blocks of a step and divided by the compute units that so many blocks fill; bytes are those
that a launch must move, by the form of the weights: --experts' for w_mlp1 and w_mlp2 (default mxfp4), FP16 for the others.
The largest time is the launch's bound. The rest of a step is not in it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ["w_qkv", "attention_window", "attention_all", "w_o", "router", "w_mlp1", "w_mlp2", "w_out"]
UNITS = ["memory", "matrix", "valu", "lds", "salu"]


class Bound:
    """One kernel of a step: seconds of each unit, share of the matrix peak, and how it uses memory and LDS."""

    def __init__(self, program, options, kernel, rows, folder):
        report = Path(folder) / "report.json"
        environment = {**os.environ, "LD_LIBRARY_PATH": str(ROOT / "build/amdsim"), "AMDSIM": options.arch,
                       "AMDSIM_REPORT": str(report)}
        form = [options.experts] if kernel.startswith("w_mlp") else []
        done = subprocess.run([program, kernel, str(rows), str(options.terms), *form], env=environment, capture_output=True,
                              text=True)
        if done.returncode:
            sys.exit(done.stderr)
        launches, blocks, moved, flops = map(int, done.stdout.split())
        counted = json.loads(report.read_text())
        (card,) = counted["cards"].values()
        (counts,) = (each for each in counted["kernels"] if "merge" not in each["kernel"])
        scale = blocks / counts["groups"]
        busy = min(counts["groups"], card["compute_units"]) / min(blocks, card["compute_units"])
        self.seconds = {unit: launches * scale * busy * counts["bound_seconds"][unit] for unit in UNITS[1:]}
        self.seconds["memory"] = launches * (moved or scale * counts["footprint_bytes"]) / card["bytes_a_second"]
        self.by = max(UNITS, key=self.seconds.get)
        self.most = self.seconds[self.by]
        self.of_peak = launches * flops / card["fp16_matrix_flops"] / self.most
        self.conflicts = counts["lds_conflict_cycles"] / max(1, counts["lds_cycles"])
        self.segments = 64 * counts["segments_64"] / (counts["global_bytes_read"] + counts["global_bytes_written"])

    def summary(self):
        return f"{1e3 * self.most:.2f} {self.by}" + (f", {100 * self.of_peak:.0f} %" if self.by == "matrix" else "")

    def details(self):
        shares = [f"{100 * self.seconds[unit] / self.most:.0f} %" for unit in UNITS]
        return [f"{1e3 * self.most:.2f}", *shares, f"{100 * self.conflicts:.0f} %", f"{self.segments:.2f}"]


def table(*rows):
    for i, row in enumerate(rows):
        print("| " + " | ".join(row) + " |")
        if i == 0:
            print("|" + " --- |" * len(row))


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].strip())
    parser.add_argument("--arch", default="gfx90a")
    parser.add_argument("--terms", type=int, default=2)
    parser.add_argument("--experts", choices=["mxfp4", "fp16"], default="mxfp4")
    parser.add_argument("rows", nargs="*", type=int, default=[1, 32, 512, 1870])
    options = parser.parse_args()
    program = ROOT / f"build/amdsim/amd_bound-{options.arch}"
    subprocess.run(["make", "-s", "amdsim"], cwd=ROOT, check=True)
    subprocess.run(["tools/clang_hip.sh", options.arch, "--std=c++17", "-O3", "tools/amd_bound.cpp", "-o", program],
                   cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        bounds = {rows: {kernel: Bound(program, options, kernel, rows, folder) for kernel in KERNELS}
                  for rows in options.rows}
    totals = {rows: sum(each.most for each in kernels.values()) for rows, kernels in bounds.items()}
    print(f"Milliseconds a step at least, and by which unit (matrix: share of the peak that is asked for); experts in "
          f"{options.experts.upper()}\n")
    table(["rows", *map(str, bounds)], *([kernel, *(of_rows[kernel].summary() for of_rows in bounds.values())]
                                         for kernel in KERNELS),
          ["together", *(f"{1e3 * total:.1f}" for total in totals.values())],
          ["tok/s at most", *(f"{rows / total:,.0f}" for rows, total in totals.items())])
    for rows, kernels in bounds.items():
        print(f"\n{rows} rows: units as shares of the bound; LDS cycles lost to conflicts; bytes of 64-byte segments that "
              "are touched, by bytes asked for\n")
        table(["kernel", "ms", *UNITS, "conflicts", "segments"],
              *([kernel, *each.details()] for kernel, each in kernels.items()))


if __name__ == "__main__":
    main()
