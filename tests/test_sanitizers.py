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
    # Newer compilers keep frames apart from the stack by default, where a fiber must hand them over at each switch. That
    # is slow: the test of the fibers themselves does it, with every compiler.
    apart = int(program == "host_backend_test")
    # Seconds are measured by the plain programs; a sanitizer's mean nothing.
    done = subprocess.run([os.path.join(sanitized, program), "--gtest_filter=-Time.*"], cwd=ROOT, capture_output=True,
                          text=True,
                          env={**os.environ, "GETP_HOST_SEED": "7",
                               "ASAN_OPTIONS": f"detect_stack_use_after_return={apart}"})
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr[-4000:]


@pytest.fixture(scope="session")
def sanitized_run(sanitized):
    program = os.path.join(sanitized, "run")
    done = subprocess.run(["make", "-s", "rundebug", "GPU=host", f"OUT={program}",
                           "DEFINES=-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return program


def getp(program, model, tokenizer, prompts, output, environment=None):
    return subprocess.run([program, model, "-z", tokenizer, "-m", "getp", "-i", prompts, "-o", output, "-n", "60"],
                          capture_output=True, text=True,
                          env={**os.environ, "ASAN_OPTIONS": "detect_stack_use_after_return=0", **(environment or {})})


def test_getp_is_clean_and_repeats_itself(sanitized_run, tiny, tmp_path):
    prompts = tmp_path / "input.txt"
    prompts.write_text("4\nWhen the water is cold, the\n\n\u0431\u0430\u0440\u0441\u0443\u043a\r\n" + "long " * 500 + "\n",
                       encoding="utf-8")
    outputs = []
    for wave, seed, devices in [(64, 0, 1), (32, 3, 3)]:
        output = tmp_path / f"{wave}.txt"
        done = getp(sanitized_run, tiny.model, tiny.tokenizer, prompts, output,
                    {"GETP_HOST_WAVE": str(wave), "GETP_HOST_SEED": str(seed), "GETP_HOST_DEVICES": str(devices)})
        assert done.returncode == 0, done.stderr[-4000:]
        outputs.append(output.read_text())
    assert outputs[0] == outputs[1]
    lines = outputs[0].splitlines()
    assert [bool(line) for line in lines] == [True, False, True, False]


@pytest.mark.parametrize("what", ["truncated model", "empty model", "tokenizer as model", "model as tokenizer",
                                  "truncated tokenizer", "short input", "no output folder"])
def test_bad_files_are_one_clear_line_under_the_sanitizers(sanitized_run, tiny, tmp_path, what):
    prompts, output, bad = tmp_path / "input.txt", tmp_path / "out.txt", tmp_path / "bad.bin"
    prompts.write_text("1\nHello\n")
    model, tokenizer = tiny.model, tiny.tokenizer
    if what == "truncated model":
        bad.write_bytes(model.read_bytes()[:-4])
        model = bad
    elif what == "empty model":
        bad.write_bytes(b"")
        model = bad
    elif what == "tokenizer as model":
        model = tokenizer
    elif what == "model as tokenizer":
        tokenizer = model
    elif what == "truncated tokenizer":
        bad.write_bytes(tokenizer.read_bytes()[:-1])
        tokenizer = bad
    elif what == "short input":
        prompts.write_text("2\nHello\n")
    else:
        output = tmp_path / "nowhere" / "out.txt"
    done = getp(sanitized_run, model, tokenizer, prompts, output)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: "), done.stderr
