"""NVIDIA's compute-sanitizer over the kernel tests, the golden model and getp: ./run.sh test --gpu on an NVIDIA machine."""

import os
import shutil
import subprocess

import pytest

from conftest import ROOT, built

pytestmark = [
    pytest.mark.skipif(os.environ.get("GETP_TEST_GPU") != "1", reason="only in ./run.sh test --gpu"),
    pytest.mark.skipif(not shutil.which("compute-sanitizer"), reason="compute-sanitizer is not installed"),
]


def clean(tool, *command):
    done = subprocess.run(["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *map(str, command)], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "ERROR SUMMARY: 0 errors" in done.stdout or "RACECHECK SUMMARY: 0 hazards" in done.stdout, done.stdout[-2000:]


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
@pytest.mark.parametrize("program", ["elementwise", "matvec", "matmul", "attention", "moe"])
def test_kernels(tool, program):
    clean(tool, f"build/tests-nvidia/{program}_test")


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_golden(tool):
    clean(tool, "build/tests-nvidia/forward_test", "--gtest_filter=*Golden*")


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_getp(tool, seven_m, tmp_path):
    program = built("build/tests-nvidia/run", "GPU=nvidia")
    prompts = tmp_path / "input.txt"
    prompts.write_text("1\nWhen the water is cold, the\n")
    clean(tool, program, seven_m.model, "-z", seven_m.tokenizer, "-m", "getp", "-i", prompts, "-o",
          tmp_path / "out.txt", "-n", 24)
    assert len((tmp_path / "out.txt").read_text().split()) > 0
