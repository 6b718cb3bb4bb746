"""tools/export_model.py: every layout of a snapshot gives the same model.bin; faults are one line and no file."""

import contextlib
import fcntl
import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import called

ROOT = Path(__file__).resolve().parent.parent
ml_dtypes = pytest.importorskip("ml_dtypes")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
sys.path.insert(0, str(ROOT / "tools"))
import export_model  # noqa: E402

BF16 = ml_dtypes.bfloat16

V, H, E, TOP, I, L, HEAD_DIM, HEADS, KV_HEADS = 50, 64, 4, 2, 32, 3, 16, 6, 2
A, KV = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
FP4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
HF_CONFIG = {"vocab_size": V, "hidden_size": H, "num_local_experts": E, "num_experts_per_tok": TOP,
             "intermediate_size": I, "num_hidden_layers": L, "head_dim": HEAD_DIM, "num_attention_heads": HEADS,
             "num_key_value_heads": KV_HEADS, "initial_context_length": 4096, "rope_theta": 150000,
             "rope_scaling": {"factor": 32.0, "rope_type": "yarn", "truncate": False}, "sliding_window": 128, "swiglu_limit": 7.0,
             "model_type": "gpt_oss"}
OPENAI_CONFIG = {"vocab_size": V, "hidden_size": H, "num_experts": E, "experts_per_token": TOP, "intermediate_size": I,
                 "num_hidden_layers": L, "head_dim": HEAD_DIM, "num_attention_heads": HEADS,
                 "num_key_value_heads": KV_HEADS, "initial_context_length": 4096, "rope_theta": 150000.0,
                 "rope_scaling_factor": 32.0, "sliding_window": 128, "swiglu_limit": 7.0}


def expanded(blocks, scales):
    """MXFP4 in FP32."""
    values = np.empty((*scales.shape, 32), np.float32)
    for low in (0, 1):  # the low half of a byte comes first
        values[..., low::2] = np.array(FP4, np.float32)[blocks >> 4 if low else blocks & 15]
    values = (values * 2.0 ** (scales.astype(np.float64) - 127)[..., None]).astype(np.float32)
    return values.reshape(*scales.shape[:-1], scales.shape[-1] * 32)


class Weights:
    """A random model: what is not an expert is exact in BF16, experts are MXFP4's blocks, scales and their values."""

    def __init__(self, seed=1):
        random = np.random.default_rng(seed)

        def bf16(*shape):
            return random.standard_normal(shape).astype(BF16)

        def mxfp4(d, n):
            blocks = random.integers(0, 256, (E, d, n // 32, 16), dtype=np.uint8)
            scales = random.integers(110, 130, (E, d, n // 32), dtype=np.uint8)
            return blocks, scales, expanded(blocks, scales)

        self.embedding, self.unembedding, self.norm = bf16(V, H), bf16(V, H), bf16(H)
        self.layers = [dict(rms_attn=bf16(H), rms_ffn=bf16(H), q=bf16(A, H), k=bf16(KV, H), v=bf16(KV, H), bq=bf16(A),
                            bk=bf16(KV), bv=bf16(KV), o=bf16(H, A), bo=bf16(H), sinks=bf16(HEADS), router=bf16(E, H),
                            brouter=bf16(E), mlp1=mxfp4(2 * I, H), b1=bf16(E, 2 * I), mlp2=mxfp4(H, I), b2=bf16(E, H))
                       for _ in range(L)]

    def model(self, seq_len=2048):
        """model.bin by the contract."""
        header = struct.pack("<11i2fif", V, H, E, TOP, I, L, HEAD_DIM, HEADS, KV_HEADS, seq_len, 4096, 150000, 32, 128, 7)
        parts = [self.embedding, self.unembedding]

        def each(*names):
            parts.extend(layer[name] for layer in self.layers for name in names)

        each("rms_attn")
        each("rms_ffn")
        parts.append(self.norm)
        for names in (["q", "k", "v"], ["bq", "bk", "bv"], ["o"], ["bo"], ["sinks"], ["router"], ["brouter"]):
            each(*names)
        parts.extend(layer["mlp1"][2] for layer in self.layers)
        each("b1")
        parts.extend(layer["mlp2"][2] for layer in self.layers)
        each("b2")
        return header + b"".join(np.asarray(part, np.float32).tobytes() for part in parts)

    def openai(self):
        tensors = {"embedding.weight": self.embedding, "unembedding.weight": self.unembedding, "norm.scale": self.norm}
        for i, layer in enumerate(self.layers):
            own = {"attn.norm.scale": layer["rms_attn"], "mlp.norm.scale": layer["rms_ffn"], "attn.sinks": layer["sinks"],
                   "attn.qkv.weight": np.concatenate([layer["q"], layer["k"], layer["v"]]),
                   "attn.qkv.bias": np.concatenate([layer["bq"], layer["bk"], layer["bv"]]),
                   "attn.out.weight": layer["o"], "attn.out.bias": layer["bo"], "mlp.gate.weight": layer["router"],
                   "mlp.gate.bias": layer["brouter"], "mlp.mlp1_weight.blocks": layer["mlp1"][0],
                   "mlp.mlp1_weight.scales": layer["mlp1"][1], "mlp.mlp1_bias": layer["b1"],
                   "mlp.mlp2_weight.blocks": layer["mlp2"][0], "mlp.mlp2_weight.scales": layer["mlp2"][1],
                   "mlp.mlp2_bias": layer["b2"]}
            tensors.update({f"block.{i}.{name}": value for name, value in own.items()})
        return tensors

    def hugging_face(self, packed=True, fused=False, dtype=BF16):
        tensors = {"model.embed_tokens.weight": self.embedding, "lm_head.weight": self.unembedding,
                   "model.norm.weight": self.norm}
        for i, layer in enumerate(self.layers):
            own = {"input_layernorm.weight": layer["rms_attn"], "post_attention_layernorm.weight": layer["rms_ffn"],
                   "self_attn.sinks": layer["sinks"], "self_attn.o_proj.weight": layer["o"],
                   "self_attn.o_proj.bias": layer["bo"], "mlp.router.weight": layer["router"],
                   "mlp.router.bias": layer["brouter"], "mlp.experts.gate_up_proj_bias": layer["b1"],
                   "mlp.experts.down_proj_bias": layer["b2"]}
            if fused:
                own["self_attn.qkv_proj.weight"] = np.concatenate([layer["q"], layer["k"], layer["v"]])
                own["self_attn.qkv_proj.bias"] = np.concatenate([layer["bq"], layer["bk"], layer["bv"]])
            else:
                for part in "qkv":
                    own[f"self_attn.{part}_proj.weight"], own[f"self_attn.{part}_proj.bias"] = layer[part], layer["b" + part]
            for name, part in (("gate_up_proj", "mlp1"), ("down_proj", "mlp2")):
                if packed:
                    own[f"mlp.experts.{name}_blocks"], own[f"mlp.experts.{name}_scales"] = layer[part][:2]
                else:
                    own[f"mlp.experts.{name}"] = np.ascontiguousarray(layer[part][2].transpose(0, 2, 1))
            tensors.update({f"model.layers.{i}.{name}": value for name, value in own.items()})
        return {name: value if value.dtype == np.uint8 else np.asarray(value, dtype) for name, value in tensors.items()}


def write(folder, tensors, config, files=1):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    names = sorted(tensors, key=lambda name: hashlib.md5(name.encode()).hexdigest())  # no order that helps
    if files == 1:
        safetensors_numpy.save_file(tensors, folder / "model.safetensors")
        return folder
    where = {name: f"model-{i % files + 1:05}-of-{files:05}.safetensors" for i, name in enumerate(names)}
    for file in set(where.values()):
        safetensors_numpy.save_file({name: tensors[name] for name in names if where[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def run(*arguments, **options):
    """The tool as a process of its own if that has options, else called in this one, which is quicker."""
    if not options:
        return called(export_model.main, *arguments)
    return subprocess.run([sys.executable, ROOT / "tools" / "export_model.py", *map(str, arguments)], capture_output=True,
                          text=True, **options)


def export(snapshot, output, *more):
    done = run(snapshot, "-o", output, *more)
    assert done.returncode == 0, done.stderr
    return output.read_bytes(), done.stdout


@pytest.fixture(scope="module")
def weights():
    return Weights()


LAYOUTS = {
    "openai": lambda w: (w.openai(), OPENAI_CONFIG),
    "hugging-face-mxfp4": lambda w: (w.hugging_face(), HF_CONFIG),
    "hugging-face-mxfp4-fused": lambda w: (w.hugging_face(fused=True), HF_CONFIG),
    "hugging-face-bf16": lambda w: (w.hugging_face(packed=False), HF_CONFIG),
    "hugging-face-fp16": lambda w: (w.hugging_face(packed=False, dtype=np.float16), HF_CONFIG),
    "hugging-face-fp32": lambda w: (w.hugging_face(packed=False, dtype=np.float32), HF_CONFIG),
}


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout, files, weights, tmp_path):
    data, printed = export(write(tmp_path / "snapshot", *LAYOUTS[layout](weights), files), tmp_path / "model.bin")
    assert data == weights.model()
    assert hashlib.sha256(data).hexdigest() in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.bin.sha256", "snapshot"]


def test_pieces_of_tensors(weights, tmp_path, monkeypatch):
    """Chunks much smaller than a tensor, in more threads than there are chunks, give the same file."""
    write(tmp_path / "snapshot", *LAYOUTS["openai"](weights))
    code = (f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r}); import export_model; export_model.CHUNK_BYTES = 3000; "
            "export_model.main()")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "snapshot", "-o", tmp_path / "model.bin", "--threads", "5"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.bin").read_bytes() == weights.model()


def test_seq_len(weights, tmp_path):
    tensors, config = LAYOUTS["openai"](weights)
    for given, options, expected in (({}, [], 2048), ({"max_seq_len": 777}, [], 777), ({"max_seq_len": 777}, ["--seq-len", 99], 99)):
        data, _ = export(write(tmp_path / "snapshot", tensors, {**config, **given}), tmp_path / "model.bin", *options)
        assert data == weights.model(expected)


def test_config_of_transformers_5(weights, tmp_path):
    """rope_parameters, whole numbers as such, and no swiglu_limit."""
    tensors, config = LAYOUTS["hugging-face-mxfp4"](weights)
    config = {**config, "rope_parameters": {"rope_theta": 150000, "factor": 32, "truncate": False, "original_max_position_embeddings": 4096}}
    for name in ("rope_theta", "rope_scaling", "initial_context_length", "swiglu_limit"):
        del config[name]
    data, _ = export(write(tmp_path / "snapshot", tensors, config), tmp_path / "model.bin")
    assert data == weights.model()


def test_verify(weights, tmp_path):
    model = tmp_path / "model.bin"
    export(write(tmp_path / "snapshot", *LAYOUTS["openai"](weights)), model)
    assert run("--verify", model).returncode == 0
    assert subprocess.run(["sha256sum", "-c", "model.bin.sha256"], cwd=tmp_path, capture_output=True).returncode == 0
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    done = run("--verify", model)
    assert done.returncode == 1 and "sha256" in done.stderr and done.stderr.count("\n") == 1
    assert run("--verify", tmp_path / "other.bin").returncode == 1


def without(name):
    def change(tensors, config):
        del tensors[name]
    return change


def with_tensor(name, value):
    def change(tensors, config):
        tensors[name] = value
    return change


def with_setting(name, value):
    def change(tensors, config):
        config.update({name: value}) if value is not None else config.pop(name)
    return change


def put(tensors, name, index, value):
    tensors[name] = tensors[name].copy()
    tensors[name][index] = value


FAULTS = {
    "missing tensor": (without("block.1.attn.sinks"), "block.1.attn.sinks"),
    "missing scales": (without("block.2.mlp.mlp2_weight.scales"), "block.2.mlp.mlp2_weight.scales"),
    "extra tensor": (with_tensor("block.0.attn.extra", np.zeros(3, np.float32)), "block.0.attn.extra"),
    "extra layer": (with_tensor(f"block.{L}.attn.sinks", np.zeros(HEADS, np.float32)), f"block.{L}.attn.sinks"),
    "wrong shape": (with_tensor("norm.scale", np.zeros(H + 1, np.float32)), "norm.scale has shape [65]"),
    "wrong dtype": (with_tensor("norm.scale", np.zeros(H, np.int32)), "norm.scale is I32"),
    "experts that are no bytes": (with_tensor("block.0.mlp.mlp1_weight.blocks",
                                              np.zeros((E, 2 * I, H // 32, 16), np.float32)), "is F32, not U8"),
    "scale of NaN": (lambda tensors, config: put(tensors, "block.1.mlp.mlp1_weight.scales", (2, 5, 1), 255),
                     "block.1.mlp.mlp1_weight.scales[2, 5, 1] is 255"),
    "no hidden size": (with_setting("hidden_size", None), "no hidden_size"),
    "hidden size of another model": (with_setting("hidden_size", 32), "embedding.weight has shape"),
    "text for a number": (with_setting("vocab_size", "50"), "vocab_size"),
    "half a layer": (with_setting("num_hidden_layers", 2.5), "num_hidden_layers"),
    "another epsilon": (with_setting("rms_norm_eps", 1e-6), "rms_norm_eps"),
    "rotation that is truncated": (with_setting("rope_scaling", {"truncate": True}), "rope_scaling.truncate"),
    "rotation that transformers truncates": (with_setting("rope_scaling", {"factor": 32}), "truncate"),
    "rotation that is a name": (with_setting("rope_scaling", "yarn"), "rope_scaling is 'yarn'"),
    "rotation of another type": (with_setting("rope_scaling", {"truncate": False, "type": "linear"}), "rope_scaling.type"),
    "a factor that is no number": (with_setting("rope_scaling", {"truncate": False, "attention_factor": "1.3"}), "attention_factor"),
    "a limit of the context alone": (lambda tensors, config: config.update(
        max_position_embeddings=131072, initial_context_length=None), "no rope_parameters.original_max_position_embeddings"),
    "tied by a word": (with_setting("tie_word_embeddings", "yes"), "tie_word_embeddings is 'yes'"),
    "no unembedding": (without("unembedding.weight"), "no tensor unembedding.weight"),
    "line ends in a name": (with_tensor("norm\nscale\x1b[2J", np.zeros(3, np.float32)), r"norm\nscale\x1b[2J"),
    "bitsandbytes": (with_setting("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}), "that of bitsandbytes"),
    "older bitsandbytes": (with_setting("quantization_config", {"load_in_8bit": True}), "that of bitsandbytes"),
    "FP8": (with_setting("quantization_config", {"quant_method": "fp8", "activation_scheme": "dynamic"}), "that of fp8"),
    "compressed tensors": (with_setting("compression_config", {"quant_method": "compressed-tensors"}), "compressed-tensors"),
    "a quantisation without a name": (with_setting("quantization_config", [4]), "quantization_config is [4]"),
    "a number past FP32": (with_setting("rope_theta", 1e39), "rope_theta"),
    "no number": (with_setting("rope_theta", float("nan")), "rope_theta"),
    "infinitely many layers": (with_setting("num_hidden_layers", float("inf")), "num_hidden_layers"),
    "a limit that ./run refuses": (with_setting("swiglu_limit", -7), "swiglu_limit"),
    "windows elsewhere": (with_setting("layer_types", ["full_attention", "sliding_attention", "full_attention"]), "layer_types"),
    "too many experts a token": (with_setting("experts_per_token", 5), "5 experts"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault, weights, tmp_path):
    change, expected = FAULTS[fault]
    tensors, config = LAYOUTS["openai"](weights)
    config = dict(config)
    change(tensors, config)
    check_fault(write(tmp_path / "snapshot", tensors, config), tmp_path / "model.bin", expected)


# Where a number is none, in each form that an export reads: layout, tensor, index, value, as it is named.
NO_NUMBERS = [
    ("hugging-face-fp16", "model.layers.1.mlp.experts.down_proj", (3, 31, 63), np.inf, "inf"),
    ("hugging-face-bf16", "model.layers.2.mlp.experts.gate_up_proj", (2, 0, 5), -np.inf, "-inf"),
    ("hugging-face-fp32", "model.layers.0.self_attn.k_proj.weight", (31, 63), np.nan, "nan"),
    ("hugging-face-mxfp4", "model.norm.weight", (0,), -np.nan, "nan"),
    ("openai", "embedding.weight", (49, 63), np.nan, "nan"),
    ("openai", "block.2.mlp.gate.bias", (1,), -np.inf, "-inf"),
    ("openai", "block.1.attn.sinks", (5,), np.inf, "inf"),
    ("hugging-face-fp16", "model.layers.2.self_attn.sinks", (0,), -np.nan, "nan"),
]


@pytest.mark.parametrize("layout, name, index, value, said", NO_NUMBERS)
def test_a_number_that_is_none(layout, name, index, value, said, weights, tmp_path):
    """Tensor and index are named, as they are in the snapshot, and a model that was there stays."""
    tensors, config = LAYOUTS[layout](weights)
    put(tensors, name, index, value)
    folder, output = write(tmp_path / "snapshot", tensors, config), tmp_path / "model.bin"
    check_fault(folder, output, f"{name}[{', '.join(map(str, index))}] is {said},")
    output.write_bytes(b"as before")
    assert run(folder, "-o", output).returncode == 1
    assert output.read_bytes() == b"as before" and [path.name for path in tmp_path.glob("model.bin*")] == ["model.bin"]


@pytest.mark.parametrize("dtype, none, largest", [
    ("F16", [0x7C00, 0xFC00, 0x7C01, 0xFE00, 0xFFFF, 0x7FFF], [0x7BFF, 0xFBFF, 0x8000, 1]),
    ("BF16", [0x7F80, 0xFF80, 0x7F81, 0xFFC0, 0xFFFF, 0x7FFF], [0x7F7F, 0xFF7F, 0x8000, 1]),
    ("F32", [0x7F800000, 0xFF800000, 0x7F800001, 0xFFC00000, 0xFFFFFFFF], [0x7F7FFFFF, 0xFF7FFFFF, 0x80000000, 1])])
def test_every_kind_of_no_number_is_found(dtype, none, largest, tmp_path):
    bits, path = np.uint32 if dtype == "F32" else np.uint16, tmp_path / "values"

    def floats(values, first=0, count=None, masks=False):
        np.array(values, bits).tofile(path)
        with open(path, "rb", buffering=0) as file:
            tensor = export_model.Tensor("t", path, file, dtype, (len(values) // 4, 4), 0, 0)
            return tensor.floats(first, count or len(values), masks)

    assert floats(largest * 2).view(bits).tolist() == largest * 2
    for value in none:
        with pytest.raises(export_model.Fault, match=r"t\[1, 2\] is -?(inf|nan)"):
            floats([*largest, 0, 0, value, 0, *largest], first=3, count=4)
    assert floats([0, none[1], 0, 0], masks=True).tolist()[1] != 0  # minus infinity
    for value in {*none} - {none[1]}:
        with pytest.raises(export_model.Fault):
            floats([none[1], 0, value, 0], masks=True)


@pytest.mark.parametrize("layout, name", [("openai", "block.{}.attn.sinks"), ("hugging-face-fp16", "model.layers.{}.self_attn.sinks")])
def test_a_sink_of_minus_infinity_takes_no_share(layout, name, weights, tmp_path):
    tensors, config = LAYOUTS[layout](weights)
    for layer in range(L):
        put(tensors, name.format(layer), slice(None), -np.inf)
    data, _ = export(write(tmp_path / "snapshot", tensors, config), tmp_path / "model.bin")
    same = np.frombuffer(data, np.float32) == np.frombuffer(weights.model(), np.float32)
    assert np.isneginf(np.frombuffer(data, np.float32)[~same]).all() and (~same).sum() == L * HEADS


ATTENTION_FACTOR = 0.1 * np.log(32) + 1
ROPE = {"factor": 32, "truncate": False}
SETTINGS = {  # that say what the model is, in other words
    "a factor that is the model's": {"rope_scaling": {**ROPE, "attention_factor": ATTENTION_FACTOR}},
    "the same in seven digits": {"rope_scaling": {**ROPE, "attention_factor": 1.346574}},
    "computed, with half of what overrides it": {"rope_scaling": {**ROPE, "mscale": 1.0, "mscale_all_dim": 0}},
    "computed, of two that come to the same": {"rope_scaling": {**ROPE, "mscale": 1.0, "mscale_all_dim": 1e-9}},
    "given, so not computed": {"rope_scaling": {**ROPE, "attention_factor": ATTENTION_FACTOR, "mscale": 1, "mscale_all_dim": 1}},
    "transformers' name of the kind": {"rope_scaling": {**ROPE, "rope_type": "yarn", "type": "yarn"}},
    "positions beside the context": {"max_position_embeddings": 131072},
    "fewer positions than it could": {"max_position_embeddings": 8192},
    "positions and context, so a factor": {"max_position_embeddings": 131072, "rope_scaling": {**ROPE, "factor": None}},
    "quantised as read": {"quantization_config": {"quant_method": "mxfp4"}},
    "untied": {"tie_word_embeddings": False},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_that_mean_the_model(settings, tmp_path):
    assert header_of(SETTINGS[settings], tmp_path) == header_of({}, tmp_path)


@pytest.mark.parametrize("changed", [{"attention_factor": 1.0}, {"attention_factor": 1.3466}, {"mscale": 1, "mscale_all_dim": 1},
                                     {"factor": 16, "attention_factor": ATTENTION_FACTOR}, {"mscale": 0.5, "mscale_all_dim": 1e-9}])
def test_another_attention_factor(changed, tmp_path):
    with pytest.raises(export_model.Fault, match="the rotation's " + next(name for name in changed if name != "factor")):
        header_of({"rope_scaling": {**ROPE, **changed}}, tmp_path)


def header_of(settings, folder):
    (folder / "config.json").write_text(json.dumps({**HF_CONFIG, **settings}))
    return export_model.Config.read(folder, None).header()


def check_fault(snapshot, output, *expected):
    done = run(snapshot, "-o", output)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    for text in expected:
        assert text in done.stderr, done.stderr
    assert not list(output.parent.glob(output.name + "*"))


def test_damaged_files(weights, tmp_path):
    folder = write(tmp_path / "snapshot", *LAYOUTS["openai"](weights), files=2)
    output, second = tmp_path / "model.bin", folder / "model-00002-of-00002.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-100])
    check_fault(folder, output, second.name, "cut off")
    second.write_bytes(b"GGUF" + whole)
    check_fault(folder, output, second.name)
    second.write_bytes(whole[:5])
    check_fault(folder, output, second.name)
    second.unlink()
    check_fault(folder, output, second.name, "not there")
    second.symlink_to("../blobs/123")  # as in the cache of Hugging Face
    check_fault(folder, output, second.name, "not there")
    (folder / "model.safetensors.index.json").write_text("{}")
    check_fault(folder, output, "index")
    (folder / "config.json").write_text("{")
    check_fault(folder, output, "config.json")
    check_fault(tmp_path / "nowhere", output, "nowhere")
    (tmp_path / "empty").mkdir()
    check_fault(tmp_path / "empty", output, "config.json")


def test_the_same_tensor_twice(weights, tmp_path):
    tensors, config = LAYOUTS["openai"](weights)
    folder = write(tmp_path / "snapshot", tensors, config)
    safetensors_numpy.save_file({"norm.scale": tensors["norm.scale"]}, folder / "model-more.safetensors")
    check_fault(folder, tmp_path / "model.bin", "norm.scale", "too")


def test_tensors_of_the_file_that_the_index_names(weights, tmp_path):
    """Old copies in another shard, a shard of before, an adapter, what another program reads: none is the model."""
    tensors, config = LAYOUTS["openai"](weights)
    folder = write(tmp_path / "snapshot", tensors, config, files=3)
    where = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    first, second = (f"model-0000{i}-of-00003.safetensors" for i in (1, 2))
    stale = {name: np.zeros_like(tensors[name]) for name in where if where[name] == first}
    safetensors_numpy.save_file({**stale, **{name: tensors[name] for name in where if where[name] == second}}, folder / second)
    for name in ("adapter_model", "consolidated", "model-00001-of-00002"):
        safetensors_numpy.save_file({"norm.scale": np.zeros(H, np.float32), "lora": np.zeros(3, np.float32)},
                                    folder / f"{name}.safetensors")
    done = run(folder, "-o", tmp_path / "model.bin")
    assert done.returncode == 0 and (tmp_path / "model.bin").read_bytes() == weights.model(), done.stderr
    assert done.stderr.startswith("note: left out") and done.stderr.count("\n") == 1
    for text in ("adapter_model.safetensors", "consolidated.safetensors", "model-00001-of-00002.safetensors",
                 f"{min(stale)} and {len(stale) - 1} more of {second}"):
        assert text in done.stderr


def test_helper_files_without_an_index(weights, tmp_path):
    folder = write(tmp_path / "snapshot", *LAYOUTS["openai"](weights))
    safetensors_numpy.save_file({"norm.scale": np.zeros(H, np.float32)}, folder / "adapter_model.safetensors")
    done = run(folder, "-o", tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == weights.model()
    assert "left out" in done.stderr and "adapter_model.safetensors" in done.stderr
    (tmp_path / "model.bin").unlink()
    (tmp_path / "model.bin.sha256").unlink()
    (folder / "model.safetensors").unlink()
    check_fault(folder, tmp_path / "model.bin", "no model*.safetensors but adapter_model.safetensors")


def change_a_value(tensors):
    put(tensors, "block.1.attn.sinks", 3, 0.5)


@pytest.mark.parametrize("change, named", [
    (lambda tensors: None, None), (change_a_value, "block.1.attn.sinks"),
    (lambda tensors: tensors.pop("norm.scale"), "norm.scale"),
    (lambda tensors: tensors.update({"more": np.zeros(3, np.float32)}), "more"),
    (lambda tensors: tensors.update({"norm.scale": tensors["norm.scale"].view(np.float16)}), "norm.scale"),
    (lambda tensors: tensors.update({"norm.scale": tensors["norm.scale"].reshape(2, H // 2)}), "norm.scale"),
], ids=["same", "value", "fewer", "more", "type", "shape"])
def test_a_single_file_and_an_index(change, named, weights, tmp_path):
    """Others read the single file, or the index: they must be one model, whose files the index then names."""
    tensors, config = LAYOUTS["openai"](weights)
    folder = write(tmp_path / "snapshot", tensors, config, files=2)
    change(tensors)
    safetensors_numpy.save_file(tensors, folder / "model.safetensors")
    if named:
        return check_fault(folder, tmp_path / "model.bin", "model.safetensors.index.json names", f"{named} is not as in")
    done = run(folder, "-o", tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == weights.model()
    assert done.stderr == "note: left out, as model.safetensors.index.json takes the model from elsewhere: model.safetensors\n"


def test_an_index_that_the_files_do_not_follow(weights, tmp_path):
    tensors, config = LAYOUTS["openai"](weights)
    folder, output = write(tmp_path / "snapshot", tensors, config, files=2), tmp_path / "model.bin"
    index = folder / "model.safetensors.index.json"
    where = json.loads(index.read_text())["weight_map"]

    def refused(changed, *named):
        index.write_text(json.dumps({"weight_map": {**where, **changed}}))
        check_fault(folder, output, *named)

    refused({"norm.scale": "model-00001-of-00030.safetensors"}, "model-00001-of-00030.safetensors: not there, though the index")
    other = next(file for file in where.values() if file != where["norm.scale"])
    refused({"norm.scale": other}, f"{other}: no tensor norm.scale")
    for file in ("../snapshot/" + other, "", "..", "config.json", None, ["x"], "a\nb", other + "/", "x\0.safetensors", "x" * 300):
        refused({"norm.scale": file}, "model.safetensors.index.json: not an index")
    refused({"norm.scale": "x" * 300 + ".safetensors"}, "File name too long")
    refused({"norm.scale": "\ud800.safetensors"}, r"\ud800.safetensors")
    index.write_text(json.dumps({"weight_map": {name: where[name] for name in where if name != "norm.scale"}}))
    said = run(folder, "-o", output).stderr.splitlines()
    assert "left out" in said[0] and f"norm.scale of {where['norm.scale']}" in said[0] and "no tensor norm.scale" in said[1]
    index.write_text(json.dumps({"weight_map": where}))
    (folder / "model-old.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    check_fault(folder, output, "model-old.safetensors.index.json", "is an index, too")
    (folder / "model-old.safetensors.index.json").rename(folder / "adapter_model.safetensors.index.json")
    assert export(folder, output)[0] == weights.model()


@pytest.mark.parametrize("layout", ["openai", "hugging-face-mxfp4"])
def test_tied_embeddings(layout, tmp_path):
    """The one that is there is written twice; both may be there if they are the same."""
    weights = Weights(2)
    weights.unembedding = weights.embedding
    tensors, config = LAYOUTS[layout](weights)
    names = ("embedding.weight", "unembedding.weight") if layout == "openai" else ("model.embed_tokens.weight", "lm_head.weight")
    config = {**config, "tie_word_embeddings": True}
    for there in (names, names[:1], names[1:]):
        left = {name: tensor for name, tensor in tensors.items() if name not in names or name in there}
        assert export(write(tmp_path / "snapshot", left, config), tmp_path / "model.bin")[0] == weights.model()
    (tmp_path / "model.bin").unlink()
    (tmp_path / "model.bin.sha256").unlink()
    put(tensors, names[1], (7, 9), 0.5)
    check_fault(write(tmp_path / "snapshot", tensors, config), tmp_path / "model.bin", f"{names[1]} differs from {names[0]}")
    del tensors[names[1]]
    check_fault(write(tmp_path / "snapshot", tensors, {**config, "tie_word_embeddings": False}), tmp_path / "model.bin",
                f"no tensor {names[1]}")


def test_a_part_left_by_an_interrupted_export_is_replaced(weights, tmp_path):
    (tmp_path / "model.bin.part").write_bytes(b"half")
    data, _ = export(write(tmp_path / "snapshot", *LAYOUTS["openai"](weights)), tmp_path / "model.bin")
    assert data == weights.model() and not (tmp_path / "model.bin.part").exists()


def test_two_exports_to_one_file(weights, tmp_path):
    folder, part = write(tmp_path / "snapshot", *LAYOUTS["openai"](weights)), tmp_path / "model.bin.part"
    with open(part, "wb") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        first.write(b"half")
        first.flush()
        done = run(folder, "-o", tmp_path / "model.bin")
        assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert "another export" in done.stderr and part.read_bytes() == b"half"
    assert export(folder, tmp_path / "model.bin")[0] == weights.model()


def test_outputs_that_are_no_files_of_their_own(weights, tmp_path):
    folder = write(tmp_path / "snapshot", *LAYOUTS["openai"](weights))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "link").symlink_to(folder / "config.json")
    for output in [*folder.iterdir(), tmp_path / "link"]:
        done = run(folder, "-o", output)
        assert done.returncode == 1 and "would replace what is read" in done.stderr and done.stderr.count("\n") == 1
    os.mkfifo(tmp_path / "pipe")
    done = run(folder, "-o", tmp_path / "pipe")
    assert done.returncode == 1 and "not a regular file" in done.stderr and (tmp_path / "pipe").is_fifo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_output_through_a_link(weights, tmp_path):
    folder = write(tmp_path / "snapshot", *LAYOUTS["openai"](weights))
    (tmp_path / "large").mkdir()
    (tmp_path / "model.bin").symlink_to("large/m.bin")
    assert export(folder, tmp_path / "model.bin")[0] == weights.model() == (tmp_path / "large/m.bin").read_bytes()
    assert (tmp_path / "model.bin").is_symlink() and run("--verify", tmp_path / "model.bin").returncode == 0


@pytest.mark.parametrize("name, value", [("model_type", "llama"), ("hidden_act", "gelu")])
def test_another_model(name, value, weights, tmp_path):
    tensors, config = LAYOUTS["openai"](weights)
    check_fault(write(tmp_path / "snapshot", tensors, {**config, name: value}), tmp_path / "model.bin", name, value)


def test_an_export_that_ends_leaves_the_next_ones_part(tmp_path):
    part = tmp_path / "model.bin.part"
    with contextlib.ExitStack() as second:
        with export_model.alone(part) as first:
            first.write(b"all")
            part.rename(tmp_path / "model.bin")
            second.enter_context(export_model.alone(part)).write(b"half")
        assert part.exists() and (tmp_path / "model.bin").read_bytes() == b"all"
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


def test_output_that_cannot_be_written(weights, tmp_path):
    folder = write(tmp_path / "snapshot", *LAYOUTS["openai"](weights))
    check_fault(folder, tmp_path / "nowhere" / "model.bin", "nowhere")
    (tmp_path / "file").write_text("")
    check_fault(folder, tmp_path / "file" / "model.bin", "file")
    for output in (tmp_path, "."):
        done = run(folder, "-o", output, cwd=tmp_path)
        assert done.returncode == 1 and "a folder" in done.stderr and done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "snapshot"]


def test_a_signal_leaves_nothing_behind(weights, tmp_path):
    folder = write(tmp_path / "snapshot", *LAYOUTS["openai"](weights))
    code = (f"import sys, os, signal; sys.path.insert(0, {str(ROOT / 'tools')!r}); import export_model\n"
            "expand = export_model.in_fp32\n"
            "def killed(values):\n  os.kill(os.getpid(), signal.SIGTERM)\n  return expand(values)\n"
            "export_model.in_fp32 = killed\nexport_model.main()")
    done = subprocess.run([sys.executable, "-c", code, folder, "-o", tmp_path / "model.bin"], capture_output=True, text=True)
    assert done.returncode == 1 and "interrupted" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


def snapshot_of(model, folder):
    """A model.bin as transformers would save it in BF16."""
    data = model.read_bytes()
    v, h, e, k, i, n_layers, head_dim, heads, kv_heads, seq_len, context, theta, factor, window, limit = struct.unpack_from(
        "<11i2fif", data)
    a, kv, at = heads * head_dim, kv_heads * head_dim, 60

    def take(*shape):
        nonlocal at
        values = np.frombuffer(data, np.float32, int(np.prod(shape)), at).reshape(shape)
        at += values.nbytes
        return values.astype(BF16)

    tensors = {"model.embed_tokens.weight": take(v, h), "lm_head.weight": take(v, h)}
    stacks = {"input_layernorm.weight": take(n_layers, h), "post_attention_layernorm.weight": take(n_layers, h)}
    tensors["model.norm.weight"] = take(h)
    for kind, more in (("weight", (h,)), ("bias", ())):
        qkv = take(n_layers, a + 2 * kv, *more)
        for part, begin, end in (("q", 0, a), ("k", a, a + kv), ("v", a + kv, a + 2 * kv)):
            stacks[f"self_attn.{part}_proj.{kind}"] = qkv[:, begin:end]
    for name, *shape in (("self_attn.o_proj.weight", h, a), ("self_attn.o_proj.bias", h), ("self_attn.sinks", heads),
                         ("mlp.router.weight", e, h), ("mlp.router.bias", e), ("mlp.experts.gate_up_proj", e, 2 * i, h),
                         ("mlp.experts.gate_up_proj_bias", e, 2 * i), ("mlp.experts.down_proj", e, h, i),
                         ("mlp.experts.down_proj_bias", e, h)):
        values = take(n_layers, *shape)
        stacks[name] = values.transpose(0, 1, 3, 2) if len(shape) == 3 else values
    assert at == len(data)
    for name, stack in stacks.items():
        for layer in range(n_layers):
            tensors[f"model.layers.{layer}.{name}"] = np.ascontiguousarray(stack[layer])
    return write(folder, tensors, {
        "vocab_size": v, "hidden_size": h, "num_local_experts": e, "num_experts_per_tok": k, "intermediate_size": i,
        "num_hidden_layers": n_layers, "head_dim": head_dim, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "max_seq_len": seq_len, "sliding_window": window, "swiglu_limit": limit,
        "rope_parameters": {"rope_theta": theta, "factor": factor, "truncate": False, "original_max_position_embeddings": context}}, files=2)


def test_a_model_of_the_models_tool_comes_back(seven_m, tmp_path):
    """The model that the other tests run, by way of a snapshot, is the same to the last byte."""
    data, _ = export(snapshot_of(seven_m.model, tmp_path / "snapshot"), tmp_path / "model.bin")
    assert hashlib.sha256(data).hexdigest() == hashlib.sha256(seven_m.model.read_bytes()).hexdigest()


def test_the_size_of_gpt_oss_20b_by_shapes_alone(tmp_path):
    """config.json as openai/gpt-oss-20b has it; the size is the contract's."""
    sys.path.insert(0, str(ROOT / "tools"))
    import export_model

    (tmp_path / "config.json").write_text(json.dumps({
        "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0, "eos_token_id": 200002,
        "experts_per_token": 4, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2880, "initial_context_length": 4096,
        "initializer_range": 0.02, "intermediate_size": 2880,
        "layer_types": ["sliding_attention", "full_attention"] * 12, "max_position_embeddings": 131072,
        "model_type": "gpt_oss", "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24,
        "num_key_value_heads": 8, "num_local_experts": 32, "output_router_logits": False, "pad_token_id": 199999,
        "quantization_config": {"quant_method": "mxfp4"}, "rms_norm_eps": 1e-05,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
                         "rope_type": "yarn", "truncate": False},
        "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0,
        "tie_word_embeddings": False, "use_cache": True, "vocab_size": 201088}))
    config = export_model.Config.read(tmp_path, None)
    assert config.header() == struct.pack("<11i2fif", 201088, 2880, 32, 4, 2880, 24, 64, 64, 8, 2048, 4096, 150000, 32, 128, 7)
    shapes = {"model.embed_tokens.weight": (201088, 2880), "lm_head.weight": (201088, 2880), "model.norm.weight": (2880,)}
    for layer in range(24):
        shapes.update({f"model.layers.{layer}.{name}": shape for name, shape in {
            "input_layernorm.weight": (2880,), "post_attention_layernorm.weight": (2880,), "self_attn.sinks": (64,),
            "self_attn.q_proj.weight": (4096, 2880), "self_attn.q_proj.bias": (4096,),
            "self_attn.k_proj.weight": (512, 2880), "self_attn.k_proj.bias": (512,),
            "self_attn.v_proj.weight": (512, 2880), "self_attn.v_proj.bias": (512,),
            "self_attn.o_proj.weight": (2880, 4096), "self_attn.o_proj.bias": (2880,), "mlp.router.weight": (32, 2880),
            "mlp.router.bias": (32,), "mlp.experts.gate_up_proj_blocks": (32, 5760, 90, 16),
            "mlp.experts.gate_up_proj_scales": (32, 5760, 90), "mlp.experts.gate_up_proj_bias": (32, 5760),
            "mlp.experts.down_proj_blocks": (32, 2880, 90, 16), "mlp.experts.down_proj_scales": (32, 2880, 90),
            "mlp.experts.down_proj_bias": (32, 2880)}.items()})
    tensors = {name: export_model.Tensor(name, Path("model.safetensors"), None,
                                         "U8" if name.endswith(("_blocks", "_scales")) else "BF16", shape, 0, 0)
               for name, shape in shapes.items()}
    assert 60 + 4 * sum(count for count, _ in export_model.plan_of(tensors, config)) == 83_659_028_796
