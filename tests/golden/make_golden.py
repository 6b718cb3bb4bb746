#!/usr/bin/env python3
"""Makes the snapshots beside this file, and what Hugging Face transformers computes from them: an oracle for the way from a
snapshot to logits (test_snapshots.py). Needs torch and transformers, which nothing else here does:

    pip install torch transformers safetensors numpy
    tests/golden/make_golden.py

mxfp4/  a random gpt-oss whose experts are MXFP4 blocks, as released models have them; transformers expands them itself
bf16/   the same model as transformers saves it, in two files
fp32/   another one, FP32, experts exact in BF16
Each with ids.json, token ids, and logits.npy, float32 logits after each of them (FP32, eager attention).
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import GptOssConfig, GptOssForCausalLM, Mxfp4Config

HERE = Path(__file__).resolve().parent
TOKENS = 48


def config():
    return GptOssConfig(vocab_size=256, hidden_size=64, intermediate_size=32, num_hidden_layers=2, num_local_experts=4,
                        num_experts_per_tok=2, head_dim=16, num_attention_heads=6, num_key_value_heads=2, sliding_window=16,
                        rope_parameters={"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0,
                                         "beta_slow": 1.0, "truncate": False, "original_max_position_embeddings": 4096})


def random_model(seed):
    """Weights of a size that makes every part of the model matter."""
    torch.manual_seed(seed)
    model = GptOssForCausalLM(config()).float()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.normal_(1.0 if "norm" in name else 0.0, 0.2 if value.dim() < 2 or "sinks" in name else value.shape[-1] ** -0.5)
    return model


def write_logits(folder, model):
    ids = torch.randint(0, model.config.vocab_size, (TOKENS,), generator=torch.Generator().manual_seed(7))
    model = model.float().eval()
    model.config._attn_implementation = "eager"
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
    (folder / "ids.json").write_text(json.dumps(ids.tolist()) + "\n")
    np.save(folder / "logits.npy", logits.numpy().astype(np.float32))


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def main():
    folder = fresh("fp32")
    model = random_model(1)
    for name, value in model.named_parameters():
        if ".experts." in name:  # so that a device that holds experts in BF16 computes the same
            value.data = value.data.bfloat16().float()
    model.save_pretrained(folder)
    write_logits(folder, model)

    folder = fresh("mxfp4")
    random_model(2).bfloat16().save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    random = torch.Generator().manual_seed(3)
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, n, d = tensors.pop(name).shape
        tensors[name + "_blocks"] = torch.randint(0, 256, (experts, d, n // 32, 16), dtype=torch.uint8, generator=random)
        tensors[name + "_scales"] = torch.randint(121, 124, (experts, d, n // 32), dtype=torch.uint8, generator=random)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    model = GptOssForCausalLM.from_pretrained(folder, quantization_config=Mxfp4Config(dequantize=True), dtype=torch.bfloat16)
    expanded = fresh("bf16")
    plain = GptOssForCausalLM(config()).bfloat16()  # transformers saves an expanded model under MXFP4's names
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(expanded, max_shard_size="120KB")
    write_logits(folder, model)
    for name in ("ids.json", "logits.npy"):
        shutil.copy(folder / name, expanded / name)
    for made in HERE.glob("*/generation_config.json"):
        made.unlink()


if __name__ == "__main__":
    main()
