"""The C++ test programs once more, built with AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = sorted(name[: -len(".cpp")] for name in os.listdir(os.path.join(ROOT, "tests")) if name.endswith("_test.cpp"))


@pytest.fixture(scope="session")
def sanitized():
    done = subprocess.run(["make", "-s", "-j2", "tests", "GPU=host", "SANITIZE=address,undefined"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return os.path.join(ROOT, "build", "tests-sanitized")


@pytest.mark.parametrize("program", PROGRAMS)
def test_clean_under_asan_and_ubsan(sanitized, program):
    done = subprocess.run([os.path.join(sanitized, program)], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "GETP_HOST_SEED": "7"})
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr[-4000:]
