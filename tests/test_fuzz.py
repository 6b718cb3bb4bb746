"""libFuzzer over what reads foreign bytes (tests/fuzz): 10 seconds each from a fixed seed, with GETP_TEST_FULL=1 10 minutes. What
it finds is in the message, and in a file that tests/fuzz's program takes as its argument."""

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 600 if os.environ.get("GETP_TEST_FULL") == "1" else 10
LIBRARY = Path("/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.fuzzer-x86_64.a")
pytestmark = pytest.mark.skipif(not LIBRARY.is_file() or not shutil.which("clang++-19"),
                                reason="needs clang 19 and libFuzzer: clang-19, libclang-rt-19-dev")


def a_tokenizer():
    """The single bytes, three merges and a special token."""
    tokens = [(byte, bytes([byte]) if byte else b"<0x00>") for byte in range(256)]
    tokens += [(256, b"th"), (257, b"the"), (258, b" the"), (-1e30, b"<|end|>")]
    return struct.pack("<i", 8) + b"".join(struct.pack("<fi", score, len(text)) + text for score, text in tokens)


def a_model():
    """A header, and the first of the weights."""
    return struct.pack("<11i2fif", 20, 8, 4, 2, 8, 2, 4, 4, 2, 16, 8, 150000, 32, 4, 7) + bytes(range(1, 201))


SEEDS = {
    "encode": [b"\x07Hello, world's\n\n  The end 12345\xc5\xbf", "\x07\u4e2dAB\u0301 \U0001f600\u200d".encode(),
               b"\x07\xe4\xb8 \xff\xc0\xaf\xed\xa0\x80", b"\x07  \r\n /// 'LL they'Re"],
    "tokenizer_reader": [a_tokenizer()],
    "model_reader": [a_model()],
}


@pytest.mark.parametrize("target", sorted(SEEDS))
def test_runs_clean(target, tiny, tmp_path):
    made = subprocess.run(["make", "-s", f"build/fuzz/{target}_fuzz"], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-4000:]
    seeds, corpus = tmp_path / "seeds", tmp_path / "corpus"
    for folder in seeds, corpus:
        folder.mkdir()
    for number, seed in enumerate(SEEDS[target]):
        (seeds / str(number)).write_bytes(seed)
    done = subprocess.run(
        [ROOT / f"build/fuzz/{target}_fuzz", "-close_fd_mask=3", "-seed=1", "-max_len=16384", "-timeout=60", f"-max_total_time={SECONDS}",
         f"-artifact_prefix={tmp_path}/", corpus, seeds],
        capture_output=True, text=True, env={**os.environ, "GETP_FUZZ_TOKENIZER": str(tiny.tokenizer)})
    assert done.returncode == 0, done.stderr[-6000:]
    assert int(re.search(r"^Done (\d+) runs", done.stderr, re.M)[1]) > 200, done.stderr[-1000:]
