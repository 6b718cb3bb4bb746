"""tools/parity.cpp, what ./run.sh parity runs."""

import os
import re
import subprocess

import pytest

from conftest import ROOT, built



@pytest.fixture(scope="session")
def parity():
    back_end = [] if os.environ.get("GETP_TEST_GPU") == "1" else ["GPU=host"]
    program = built("build/parity", *back_end)
    return lambda *arguments: subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


def test_tiny_agrees_at_every_step(parity, tiny):
    done = parity(tiny.model, tiny.tokenizer, ROOT / "data/input.txt", "--prompts", 2, "--steps", 60)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    steps = re.findall(r"^prompt \d+ step \d+: .*argmax \d+ agrees", done.stdout, re.M)
    assert len(steps) == 120
    assert "argmax agrees at 120 of 120 steps" in done.stdout
    assert len(re.findall(r"^[a-z0-9()\- ]+ +[0-9.e+-]+ +[0-9.e+-]+$", done.stdout, re.M)) == 18, "a row for each stage"


@pytest.mark.parametrize("arguments, message", [
    ([], "give a model, a tokenizer and an input"),
    (["a", "b"], "give a model, a tokenizer and an input"),
    (["a", "b", "c", "--steps"], "--steps needs a value"),
    (["a", "b", "c", "--steps", "0"], "--steps '0': expected a number from 1 "),
    (["a", "b", "c", "--steps", "3x"], "--steps '3x'"),
    (["a", "b", "c", "--stages", "3"], "unknown argument '--stages'"),
])
def test_bad_arguments_are_refused(parity, arguments, message):
    done = parity(*arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("parity: ") and done.stderr.count("\n") == 1 and message in done.stderr


def test_the_cpu_is_not_compared_with_itself(parity, tiny, monkeypatch):
    monkeypatch.setenv("GETP_CPU", "1")
    done = parity(tiny.model, tiny.tokenizer, ROOT / "data/input.txt")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("error: GETP_CPU=1: there is no device")


def test_prompts_that_do_not_fit_are_an_error(parity, tiny):
    done = parity(tiny.model, tiny.tokenizer, ROOT / "data/input.txt", "--prompts", 1, "--steps", 1)
    assert done.returncode == 1 and "no prompt fits into 1 steps; give more with --steps" in done.stderr


def test_another_back_end_is_out_of_date():
    """A parity built for the host must not answer for a GPU."""
    host = ["make", "build/parity", "GPU=host"]
    subprocess.run(host, cwd=ROOT, check=True)
    same = subprocess.run(host, cwd=ROOT, capture_output=True, text=True)
    other = subprocess.run(["make", "-n", "build/parity", "GPU=nvidia", "GPU_ARCH=sm_90"], cwd=ROOT, capture_output=True,
                           text=True)
    assert "g++" not in same.stdout and "nvcc" in other.stdout
