#!/usr/bin/env python3
"""What AMD's compiler gives each kernel at -O3, as Markdown: tools/amd_registers.py [ARCH ...]      (default: all four)

Per architecture: VGPRs (+ AGPRs) / LDS in KB / waves that a SIMD holds; scratch is named where there is any.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = ["gfx90a", "gfx942", "gfx1100", "gfx1151"]


def kernels_of(architecture):
    """Kernel -> figure of the compiler's report."""
    done = subprocess.run(
        ["tools/clang_hip.sh", architecture, "--std=c++17", "-O3", "--cuda-device-only", "-S", "-o", "/dev/null",
         "-Rpass-analysis=kernel-resource-usage", "run.cpp"], cwd=ROOT, capture_output=True, text=True, check=True)
    report = subprocess.run(["c++filt", "-p"], input=done.stderr, capture_output=True, text=True, check=True).stdout
    found = {}
    for block in report.split("Function Name: ")[1:]:
        name = re.sub(r"getp_hip::|MatrixTile, | \[-Rpass.*", "", block.splitlines()[0]).replace("void ", "")
        value = {key: int(number) for key, number in re.findall(r"remark: +([\w ]+?)(?: \[[\w/]+\])?: (\d+)", block)}
        figure = f"{value['VGPRs']}" + (f" + {value['AGPRs']}" if value.get("AGPRs") else "")
        figure += f" / {value['LDS Size'] / 1024:.1f} / {value['Occupancy']}"
        if value["ScratchSize"] or value["VGPRs Spill"] or value["SGPRs Spill"]:
            figure += f", scratch {value['ScratchSize']}"
        found[name] = figure
    return found


def main():
    architectures = sys.argv[1:] or ARCHITECTURES
    by_architecture = [kernels_of(architecture) for architecture in architectures]
    print("| kernel | " + " | ".join(architectures) + " |\n|" + " --- |" * (1 + len(architectures)))
    for name in sorted(by_architecture[0]):
        print("| " + " | ".join([name, *(kernels[name] for kernels in by_architecture)]) + " |")


if __name__ == "__main__":
    main()
