#!/usr/bin/env python3
"""Writes model.bin, which ./run reads, from a snapshot of gpt-oss: a folder with config.json and *.safetensors.

    export_model.py SNAPSHOT -o model.bin [--seq-len N]
    export_model.py --verify model.bin

Layouts: OpenAI's own (block.N...), Hugging Face's (model.layers.N...); experts in MXFP4, BF16, FP16 or FP32; in one file
or several. With a model.safetensors.index.json each tensor comes from the file that it names, else from model*.safetensors.
MXFP4 is expanded exactly. The SHA-256 goes to model.bin.sha256, which --verify and sha256sum -c read.
"""

import argparse
import contextlib
import fcntl
import hashlib
import io
import json
import math
import os
import signal
import struct
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from files import Fault, json_object, one_line, output_file, whole

CHUNK_BYTES = 32 << 20  # of FP32 that a thread makes at a time
# How values are read, and the bits of infinity, the smallest of those that are no number; 16 whole bits are BF16's.
FLOATS = {"F32": (np.float32, 0x7F800000), "F16": (np.float16, 0x7C00), "BF16": (np.uint16, 0x7F80)}
# The 16 values of FP4 (E2M1), low bits first. Source: OCP Microscaling Formats v1.0, 5.3.3.
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
FP4_PAIRS = FP4[np.stack([np.arange(256) & 15, np.arange(256) >> 4], axis=1)].view(np.uint64).ravel()  # of a byte
HEADER = "11i2fif"  # Config of run.cpp


# ---- config.json -----------------------------------------------------------------------------------------------------

REQUIRED = object()


def look_up(config, name):
    """What config.json has under a name, or None; a name with a dot looks into an object."""
    for key in name.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return config


def setting(config, path, *names, default=REQUIRED):
    """The first of the names that config.json has."""
    for name in names:
        value = look_up(config, name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
                raise Fault(f"{path}: {name} is {str(value)[:40]}, not a number below 1e9")
            return value
    if default is REQUIRED:
        raise Fault(f"{path}: no {' or '.join(names)}")
    return default


# What forward of run.cpp has as constants: where config.json says so, it must say this.
CONSTANTS = {
    ("rms_norm_eps",): 1e-5, ("swiglu_alpha",): 1.702, ("rope_ntk_alpha",): 1, ("rope_ntk_beta",): 32,
    ("rope_scaling.beta_fast", "rope_parameters.beta_fast"): 32, ("rope_scaling.beta_slow", "rope_parameters.beta_slow"): 1,
    ("rope_scaling.truncate", "rope_parameters.truncate"): False,
    ("rope_scaling.rope_type", "rope_parameters.rope_type", "rope_scaling.type", "rope_parameters.type"): "yarn",
    ("attention_bias",): True, ("model_type",): "gpt_oss", ("hidden_act",): "silu",
}


def check_constants(config, path):
    for names, expected in CONSTANTS.items():
        for name in names:
            value = look_up(config, name)
            if value is not None and value != expected:
                raise Fault(f"{path}: {name} is {value!r}; ./run computes with {expected!r}")
    for name in ("rope_parameters", "rope_scaling"):
        if not isinstance(config.get(name), (dict, type(None))):
            raise Fault(f"{path}: {name} is {config[name]!r}, not an object")
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if rope and rope.get("truncate") is None:  # then transformers truncates
        raise Fault(f"{path}: the rotation's settings have no \"truncate\": false; ./run computes without")
    layers = config.get("layer_types")
    if isinstance(layers, list) and layers != [("sliding_attention", "full_attention")[i % 2] for i in range(len(layers))]:
        raise Fault(f"{path}: layer_types: ./run computes with a sliding window in every even layer")


def check_quantization(config, path):
    for name in ("quantization_config", "compression_config"):
        quantization = config.get(name)
        if quantization is None:
            continue
        if not isinstance(quantization, dict):
            raise Fault(f"{path}: {name} is {quantization!r}, not an object")
        method = quantization.get("quant_method")
        if method is None and (quantization.get("load_in_4bit") or quantization.get("load_in_8bit")):
            method = "bitsandbytes"  # whose older versions write no name
        if method != "mxfp4":
            raise Fault(f"{path}: {name} is that of {method}, which is not read: save the model in MXFP4, BF16, FP16 or FP32")


def check_attention_factor(config, path, factor):
    """What scales the rotation's cos and sin: ./run takes it from factor, transformers from these settings where they are."""
    def of(mscale):
        return 0.1 * mscale * math.log(factor) + 1

    def given(name):
        return setting(config, path, f"rope_parameters.{name}", f"rope_scaling.{name}", default=None)

    name, value, expected = "attention_factor", given("attention_factor"), of(1)
    if value is None and given("mscale") and given("mscale_all_dim"):
        name, value, expected = "mscale", of(given("mscale")), of(1) * of(given("mscale_all_dim"))
    if value is not None and abs(value - expected) > 1e-6 * abs(expected):
        raise Fault(f"{path}: the rotation's {name} is {given(name)!r}; ./run computes with an attention_factor of {of(1)!r}, "
                    "as follows from factor")


@dataclass
class Config:
    """The fields of Config in run.cpp, in its order, and what else the plan needs."""

    vocab_size: int
    hidden_dim: int
    n_experts: int
    experts_per_token: int
    intermediate_dim: int
    n_layers: int
    head_dim: int
    n_attn_heads: int
    n_kv_heads: int
    seq_len: int
    initial_context_length: int
    rope_theta: float
    rope_scaling_factor: float
    sliding_window: int
    swiglu_limit: float
    tied: bool  # the embedding is the unembedding, too

    @classmethod
    def read(cls, snapshot, seq_len):
        path = snapshot / "config.json"
        config = json_object(path)
        check_constants(config, path)
        check_quantization(config, path)
        tied = config.get("tie_word_embeddings")
        if tied not in (None, True, False):
            raise Fault(f"{path}: tie_word_embeddings is {tied!r}, neither true nor false")

        def get(*names, **default):
            return setting(config, path, *names, **default)

        def whole(*names, least=1, **default):
            value = get(*names, **default)
            if value != int(value) or not least <= value < 2**31:
                raise Fault(f"{path}: {names[0]} is {value}, not a whole number from {least} on")
            return int(value)

        context = whole("rope_parameters.original_max_position_embeddings", "rope_scaling.original_max_position_embeddings",
                        "initial_context_length")
        factor = get("rope_parameters.factor", "rope_scaling.factor", "rope_scaling_factor", default=None)
        if factor is None:  # as transformers does
            factor = get("max_position_embeddings") / context
        made = cls(
            vocab_size=whole("vocab_size"), hidden_dim=whole("hidden_size"),
            n_experts=whole("num_local_experts", "num_experts"),
            experts_per_token=whole("num_experts_per_tok", "experts_per_token"),
            intermediate_dim=whole("intermediate_size"), n_layers=whole("num_hidden_layers"),
            head_dim=whole("head_dim"), n_attn_heads=whole("num_attention_heads"),
            n_kv_heads=whole("num_key_value_heads"),
            seq_len=seq_len or whole("max_seq_len", default=2048),
            initial_context_length=context,
            rope_theta=float(get("rope_parameters.rope_theta", "rope_theta")),
            rope_scaling_factor=float(factor),
            sliding_window=whole("sliding_window", least=0),
            # transformers writes none: its modelling code has it as a constant
            swiglu_limit=float(get("swiglu_limit", default=7.0)), tied=bool(tied))
        if made.experts_per_token > made.n_experts:
            raise Fault(f"{path}: {made.experts_per_token} experts a token of {made.n_experts}")
        if made.n_attn_heads % made.n_kv_heads:
            raise Fault(f"{path}: {made.n_attn_heads} heads do not share {made.n_kv_heads} key-value heads evenly")
        # what build_transformer of run.cpp refuses
        for name, holds in (("seq_len", made.seq_len <= 1 << 24), ("head_dim", made.head_dim % 2 == 0),
                            ("rope_theta", made.rope_theta > 1), ("rope_scaling_factor", made.rope_scaling_factor >= 1),
                            ("swiglu_limit", made.swiglu_limit > 0)):
            if not holds:
                raise Fault(f"{path}: {name} {getattr(made, name)} is not one that ./run takes")
        check_attention_factor(config, path, made.rope_scaling_factor)
        return made

    def header(self):
        *fields, _ = vars(self).values()
        return struct.pack("<" + HEADER, *fields)


# ---- the snapshot's tensors --------------------------------------------------------------------------------------------


@dataclass
class Tensor:
    """Where a tensor lies in a file."""

    name: str
    path: Path
    file: io.FileIO
    dtype: str
    shape: tuple
    begin: int
    size: int

    def read(self, first, count, dtype):
        """Elements [first, first + count)."""
        values = np.empty(count, dtype)
        view, done, at = memoryview(values.view(np.uint8)), 0, self.begin + first * values.itemsize
        while done < len(view):
            try:
                got = os.preadv(self.file.fileno(), [view[done:]], at + done)
            except OSError as error:
                raise Fault(f"{self.path}: {self.name}: {error.strerror}") from None
            if got <= 0:
                raise Fault(f"{self.path}: ends within {self.name}")
            done += got
        return values

    def floats(self, first, count, masks=False):
        """The same of a tensor of floats, all of them numbers. masks: minus infinity is one, too."""
        dtype, infinity = FLOATS[self.dtype]
        values = self.read(first, count, dtype)
        bits = values.view(f"u{values.itemsize}")
        # Two maxima are quicker than np.isfinite: among signed numbers the positive are above, among unsigned the negative.
        sign = 1 << (8 * values.itemsize - 1)
        if bits.max() >= sign | infinity or bits.view(f"i{values.itemsize}").max() >= infinity:
            with np.errstate(invalid="ignore"):
                fp32 = in_fp32(values)
            wrong = ~np.isfinite(fp32) & ~(masks & (fp32 == -np.inf))
            if wrong.any():
                at = int(wrong.argmax())
                index = ", ".join(map(str, np.unravel_index(first + at, self.shape)))
                raise Fault(f"{self.path}: {self.name}[{index}] is {fp32[at]}, no number to compute with; get an undamaged "
                            "snapshot, or convert it again in BF16 or FP32, whose range is larger than FP16's")
        return values

    def equals(self, other):
        """Is it the same, to the last bit?"""
        if (self.dtype, self.shape) != (other.dtype, other.shape):
            return False
        pieces = ((first, min(CHUNK_BYTES, self.size - first)) for first in range(0, self.size, CHUNK_BYTES))
        return all((self.read(*piece, np.uint8) == other.read(*piece, np.uint8)).all() for piece in pieces)


def tensors_in(path):
    """The tensors of a file, by name."""
    try:
        file = open(path, "rb", buffering=0)
        with safe_open(path, "numpy"):  # checks the header, and that the file is as long as it says
            pass
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    except FileNotFoundError:
        raise Fault(f"{path}: not there, though the index or a link names it; download it, or move the index away if the model "
                    "lies in other files") from None
    except OSError as error:
        raise Fault(f"{path}: {error.strerror or error}") from None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise Fault(f"{path}: cut off, or no safetensors file; download it again: {error}") from None
    tensors = {}
    for name, of in header.items():
        if name != "__metadata__":
            begin, end = of["data_offsets"]
            tensors[name] = Tensor(name, path, file, of["dtype"], tuple(of["shape"]), 8 + length + begin, end - begin)
    return tensors


def index_of(snapshot):
    """The index of tensors, and the name of the file that it gives each; None, None: there is none."""
    paths = sorted(snapshot.glob("model*.safetensors.index.json"))
    if not paths:
        return None, None
    if len(paths) > 1:
        raise Fault(f"{paths[0]}: {paths[1].name} is an index, too; move away the one that is not the model's")
    files = json_object(paths[0]).get("weight_map")
    if not isinstance(files, dict):
        raise Fault(f"{paths[0]}: not an index of tensors: no weight_map")
    for name, file in files.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors") or "\0" in file:
            raise Fault(f"{paths[0]}: not an index of tensors: the file of {name} is {file!r}, no *.safetensors beside it")
    return paths[0], files


def one_of(names):
    return min(names) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def tensors_of(snapshot):
    """The model's tensors by name: each from the file that the index names; without an index all of model*.safetensors."""
    index, file_of = index_of(snapshot)
    single, left_out = snapshot / "model.safetensors", []
    if index:
        paths = [snapshot / name for name in sorted(set(file_of.values()))]
    else:
        paths = sorted(snapshot.glob("model*.safetensors"))
    others = [path.name for path in sorted(snapshot.glob("*.safetensors")) if path not in paths]
    if not paths and not index:
        raise Fault(f"{snapshot}: no model*.safetensors{' but ' + ', '.join(others) if others else ''}: give the folder of a "
                    "whole model")
    tensors = {}
    for path in paths:
        found = tensors_in(path)
        if index:
            here = {name for name, file in file_of.items() if file == path.name}
            if not here <= found.keys():
                raise Fault(f"{path}: no tensor {min(here - found.keys())}, which is there by {index.name}; download both again")
            if len(found) > len(here):
                left_out.append(f"{one_of(found.keys() - here)} of {path.name}")
            found = {name: found[name] for name in here}
        twice = found.keys() & tensors.keys()
        if twice:
            raise Fault(f"{path}: {min(twice)} is in {tensors[min(twice)].path.name}, too")
        tensors.update(found)
    if single.name in others:  # transformers reads it, and not the index
        compare(tensors_in(single), tensors, single, index)
    if others or left_out:
        rule = f"{index.name} takes the model from elsewhere" if index else "the model is in model*.safetensors"
        print("note:", one_line(f"left out, as {rule}: {', '.join(others + left_out)}"), file=sys.stderr)
    return tensors


def compare(ours, theirs, single, index):
    """Ends where the single file does not hold the very tensors of the index."""
    with progress(sum(tensor.size for tensor in ours.values()), f"compare {single.name} with {index.name}") as bar:
        for name in sorted(ours.keys() | theirs.keys()):
            if name not in ours or name not in theirs or not ours[name].equals(theirs[name]):
                raise Fault(f"{single}: {name} is not as in the files that {index.name} names. The index would decide, but others read "
                            "this file instead: move away whichever is not the model")
            bar.update(ours[name].size)


# ---- what becomes of them ------------------------------------------------------------------------------------------------


def in_fp32(values):
    """FP32 values; those of BF16 are FP32's upper half."""
    if values.dtype != np.uint16:
        return values.astype(np.float32)
    return (values.astype(np.uint32) << 16).view(np.float32)


class Plan:
    """The chunks of model.bin in the order of the file, each a function that returns FP32 values."""

    def __init__(self, tensors, config):
        self.tensors, self.config, self.chunks, self.taken = tensors, config, [], set()

    def take(self, name, shape, dtypes):
        tensor = self.tensors.get(name)
        if tensor is None:
            raise Fault(f"the snapshot has no tensor {name}")
        if tensor.shape != shape:
            raise Fault(f"{tensor.path.name}: {name} has shape {list(tensor.shape)}; by config.json {list(shape)}")
        if tensor.dtype not in dtypes:
            raise Fault(f"{tensor.path.name}: {name} is {tensor.dtype}, not {' or '.join(dtypes)}")
        self.taken.add(name)
        return tensor

    def plain(self, name, *shape, masks=False):
        """A tensor as it is."""
        tensor, total, step = self.take(name, shape, FLOATS), math.prod(shape), CHUNK_BYTES // 4
        for first in range(0, total, step):
            count = min(step, total - first)
            self.chunks.append((count, lambda first=first, count=count: in_fp32(tensor.floats(first, count, masks))))

    def transposed(self, name, experts, n, d):
        """(experts, n, d) as (experts, d, n)."""
        tensor = self.take(name, (experts, n, d), FLOATS)
        for e in range(experts):
            self.chunks.append((n * d, lambda e=e: in_fp32(np.ascontiguousarray(tensor.floats(e * n * d, n * d).reshape(n, d).T))))

    def mxfp4(self, blocks, scales, experts, d, n):
        """Blocks (experts, d, n / 32, 16) of two FP4 values a byte, a power of two for each block."""
        if n % 32:
            raise Fault(f"{blocks}: rows of {n} values are not made of blocks of 32")
        of_blocks = self.take(blocks, (experts, d, n // 32, 16), ["U8"])
        of_scales = self.take(scales, (experts, d, n // 32), ["U8"])
        rows = max(1, CHUNK_BYTES // (4 * n))

        def expand(first, count):
            nibbles = of_blocks.read(first * n // 2, count * n // 2, np.uint8)
            exponents = of_scales.read(first * n // 32, count * n // 32, np.uint8)
            if exponents.max() > 252:  # 2^125: the next times 6 is past FP32; 255 is NaN
                index = ", ".join(map(str, np.unravel_index(first * n // 32 + int(exponents.argmax()), of_scales.shape)))
                raise Fault(f"{of_scales.path}: {scales}[{index}] is {exponents.max()}, which FP32 does not hold")
            values = FP4_PAIRS.take(nibbles).view(np.float32).reshape(-1, 32)
            values *= np.ldexp(np.float32(1), exponents.astype(np.int32) - 127)[:, None]
            return values

        for first in range(0, experts * d, rows):
            count = min(rows, experts * d - first)
            self.chunks.append((count * n, lambda first=first, count=count: expand(first, count)))

    def experts(self, name, d, n, in_rows):
        """Expert weights (E, d, n) by `name`, in the form that the snapshot has. in_rows: unpacked they are so, too."""
        experts, separators = self.config.n_experts, ("_", ".")
        for separator in separators:
            if f"{name}{separator}blocks" in self.tensors:
                return self.mxfp4(f"{name}{separator}blocks", f"{name}{separator}scales", experts, d, n)
        return self.plain(name, experts, d, n) if in_rows else self.transposed(name, experts, n, d)

    def finish(self):
        extra = self.tensors.keys() - self.taken
        if extra:
            raise Fault(f"{self.tensors[min(extra)].path.name}: {one_of(extra)}: no tensor of gpt-oss, or of a layer that "
                        "config.json does not count")


def plan_of(tensors, c):
    """All of model.bin, in the order of run.cpp's memory_map_weights."""
    plan = Plan(tensors, c)
    A, KV = c.n_attn_heads * c.head_dim, c.n_kv_heads * c.head_dim
    H, E, I, Q = c.hidden_dim, c.n_experts, c.intermediate_dim, A + 2 * KV
    layers = range(c.n_layers)
    if {"embedding.weight", "unembedding.weight"} & tensors.keys():
        names = dict(embedding="embedding.weight", unembedding="unembedding.weight", norm="norm.scale", layer="block.{}.",
                     rms_attn="attn.norm.scale", rms_ffn="mlp.norm.scale", qkv="attn.qkv", o="attn.out",
                     sinks="attn.sinks", router="mlp.gate", mlp1="mlp.mlp1_weight", mlp1_bias="mlp.mlp1_bias",
                     mlp2="mlp.mlp2_weight", mlp2_bias="mlp.mlp2_bias", in_rows=True)
    elif {"model.embed_tokens.weight", "lm_head.weight"} & tensors.keys():
        fused = "model.layers.0.self_attn.qkv_proj.weight" in tensors
        names = dict(embedding="model.embed_tokens.weight", unembedding="lm_head.weight", norm="model.norm.weight",
                     layer="model.layers.{}.", rms_attn="input_layernorm.weight",
                     rms_ffn="post_attention_layernorm.weight", qkv="self_attn.qkv_proj" if fused else None,
                     o="self_attn.o_proj", sinks="self_attn.sinks", router="mlp.router",
                     mlp1="mlp.experts.gate_up_proj", mlp1_bias="mlp.experts.gate_up_proj_bias",
                     mlp2="mlp.experts.down_proj", mlp2_bias="mlp.experts.down_proj_bias", in_rows=False)
    else:
        raise Fault("no tensor embedding.weight (OpenAI's layout) or model.embed_tokens.weight (Hugging Face's)")

    def each(convert):
        for layer in layers:
            convert(names["layer"].format(layer))

    def qkv(prefix, kind, *width):
        if names["qkv"]:
            return plan.plain(f"{prefix}{names['qkv']}.{kind}", Q, *width)
        for part, rows in (("q", A), ("k", KV), ("v", KV)):
            plan.plain(f"{prefix}self_attn.{part}_proj.{kind}", rows, *width)

    embeddings = [names["embedding"], names["unembedding"]]
    if c.tied:
        there = [name for name in embeddings if name in tensors]
        if len(there) == 2 and not tensors[there[0]].equals(tensors[there[1]]):
            raise Fault(f"{there[1]} differs from {there[0]}, but by config.json's tie_word_embeddings they are one; set it to false, "
                        f"or leave {there[1]} away")
        embeddings = [there[0], there[-1]]
    for name in embeddings:
        plan.plain(name, c.vocab_size, H)
    each(lambda p: plan.plain(p + names["rms_attn"], H))
    each(lambda p: plan.plain(p + names["rms_ffn"], H))
    plan.plain(names["norm"], H)
    each(lambda p: qkv(p, "weight", H))
    each(lambda p: qkv(p, "bias"))
    each(lambda p: plan.plain(p + names["o"] + ".weight", H, A))
    each(lambda p: plan.plain(p + names["o"] + ".bias", H))
    # A sink of minus infinity takes no share of the softmax, which is what it says.
    each(lambda p: plan.plain(p + names["sinks"], c.n_attn_heads, masks=True))
    each(lambda p: plan.plain(p + names["router"] + ".weight", E, H))
    each(lambda p: plan.plain(p + names["router"] + ".bias", E))
    each(lambda p: plan.experts(p + names["mlp1"], 2 * I, H, names["in_rows"]))
    each(lambda p: plan.plain(p + names["mlp1_bias"], E, 2 * I))
    each(lambda p: plan.experts(p + names["mlp2"], H, I, names["in_rows"]))
    each(lambda p: plan.plain(p + names["mlp2_bias"], E, H))
    plan.finish()
    return plan.chunks


# ---- writing, verifying --------------------------------------------------------------------------------------------------


def progress(total, what):
    return tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=not sys.stderr.isatty())


def in_order(chunks, threads):
    """FP32 bytes of the chunks in turn, made by `threads` threads a little ahead."""
    with ThreadPoolExecutor(threads) as pool:
        def values(make):
            return np.ascontiguousarray(make(), dtype=np.float32).reshape(-1).view(np.uint8).data

        waiting = deque()
        for _, make in chunks:
            waiting.append(pool.submit(values, make))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextlib.contextmanager
def alone(part):
    """The file, empty and open for writing by this process alone. Removed in the end, if it still has that name."""
    with open(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(part)):  # renamed since it was opened
                raise FileNotFoundError
        except (BlockingIOError, FileNotFoundError):
            raise Fault(f"{part}: another export is writing it, or was until now; wait for that one, or give another -o") from None
        except OSError:  # a file system without locks
            pass
        try:
            file.truncate(0)
            yield file
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(part)):
                    part.unlink()


def export(snapshot, output, seq_len, threads):
    if not snapshot.is_dir():
        raise Fault(f"{snapshot}: no folder; give the one with config.json and *.safetensors")
    output = output_file(output, *snapshot.iterdir())
    output_file(checksum(output), *snapshot.iterdir())
    config = Config.read(snapshot, seq_len)
    chunks = plan_of(tensors_of(snapshot), config)
    header = config.header()
    total = len(header) + 4 * sum(count for count, _ in chunks)
    part = output.with_name(output.name + ".part")
    digest, began = hashlib.sha256(header), time.monotonic()
    try:
        with alone(part) as file, progress(total, "export") as bar:
            space = os.statvfs(output.parent)
            if space.f_bavail * space.f_frsize < total:
                raise Fault(f"{output.parent}: {total / 1e9:.1f} GB needed, {space.f_bavail * space.f_frsize / 1e9:.1f} free")
            file.write(header)
            bar.update(len(header))
            for data in in_order(chunks, threads):
                file.write(data)
                digest.update(data)
                bar.update(len(data))
            file.flush()
            os.fsync(file.fileno())
            checksum(output).unlink(missing_ok=True)
            os.replace(part, output)
            checksum(output).write_text(f"{digest.hexdigest()}  {output.name}\n")
    except OSError as error:
        raise Fault(f"{output}: {error.strerror}") from None
    seconds = time.monotonic() - began
    print(f"{output}: {total:,} bytes in {seconds:.1f} s, {total / seconds / 1e6:.0f} MB/s\nsha256 {digest.hexdigest()}")


def checksum(model):
    return model.with_name(model.name + ".sha256")


def verify(model):
    model = model.resolve()
    try:
        expected = checksum(model).read_text().split()[0]
    except OSError as error:
        raise Fault(f"{checksum(model)}: {error.strerror}; it lies beside a model that was exported") from None
    except (IndexError, ValueError):
        raise Fault(f"{checksum(model)}: no checksum; export the model again") from None
    try:
        digest, size = hashlib.sha256(), model.stat().st_size
        with open(model, "rb") as file, progress(size, "verify") as bar:
            while data := file.read(CHUNK_BYTES):
                digest.update(data)
                bar.update(len(data))
    except OSError as error:
        raise Fault(f"{model}: {error.strerror}") from None
    if digest.hexdigest() != expected:
        raise Fault(f"{model}: sha256 is {digest.hexdigest()}, not {expected} of {checksum(model).name}: export it again")
    print(f"{model}: as exported\nsha256 {expected}")


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].strip())
    parser.add_argument("snapshot", nargs="?", type=Path, help="folder with config.json and *.safetensors")
    parser.add_argument("-o", "--output", type=Path, help="the file to write")
    parser.add_argument("--seq-len", type=whole(1, 1 << 24), help="positions of a sequence (default: config.json's max_seq_len, else 2048)")
    parser.add_argument("--threads", type=whole(1, 16), default=min(8, os.cpu_count() or 1),
                        help="each takes memory; default: %(default)s")
    parser.add_argument("--verify", type=Path, metavar="MODEL", help="compare a model with the checksum beside it")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        if options.verify:
            if options.snapshot or options.output or options.seq_len:
                parser.error("--verify goes alone")
            return verify(options.verify)
        if not options.snapshot or not options.output:
            parser.error("a snapshot and -o model.bin are needed")
        export(options.snapshot, options.output, options.seq_len, options.threads)
    except Fault as fault:
        sys.exit(f"error: {fault}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; run it again")


if __name__ == "__main__":
    main()
