"""From a snapshot to logits: models that Hugging Face transformers wrote (tests/golden), exported, through forward and
forward_hip, against transformers' own logits."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
BOUND = 1e-3  # transformers' float32 angles alone are 4e-4 away
pytest.importorskip("ml_dtypes")


@pytest.fixture(scope="module")
def print_logits(tmp_path_factory):
    program = tmp_path_factory.mktemp("program") / "print_logits"
    subprocess.run(["g++", "--std=c++17", "-O2", ROOT / "tests/print_logits.cpp", ROOT / "tokenizer.cpp", "-o", program, "-lm"],
                   check=True)
    return program


def exported(snapshot, folder):
    subprocess.run([sys.executable, ROOT / "tools/export_model.py", snapshot, "-o", folder / "model.bin", "--seq-len", "64"],
                   check=True, capture_output=True)
    return folder / "model.bin"


def logits_of(program, model, ids):
    done = subprocess.run([program, model, *map(str, ids)], check=True, capture_output=True)
    return np.frombuffer(done.stdout, np.float32).reshape(len(ids), 2, -1)


@pytest.mark.parametrize("name", ["mxfp4", "bf16", "fp32"])
def test_logits_are_transformers(name, print_logits, tmp_path):
    ids, expected = json.loads((GOLDEN / name / "ids.json").read_text()), np.load(GOLDEN / name / "logits.npy")
    assert len(ids) > 2 * 16  # more than two windows
    logits = logits_of(print_logits, exported(GOLDEN / name, tmp_path), ids)
    for by, of in (("forward", logits[:, 0]), ("forward_hip", logits[:, 1])):
        difference = np.abs(of - expected).max(axis=1)
        print(f"{name}, {by}: largest difference {difference.max():.2e}, logits up to {np.abs(expected).max():.1f}")
        assert (of.argmax(axis=1) == expected.argmax(axis=1)).all(), by
        assert difference.max() <= BOUND, by


def test_layouts_of_one_model_are_one_file(tmp_path):
    """MXFP4 blocks, and the same expanded and saved by transformers."""
    files = []
    for name in ("mxfp4", "bf16"):
        (tmp_path / name).mkdir()
        files.append(exported(GOLDEN / name, tmp_path / name).read_bytes())
    assert files[0] == files[1]
