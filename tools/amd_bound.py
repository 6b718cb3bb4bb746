#!/usr/bin/env python3
"""Bounds of a step of gpt-oss-20b's shape on an AMD card, from what the simulated card counts: not measurements.

tools/amd_bound.py [ARCH] [ROWS ...]     (default: gfx90a, an MI250's GCD; 1 32 512 1870)

Each kernel runs a few blocks of its real size (tools/amd_bound.cpp) with AMDSIM_REPORT (docs/AMDSIM.md). Cycles of each
unit are scaled to the blocks of a step and divided by the compute units that so many blocks fill; bytes are what a
launch must move. The largest is the launch's bound. Prints the kernels, most time first, as Markdown.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ["w_qkv", "w_o", "router", "w_mlp1", "w_mlp2", "w_out", "attention, window", "attention, all", "rmsnorm",
           "split_terms, hidden", "split_terms, attention", "split_terms, experts", "split_qkv", "rope, queries",
           "append_kv", "residual", "swiglu", "expert_combine", "topk", "argmax"]


def bound(program, architecture, kernel, rows, folder):
    """Milliseconds a step by unit, and the counts of the kernel that ran."""
    report = folder / "report.json"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(ROOT / "build/amdsim"), "AMDSIM": architecture,
                   "AMDSIM_REPORT": str(report)}
    done = subprocess.run([program, kernel, str(rows)], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    launches, blocks, moved = map(int, done.stdout.split())
    counted = json.loads(report.read_text())
    (card,), (counts,) = counted["cards"].values(), counted["kernels"]
    scale = blocks / counts["groups"]
    units = min(counts["groups"], card["compute_units"]) / min(blocks, card["compute_units"])
    times = {unit: counts["bound_seconds"][unit] * scale * units for unit in ("valu", "matrix", "lds", "salu")}
    times["memory"] = (moved or counts["footprint_bytes"] * scale) / card["bytes_a_second"]
    return {unit: 1e3 * launches * time for unit, time in times.items()}, counts


def main():
    architecture, *rows = sys.argv[1:] or ["gfx90a"]
    rows = [int(each) for each in rows] or [1, 32, 512, 1870]
    program = ROOT / f"build/amdsim/amd_bound-{architecture}"
    subprocess.run(["make", "-s", "amdsim"], cwd=ROOT, check=True)
    subprocess.run(["tools/clang_hip.sh", architecture, "--std=c++17", "-O3", "tools/amd_bound.cpp", "-o", program],
                   cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        for batch in rows:
            found = [(kernel, *bound(program, architecture, kernel, batch, Path(folder))) for kernel in KERNELS]
            found.sort(key=lambda each: -max(each[1].values()))
            total = sum(max(times.values()) for _, times, _ in found)
            print(f"\n{batch} rows: at least {total:.2f} ms a step, at most {1e3 * batch / total:,.0f} tok/s\n")
            print("| kernel | bound, ms | by | memory | matrix | VALU | LDS | SALU | LDS conflicts | segments |")
            print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
            for kernel, times, counts in found:
                most = max(times, key=times.get)
                share = [f"{100 * times[unit] / times[most]:.0f} %" for unit in ("memory", "matrix", "valu", "lds", "salu")]
                conflicts = 100 * counts["lds_conflict_cycles"] / max(1, counts["lds_cycles"])
                moved = counts["global_bytes_read"] + counts["global_bytes_written"]
                print(f"| {kernel} | {times[most]:.2f} | {most} | {' | '.join(share)} | {conflicts:.0f} % | "
                      f"{64 * counts['segments_64'] / moved:.2f} |")


if __name__ == "__main__":
    main()
