"""From a snapshot to logits: models that Hugging Face transformers wrote (tests/golden), exported, through forward and
forward_hip, against transformers' own logits."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
BOUND = 1e-3  # transformers' float32 angles alone are 4e-4 away
pytest.importorskip("ml_dtypes")
pytest.importorskip("tqdm")
pytest.importorskip("safetensors")
from safetensors.numpy import load_file, save_file  # noqa: E402


@pytest.fixture(scope="module")
def print_logits(tmp_path_factory):
    program = tmp_path_factory.mktemp("program") / "print_logits"
    subprocess.run(["g++", "--std=c++17", "-O1", ROOT / "tests/print_logits.cpp", ROOT / "tokenizer.cpp", "-o", program, "-lm"],
                   check=True)
    return program


def exported(snapshot, folder):
    subprocess.run([sys.executable, ROOT / "tools/export_model.py", snapshot, "-o", folder / "model.bin", "--seq-len", "64"],
                   check=True, capture_output=True)
    return folder / "model.bin"


def logits_of(program, model, ids):
    done = subprocess.run([program, model, *map(str, ids)], check=True, capture_output=True)
    (experts,) = re.findall(rb"experts in (.*)\)\n", done.stderr)
    return np.frombuffer(done.stdout, np.float32).reshape(len(ids), 2, -1), experts.decode()


@pytest.mark.parametrize("name, experts_on_the_device", [
    ("mxfp4", "MXFP4"), ("bf16", "MXFP4"),  # the same values
    ("fp32", "FP16, rounded to BF16"),
])
def test_logits_are_transformers(name, experts_on_the_device, print_logits, tmp_path):
    ids, expected = json.loads((GOLDEN / name / "ids.json").read_text()), np.load(GOLDEN / name / "logits.npy")
    assert len(ids) > 2 * 16  # more than two windows
    logits, experts = logits_of(print_logits, exported(GOLDEN / name, tmp_path), ids)
    assert experts == experts_on_the_device
    for by, of in (("forward", logits[:, 0]), ("forward_hip", logits[:, 1])):
        difference = np.abs(of - expected).max(axis=1)
        print(f"{name}, {by}: largest difference {difference.max():.2e}, logits up to {np.abs(expected).max():.1f}")
        assert (of.argmax(axis=1) == expected.argmax(axis=1)).all(), by
        assert difference.max() <= BOUND, by


OPENAI = {"model.embed_tokens.weight": "embedding.weight", "lm_head.weight": "unembedding.weight",
          "model.norm.weight": "norm.scale", "input_layernorm.weight": "attn.norm.scale",
          "post_attention_layernorm.weight": "mlp.norm.scale", "self_attn.o_proj.weight": "attn.out.weight",
          "self_attn.o_proj.bias": "attn.out.bias", "self_attn.sinks": "attn.sinks", "mlp.router.weight": "mlp.gate.weight",
          "mlp.router.bias": "mlp.gate.bias", "mlp.experts.gate_up_proj_blocks": "mlp.mlp1_weight.blocks",
          "mlp.experts.gate_up_proj_scales": "mlp.mlp1_weight.scales", "mlp.experts.gate_up_proj_bias": "mlp.mlp1_bias",
          "mlp.experts.down_proj_blocks": "mlp.mlp2_weight.blocks", "mlp.experts.down_proj_scales": "mlp.mlp2_weight.scales",
          "mlp.experts.down_proj_bias": "mlp.mlp2_bias"}


def as_openai(snapshot, folder):
    """The same tensors under OpenAI's names, query, key and value in one."""
    tensors, renamed = load_file(snapshot / "model.safetensors"), {}
    for name, value in tensors.items():
        layer, own = re.fullmatch(r"(?:model\.layers\.(\d+)\.)?(.*)", name).groups()
        prefix = f"block.{layer}." if layer else ""
        if ".q_proj." in own:
            parts = [tensors[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            renamed[f"{prefix}attn.qkv.{own.rsplit('.', 1)[1]}"] = np.concatenate(parts)
        elif ".k_proj." not in own and ".v_proj." not in own:
            renamed[prefix + OPENAI[own]] = value
    folder.mkdir()
    save_file(renamed, folder / "model.safetensors")
    shutil.copy(snapshot / "config.json", folder)
    return folder


def test_layouts_of_one_model_are_one_file(tmp_path):
    """MXFP4 blocks, the same expanded and saved by transformers, and the blocks under OpenAI's names."""
    files = []
    for snapshot in (GOLDEN / "mxfp4", GOLDEN / "bf16", as_openai(GOLDEN / "mxfp4", tmp_path / "openai")):
        (tmp_path / f"out-{len(files)}").mkdir()
        files.append(exported(snapshot, tmp_path / f"out-{len(files)}").read_bytes())
    assert files[0] == files[1] == files[2]


def test_a_sink_of_minus_infinity_is_one_that_takes_no_share(print_logits, tmp_path):
    """As is one of -1e30, to the last bit, in forward and forward_hip: so export accepts it."""
    tensors, ids = load_file(GOLDEN / "fp32" / "model.safetensors"), json.loads((GOLDEN / "fp32" / "ids.json").read_text())
    logits = []
    for sink in (-1e30, -np.inf):
        for name in tensors:
            if name.endswith("sinks"):
                tensors[name] = np.full_like(tensors[name], sink)
        folder = tmp_path / str(sink)
        (folder / "snapshot").mkdir(parents=True)
        shutil.copy(GOLDEN / "fp32" / "config.json", folder / "snapshot")
        save_file(tensors, folder / "snapshot" / "model.safetensors")
        logits.append(logits_of(print_logits, exported(folder / "snapshot", folder), ids)[0])
    assert np.isfinite(logits[0]).all() and logits[0].tobytes() == logits[1].tobytes()
