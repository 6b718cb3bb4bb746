"""Fixtures shared by the Python tests: the program, built once, and the models that tools/make_model makes."""
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def run():
    """Builds the harness for the host back end; returns run(model, *arguments) -> finished process."""
    subprocess.run(["make", "runfast", "OUT=build/tests/run", "GPU=host"], cwd=ROOT, check=True)

    def call(*arguments, **options):
        return subprocess.run([ROOT / "build/tests/run", *map(str, arguments)], capture_output=True, **options)

    return call


@pytest.fixture(scope="session")
def reference():
    """The same harness with the CPU's forward."""
    program = ROOT / "build/tests/run_reference"
    subprocess.run(["make", "runomp", f"OUT={program}", "GPU=host", "DEFINES=-DGETP_REFERENCE"], cwd=ROOT, check=True)
    return program


@pytest.fixture(scope="session")
def make_model_tool():
    subprocess.run(["make", "build/make_model"], cwd=ROOT, check=True)
    return ROOT / "build/make_model"


def _made(tool, shape, folder):
    made = SimpleNamespace(model=folder / "model.bin", tokenizer=folder / "tokenizer.bin")
    subprocess.run([tool, shape, "-o", made.model, "-z", made.tokenizer, "--seed", "1"], check=True)
    return made


@pytest.fixture(scope="session")
def tiny(make_model_tool, tmp_path_factory):
    """The tiny model: .model and .tokenizer (512 tokens, no special ones; seq_len 160)."""
    return _made(make_model_tool, "tiny", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def seven_m(make_model_tool, tmp_path_factory):
    """The 7m model: .model and .tokenizer (201,088 tokens, harmony's among them; seq_len 2048)."""
    return _made(make_model_tool, "7m", tmp_path_factory.mktemp("seven_m"))
