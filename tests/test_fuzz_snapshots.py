"""Snapshots damaged by bytes and by structure (config.json, the index, the headers of safetensors, tokenizer.json, which files there
are): each export ends with the complete and right file, or with one line of error and no file. 4 seconds each from a fixed seed,
with GETP_TEST_FULL=1 10 minutes. A failure names its case, which GETP_FUZZ_CASE=NUMBER starts with, and leaves its files."""

import base64
import hashlib
import json
import os
import random
import shutil
import struct
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import called

test_export_model = pytest.importorskip("test_export_model")
import export_model  # noqa: E402
import export_tokenizer  # noqa: E402
from safetensors import safe_open  # noqa: E402

FULL = os.environ.get("GETP_TEST_FULL") == "1"
SECONDS, SEED, FIRST = 600 if FULL else 4, 1, int(os.environ.get("GETP_FUZZ_CASE", 1))
SIZES = dict(V=5, H=32, E=2, TOP=1, I=32, L=2, HEAD_DIM=4, HEADS=2, KV_HEADS=1, A=8, KV=4)
INDEX, SINGLE, CONFIG = "model.safetensors.index.json", "model.safetensors", "config.json"

# ---- damage: functions of a random generator and the files, {name: bytes}, which they change -----------------------------

NAMES = ["", "x", "5", "\ud800", "a\nb", "\x1b[2J", "..", "/etc/passwd", "x\0.safetensors", "\ud800.safetensors", "y.safetensors",
         "x" * 5000, "model.safetensors", "model-00001-of-00002.safetensors", "yarn", "mxfp4", "fp8"]
HOSTILE = [None, True, False, 0, -1, 1, 2, 7, 1.5, -0.0, 1e308, 1e39, 2**31, 2**63, 2**64, float("nan"), float("inf"), 32, 128, 4096,
           131072, [], {}, [[]], [1, 2], [0, 10**9], {"a": 1}, *NAMES]
DTYPES = ["F16", "BF16", "F32", "F64", "U8", "I8", "I32", "F8_E4M3", "F8_E8M0", "F4", "BOOL", "bf16", ""]
LITERALS = [b"NaN", b"-Infinity", b"9" * 5000, b"1e999", b"-1", b"1E400", b"[" * 100_000, b"[" * 900 + b"]" * 900, b'{"a":' * 5000,
            b'"\xff"', b'"\xed\xa0\x80"', b'"\\u0000"', b"/*x*/1", b"01", b"'x'", b"", b"tru"]


def damage_bytes(rng, data, first=0, end=None):
    """Bits, cuts, repetitions, mostly within [first, end)."""
    data = bytearray(data)
    if not data:
        return b"{}"
    at = rng.randrange(first, min(end, len(data))) if end and rng.random() < 0.7 else rng.randrange(len(data))
    size = rng.choice([1, 1, 2, 8, 100])
    kind = rng.randrange(7)
    if kind == 0:
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[at] ^= 1 << rng.randrange(8)
            at = min(at + rng.randrange(4), len(data) - 1)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        del data[at:at + size]
    elif kind == 3:
        data[at:at] = data[at:at + size]
    elif kind == 4:
        data[at:at + size] = rng.choice([b"\0", b"\xff", b"\x7f", b" ", b"\n", b'"'])[:1] * len(data[at:at + size])
    elif kind == 5:
        data[at:at] = rng.choice([b"\xef\xbb\xbf", b"\xff", b"\0", b",", b"}", *LITERALS])
    else:
        data += rng.randbytes(size)
    return bytes(data)


def places(value, path=()):
    """All paths into a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def damage_json(rng, data):
    """Another value, or none, at some place; a name twice; a literal that JSON does not have."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return damage_bytes(rng, data)
    paths = [path for path in places(value) if path]
    if not paths:
        return json.dumps(rng.choice(HOSTILE)).encode()
    *way, last = rng.choice(paths)
    holder = value
    for key in way:
        holder = holder[key]
    kind = rng.randrange(8)
    if kind < 3:
        holder[last] = rng.choice(HOSTILE)
    elif kind == 3:
        del holder[last]
    elif kind == 4 and isinstance(holder, dict):
        holder[rng.choice([*NAMES, *holder])] = holder.pop(last)
    elif kind == 5:
        other = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        holder[last], holder[other] = holder[other], holder[last]
    elif kind == 6 and isinstance(holder[last], (int, float)):
        holder[last] = rng.choice([-holder[last], holder[last] + 1, holder[last] * 2, float(holder[last]), str(holder[last])])
    else:
        kept, holder[last] = holder[last], "PLACE"
        instead = rng.choice(LITERALS)
        if isinstance(holder, dict) and rng.random() < 0.5:  # twice, either first
            both = [instead, json.dumps(kept).encode()]
            rng.shuffle(both)
            instead = both[0] + b", " + json.dumps(last).encode() + b": " + both[1]
        return json.dumps(value).encode().replace(b'"PLACE"', instead, 1)
    return json.dumps(value, ensure_ascii=rng.random() < 0.8).encode(errors="surrogatepass")


def damage_header(rng, data):
    """A safetensors file whose header says something else, its length as it should be or not."""
    length = struct.unpack_from("<Q", data.ljust(8, b"\0"))[0]
    header, rest = data[8:8 + length], data[8 + length:]
    try:
        tensors = json.loads(header)
        name = rng.choice([name for name in tensors if name != "__metadata__"])
        of = tensors[name]
        begin, end = of["data_offsets"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return damage_bytes(rng, data)
    other = tensors[rng.choice(list(tensors))]
    kind = rng.randrange(12)
    if kind == 0:
        of["dtype"] = rng.choice(DTYPES)
    elif kind == 1:
        of["data_offsets"] = rng.choice([[end, begin], [begin, begin], [begin, end + 2], [begin - 2, end], [-2, end], [begin, 2**63],
                                         [2**64 - 1, 2**64], [float(begin), end], [begin], [begin, end, end], "0", None,
                                         [len(rest), len(rest) + end - begin]])
    elif kind == 2 and isinstance(other, dict):
        of["data_offsets"] = other.get("data_offsets")
    elif kind == 3 and isinstance(other, dict) and "data_offsets" in other:
        of["data_offsets"], other["data_offsets"] = other["data_offsets"], of["data_offsets"]
    elif kind == 4 and isinstance(of.get("shape"), list):
        shape = of["shape"]
        of["shape"] = rng.choice([shape[::-1], shape + [1], shape[1:], [2**32, 2**32], [-x for x in shape], [0], [float(x) for x in shape],
                                  [2**63, 2], []])
    elif kind == 5:
        tensors[rng.choice([*tensors, "norm\nscale", name + " "])] = tensors.pop(name)
    elif kind == 6:
        tensors["__metadata__"] = rng.choice(HOSTILE)
    elif kind == 7:
        tensors["zero"] = {"dtype": rng.choice(DTYPES), "shape": [0], "data_offsets": [len(rest), len(rest)]}
    elif kind == 8:
        del tensors[name]
    else:
        header = damage_json(rng, header)
    if kind < 9:
        header = json.dumps(tensors).encode()
    length = len(header)
    if rng.random() < 0.15:
        length = rng.choice([0, 1, length - 1, length + 1, length + len(rest), len(data), 2**31, 2**63, 2**64 - 1, 100_000_001])
    return struct.pack("<Q", length) + header + rest


def damage_values(rng, data):
    """Values alone: what is exported then is another model."""
    first = 8 + struct.unpack_from("<Q", data.ljust(8, b"\0"))[0]
    data = bytearray(data)
    for _ in range(rng.choice([1, 3])):
        if first < len(data):
            data[rng.randrange(first, len(data))] = rng.choice([0, 1, 0x7C, 0x7E, 0x7F, 0x80, 0xFB, 0xFC, 0xFF, rng.randrange(256)])
    return bytes(data)


def damage_files(rng, files):
    """Which files there are. A value that is no bytes: None makes a folder, a string a link."""
    name, other = rng.choice(sorted(files)), rng.choice(sorted(files))
    kind = rng.randrange(8)
    if kind == 0:
        del files[name]
    elif kind == 1:
        files[name] = rng.choice([b"", b"{}", b"[]", b"\0" * 8, None, name, other, "/nowhere"])
    elif kind == 2:
        files[name], files[other] = files[other], files[name]
    elif kind == 3:
        files[rng.choice([SINGLE, INDEX, CONFIG, "model-x.safetensors", "model-00001-of-00002.safetensors"])] = files.pop(name)
    else:
        files[rng.choice(["adapter_model.safetensors", "consolidated.00.safetensors", "model-00001-of-00009.safetensors", SINGLE,
                          "model-old.safetensors.index.json", "adapter_model.safetensors.index.json", "a\nb.safetensors"])] = files[name]


def damage(rng, files):
    """Up to three kinds of damage."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        name = rng.choice([name for name, data in files.items() if isinstance(data, bytes)] or [None])
        if name is None or rng.random() < 0.1:
            damage_files(rng, files)
            if not files:
                return
        elif name.endswith(".json"):
            files[name] = (damage_bytes if rng.random() < 0.3 else damage_json)(rng, files[name])
        else:
            kind, data = rng.random(), files[name]
            files[name] = (damage_bytes(rng, data, 0, 8 + struct.unpack_from("<Q", data.ljust(8, b"\0"))[0]) if kind < 0.3 else
                           damage_header(rng, data) if kind < 0.75 else damage_values(rng, data))


# ---- what is right -----------------------------------------------------------------------------------------------------


def model_of(folder):
    """model.bin by the contract, of a snapshot that was accepted; read with safetensors' own reader."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))

    def first(*names):
        for name in names:
            value = config
            for key in name.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                return value

    index = sorted(folder.glob("model*.index.json"))
    where = json.loads(index[0].read_text(encoding="utf-8"))["weight_map"] if index else {}
    tensors = {}
    for file in set(where.values()) or [path.name for path in folder.glob("model*.safetensors")]:
        with safe_open(folder / file, "numpy") as reader:
            tensors.update((name, reader.get_tensor(name)) for name in reader.keys() if not index or where.get(name) == file)

    def plain(*names):
        return [np.asarray(tensors[next(name for name in names if name in tensors)], np.float32)]

    def experts(name, *separators):
        for separator in separators:
            if name + separator + "blocks" in tensors:
                return [test_export_model.expanded(tensors[f"{name}{separator}blocks"], tensors[f"{name}{separator}scales"])]
        unpacked = plain(name)[0]
        return [unpacked.transpose(0, 2, 1) if name.startswith("model.") else unpacked]

    V, H, E, I, L = (int(first(*names)) for names in (
        ["vocab_size"], ["hidden_size"], ["num_local_experts", "num_experts"], ["intermediate_size"], ["num_hidden_layers"]))
    context = first("rope_parameters.original_max_position_embeddings", "rope_scaling.original_max_position_embeddings",
                    "initial_context_length")
    factor = first("rope_parameters.factor", "rope_scaling.factor", "rope_scaling_factor")
    header = struct.pack(
        "<11i2fif", V, H, E, int(first("num_experts_per_tok", "experts_per_token")), I, L, int(first("head_dim")),
        int(first("num_attention_heads")), int(first("num_key_value_heads")), int(first("max_seq_len") or 2048), int(context),
        first("rope_parameters.rope_theta", "rope_theta"), first("max_position_embeddings") / context if factor is None else factor,
        int(first("sliding_window")), 7 if first("swiglu_limit") is None else first("swiglu_limit"))
    embeddings = ["embedding.weight", "model.embed_tokens.weight"], ["unembedding.weight", "lm_head.weight"]
    if config.get("tie_word_embeddings"):
        embeddings = [embeddings[0] + embeddings[1]] * 2
    parts = [plain(*embeddings[0]), plain(*embeddings[1])]
    own = "block.{}.{}".format if "norm.scale" in tensors else "model.layers.{}.{}".format

    def each(*names, by=plain):
        for layer in range(L):
            parts.append(by(*[own(layer, name) for name in names]))

    def qkv(kind):
        for layer in range(L):
            for part in "qkv" if own(0, f"self_attn.q_proj.{kind}") in tensors else ["qkv"]:
                parts.append(plain(own(layer, f"self_attn.{part}_proj.{kind}"), own(layer, f"attn.qkv.{kind}")))

    each("attn.norm.scale", "input_layernorm.weight")
    each("mlp.norm.scale", "post_attention_layernorm.weight")
    parts.append(plain("norm.scale", "model.norm.weight"))
    qkv("weight")
    qkv("bias")
    each("attn.out.weight", "self_attn.o_proj.weight")
    each("attn.out.bias", "self_attn.o_proj.bias")
    each("attn.sinks", "self_attn.sinks")
    each("mlp.gate.weight", "mlp.router.weight")
    each("mlp.gate.bias", "mlp.router.bias")
    for matrix, bias in (("mlp1", "gate_up_proj"), ("mlp2", "down_proj")):
        for layer in range(L):
            name = own(layer, f"mlp.{matrix}_weight" if "norm.scale" in tensors else f"mlp.experts.{bias}")
            parts.append(experts(name, ".", "_"))
        each(f"mlp.{matrix}_bias", f"mlp.experts.{bias}_bias")
    values = [value for part in parts for value in part]
    assert all(np.isfinite(value).all() or value.ndim == 1 and (np.isfinite(value) | np.isneginf(value)).all() for value in values)
    return header + b"".join(np.ascontiguousarray(value).tobytes() for value in values)


# ---- the tests -----------------------------------------------------------------------------------------------------------


def fuzz(seeds, tool, options, right, folder, name, finish=lambda files: None):
    """Damages the seeds, lists of files, and looks at how the tool ends. finish: what else is done to the files."""
    began, complete, number = time.monotonic(), 0, FIRST
    while time.monotonic() - began < SECONDS:
        rng = random.Random(f"{SEED} {number}")
        files = dict(rng.choice(seeds))
        damage(rng, files)
        finish(files)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "snapshot").mkdir(parents=True)
        for file, data in files.items():
            path = folder / "snapshot" / file
            path.mkdir() if data is None else path.symlink_to(data) if isinstance(data, str) else path.write_bytes(data)
        output, start = folder / "out" / name, time.monotonic()
        output.parent.mkdir()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # a line on stderr
                done = called(tool.main, *options, folder / "snapshot", "-o", output)
            *notes, last = done.stderr.splitlines() or [""]
            assert done.returncode in (0, 1) and all(note.startswith("note: ") and note.isprintable() for note in notes), done
            if done.returncode == 0:
                assert (last == "" or last.startswith("note: ")) and last.isprintable(), done
                right(folder / "snapshot", output)
                complete += 1
            else:
                assert last.startswith("error: ") and last.isprintable() and len(last) < 3000, done
                assert not list(output.parent.iterdir()), done
            assert time.monotonic() - start < 20
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise AssertionError(f"case {number} of seed {SEED} (GETP_FUZZ_CASE={number}), files in {folder}: {error!r}") from error
        number += 1
    print(f"{number - FIRST} cases, {complete} exported")
    assert 0.02 < complete / (number - FIRST) < 0.9


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    """Small ones of each layout, as files."""
    with pytest.MonkeyPatch.context() as patch:
        for name, size in SIZES.items():
            patch.setattr(test_export_model, name, size)
        weights, made = test_export_model.Weights(), []
        for layout, files in (("openai", 1), ("openai", 3), ("hugging-face-mxfp4", 2), ("hugging-face-mxfp4-fused", 1),
                              ("hugging-face-bf16", 1), ("hugging-face-fp16", 2), ("hugging-face-fp32", 1)):
            tensors, config = test_export_model.LAYOUTS[layout](weights)
            named = {"V": "vocab_size", "H": "hidden_size", "E": "num_local_experts" if "num_local_experts" in config else "num_experts",
                     "TOP": "num_experts_per_tok" if "num_experts_per_tok" in config else "experts_per_token",
                     "I": "intermediate_size", "L": "num_hidden_layers", "HEAD_DIM": "head_dim", "HEADS": "num_attention_heads",
                     "KV_HEADS": "num_key_value_heads"}
            config = {**config, **{name: SIZES[size] for size, name in named.items()}}
            folder = tmp_path_factory.mktemp("seed")
            test_export_model.write(folder, tensors, config, files)
            made.append({path.name: path.read_bytes() for path in folder.iterdir()})
            if layout == "hugging-face-mxfp4":  # a single file and an index
                test_export_model.write(folder, tensors, config)
                made.append({path.name: path.read_bytes() for path in folder.iterdir()})
            if layout == "hugging-face-bf16":
                tensors = {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
                test_export_model.write(folder, tensors, {**config, "tie_word_embeddings": True})
                made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    return made


def test_damaged_snapshots(snapshots, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: None)

    def right(snapshot, output):
        data = output.read_bytes()
        assert data == model_of(snapshot)
        assert output.with_name("model.bin.sha256").read_text() == f"{hashlib.sha256(data).hexdigest()}  model.bin\n"
        assert len(list(output.parent.iterdir())) == 2

    fuzz(snapshots, export_model, ["--threads", 2], right, tmp_path / "case", "model.bin")


def test_damaged_tokenizers(tmp_path, monkeypatch):
    """With few ordinary tokens and special ones after them."""
    ordinary = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" a", b"\n\n"]
    first = len(ordinary)
    ranks = "".join(f"{base64.b64encode(text).decode()} {rank}\n" for rank, text in enumerate(ordinary)).encode()
    for name, value in (("FIRST_SPECIAL", first), ("VOCAB_SIZE", first + 20), ("RANKS_SHA256", hashlib.sha256(ranks).hexdigest())):
        monkeypatch.setattr(export_tokenizer, name, value)
    letter_of = {byte: letter for letter, byte in export_tokenizer.byte_letters().items()}
    vocabulary = {"".join(letter_of[byte] for byte in text): rank for rank, text in enumerate(ordinary)}
    # Few places of the vocabulary, so that the others are hit: the rest of it is put in when it is written.
    few = dict(list(vocabulary.items())[-3:])
    added = [{"id": first + i, "content": f"<|reserved_{first + i}|>", "special": True} for i in range(6)] + [
        {"id": first + 6, "content": "<think>"}]
    seeds = [{"tokenizer.json": json.dumps({"model": {"vocab": few}, "added_tokens": added}).encode(), **config}
             for config in ({}, {CONFIG: json.dumps({"vocab_size": first + 9}).encode()})]
    rest = json.dumps(dict(list(vocabulary.items())[:-3])).encode()[1:-1]

    def fill(files):
        text = files.get("tokenizer.json")
        if isinstance(text, bytes):
            files["tokenizer.json"] = text.replace(b'"vocab": {', b'"vocab": {' + rest + b", ", 1)

    def right(snapshot, output):
        tokenizer = json.loads((snapshot / "tokenizer.json").read_text(encoding="utf-8"))
        config = snapshot / CONFIG
        size = json.loads(config.read_text(encoding="utf-8"))["vocab_size"] if config.exists() else first + 20
        texts = [(float(rank), b"<0x00>" if text == b"\0" else text) for rank, text in enumerate(ordinary)]
        texts += [(float(np.float32(-1e30)), b"<|reserved_%d|>" % token) for token in range(first, size)]
        for each in tokenizer["added_tokens"]:
            if int(each["id"]) >= first:
                texts[int(each["id"])] = (texts[-1][0], each["content"].encode())
        data = struct.pack("<i", max(len(text) for _, text in texts))
        assert output.read_bytes() == data + b"".join(struct.pack("<fi", score, len(text)) + text for score, text in texts)
        assert len({text for score, text in texts if score < 0}) == size - first and list(output.parent.iterdir()) == [output]

    fuzz(seeds, export_tokenizer, ["--snapshot"], right, tmp_path / "case", "t.bin", fill)
