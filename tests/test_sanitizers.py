"""getp, built with AddressSanitizer and UndefinedBehaviorSanitizer (the test programs with them are run by tests/suite.py)."""

import os
import subprocess

import pytest

from conftest import built


@pytest.fixture(scope="session")
def sanitized_run():
    return built("build/tests-sanitized/run", "GPU=host", "SANITIZE=address,undefined")


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
