"""Fixtures shared by the Python tests: the program, built once, and the models that tools/make_model makes."""
import contextlib
import io
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent


CPU = {"GETP_CPU": "1"}  # makes the program compute with the CPU reference


def built(target, *arguments):
    """The file of that name, made."""
    subprocess.run(["make", "-s", target, *arguments], cwd=ROOT, check=True)
    return ROOT / target


def called(main, *arguments):
    """A tool's main, called in this process, as if it were finished as one of its own."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        patch.setattr(sys, "argv", [main.__module__, *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            code = end.code
            if not isinstance(code, int):
                code = print(code, file=stderr) or 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return SimpleNamespace(returncode=code, stdout=stdout.getvalue(), stderr=stderr.getvalue())


@pytest.fixture(scope="session")
def program():
    """The program for the host back end, as ./run.sh build makes it."""
    return built("build/tests/run", "GPU=host")


@pytest.fixture(scope="session")
def run(program):
    """run(model, *arguments) -> finished process"""

    def call(*arguments, **options):
        return subprocess.run([program, *map(str, arguments)], capture_output=True, **options)

    return call


@pytest.fixture(scope="session")
def make_model_tool():
    return built("build/make_model")


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
