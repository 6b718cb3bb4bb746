"""tools/make_model.cpp: the model file, its statistics, and the tokenizer that goes with it."""
import hashlib
import os
import resource
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
INTS = ("vocab_size hidden_dim n_experts experts_per_token intermediate_dim n_layers head_dim n_attn_heads n_kv_heads "
        "seq_len initial_context_length").split()
SHAPES = {
    "tiny": (512, 96, 8, 4, 96, 4, 32, 6, 2, 160, 4096, 150000.0, 32.0, 24, 7.0),
    "7m": (201088, 32, 32, 4, 64, 2, 32, 2, 1, 2048, 4096, 150000.0, 32.0, 128, 7.0),
}
HARMONY = {199998: "startoftext", 199999: "endoftext", 200002: "return", 200003: "constrain", 200005: "channel",
           200006: "start", 200007: "end", 200008: "message", 200012: "call"}


@pytest.fixture(scope="module")
def make_model(tmp_path_factory):
    """Compiles the tool; returns a function that runs it and gives back the finished process."""
    program = tmp_path_factory.mktemp("make_model") / "make_model"
    subprocess.run(["g++", "-std=c++17", "-O2", "-fopenmp", "-Wall", "-Wextra", "-Werror", ROOT / "tools/make_model.cpp",
                    "-o", program], check=True)

    def run(*arguments, **options):
        return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, **options)

    return run


@pytest.fixture(scope="module", params=["tiny", "7m"])
def made(request, make_model, tmp_path_factory):
    """(shape, model path, tokenizer path) for seed 1."""
    folder = tmp_path_factory.mktemp(request.param)
    model, tokenizer = folder / "model.bin", folder / "tokenizer.bin"
    done = make_model(request.param, "-o", model, "-z", tokenizer)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(os.listdir(folder)) == ["model.bin", "tokenizer.bin"]
    return request.param, model, tokenizer


def tensors(path):
    """The header as a dict, and {name: (values, mean, standard deviation)} with what each tensor should have."""
    data = path.read_bytes()
    c = dict(zip(INTS, struct.unpack_from("<11i", data)))
    v, h, e, i, layers = (c[k] for k in ("vocab_size", "hidden_dim", "n_experts", "intermediate_dim", "n_layers"))
    a = c["n_attn_heads"] * c["head_dim"]
    q = a + 2 * c["n_kv_heads"] * c["head_dim"]
    plan = [("embedding", v * h, 0, 1), ("unembedding", v * h, 0, h**-0.5), ("rms_attn", layers * h, 1, 0.1),
            ("rms_ffn", layers * h, 1, 0.1), ("rms_out", h, 1, 0.1), ("w_qkv", layers * q * h, 0, h**-0.5),
            ("b_qkv", layers * q, 0, 0.2), ("w_o", layers * h * a, 0, a**-0.5), ("b_o", layers * h, 0, 0.2),
            ("attn_sinks", layers * c["n_attn_heads"], 0, 1), ("w_router", layers * e * h, 0, h**-0.5),
            ("b_router", layers * e, 0, 0.2), ("w_mlp1", layers * e * 2 * i * h, 0, h**-0.5),
            ("b_mlp1", layers * e * 2 * i, 0, 0.2), ("w_mlp2", layers * e * h * i, 0, i**-0.5),
            ("b_mlp2", layers * e * h, 0, 0.2)]
    assert len(data) == 60 + 4 * sum(count for _, count, _, _ in plan)
    out, offset = {}, 60
    for name, count, mean, stddev in plan:
        out[name] = (np.frombuffer(data, "<f4", count, offset), mean, stddev)
        offset += 4 * count
    return out


def test_header_and_size(made):
    shape, model, _ = made
    with open(model, "rb") as file:
        assert struct.unpack("<11iffif", file.read(60)) == SHAPES[shape]
    tensors(model)  # checks the size


def test_tiny_has_the_header_of_the_golden_model(make_model, tmp_path):
    golden = os.environ.get("GETP_GOLDEN")
    if not golden:
        pytest.skip("GETP_GOLDEN is not set")
    make_model("tiny", "-o", tmp_path / "m.bin", check=True)
    reference = Path(golden, "a.bin")
    assert (tmp_path / "m.bin").read_bytes()[:60] == reference.read_bytes()[:60]
    assert (tmp_path / "m.bin").stat().st_size == reference.stat().st_size


def test_every_tensor_has_its_mean_and_standard_deviation(made):
    for name, (values, mean, stddev) in tensors(made[1]).items():
        z = (values.astype(np.float64) - mean) / stddev
        n = len(z)  # bounds: 5 standard errors, and 2e-3 for the rounding to BF16
        assert abs(z.mean()) < 5 / n**0.5 + 2e-3, name
        assert abs(z.std() - 1) < 5 / (2 * n) ** 0.5 + 2e-3, name
        assert np.abs(z).max() < 6, name


def test_values_are_normal_and_independent(made):
    values, _, stddev = tensors(made[1])["w_mlp1"]
    z = values.astype(np.float64) / stddev
    bound = 5 / len(z) ** 0.5
    for x, probability in ((0.5, 0.30854), (1, 0.15866), (2, 0.02275), (3, 0.00135)):
        deviation = (probability / len(z)) ** 0.5
        assert abs((z > x).mean() - probability) < 5 * deviation + 2e-3 * x * probability + 1e-4, x
        assert abs((z < -x).mean() - probability) < 5 * deviation + 2e-3 * x * probability + 1e-4, x
    for lag in (1, 2, 3, 32, 64, 96):
        assert abs((z[lag:] * z[:-lag]).mean()) < bound, lag
        assert abs((z[lag:] ** 2 * z[:-lag] ** 2).mean() - 1) < 5 * bound, lag


def test_tensors_and_seeds_differ(make_model, made, tmp_path):
    first = tensors(made[1])
    length = min(len(values) for values, _, _ in first.values())
    starts = {((values[:length] - mean) / stddev).round(2).tobytes() for values, mean, stddev in first.values()}
    assert len(starts) == len(first)
    make_model(made[0], "-o", tmp_path / "m.bin", "--seed", 2, check=True)
    for name, (values, _, _) in tensors(tmp_path / "m.bin").items():
        assert (values != first[name][0]).mean() > 0.9, name


def test_weights_are_bf16_exact_unless_fp32_is_asked_for(make_model, made, tmp_path):
    make_model(made[0], "-o", tmp_path / "m.bin", "--fp32", check=True)
    exact = tensors(tmp_path / "m.bin")
    for name, (values, _, _) in tensors(made[1]).items():
        assert not (values.view(np.uint32) & 0xFFFF).any(), name
        bits = exact[name][0].view(np.uint32).astype(np.uint64)
        assert (bits & 0xFFFF).any(), name
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000  # to nearest, ties to even
        assert (values.view(np.uint32) == rounded).all(), name


def nearest_in_mxfp4(values):
    """Groups of 32 by the rule of OCP Microscaling Formats 1.0, 6.3, in float64."""
    groups = values.astype(np.float64).reshape(-1, 32)
    magnitudes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    bounds = (magnitudes[1:] + magnitudes[:-1]) / 2
    scales = 2.0 ** (np.floor(np.log2(np.abs(groups).max(axis=1, keepdims=True))) - 2)
    sizes = np.abs(groups) / scales
    codes = np.searchsorted(bounds, sizes)  # the lower one of a tie
    tied = (codes < 7) & (bounds[np.minimum(codes, 6)] == sizes)
    return (np.copysign(magnitudes[codes + (tied & (codes % 2 == 1))], groups) * scales).astype(np.float32).reshape(-1)


def test_experts_in_mxfp4_are_the_nearest(make_model, made, tmp_path):
    """All else is as by default, in BF16."""
    make_model(made[0], "-o", tmp_path / "mxfp4.bin", "--mxfp4", check=True)
    make_model(made[0], "-o", tmp_path / "fp32.bin", "--fp32", check=True)
    make_model(made[0], "-o", tmp_path / "bf16.bin", "--bf16", check=True)
    assert (tmp_path / "bf16.bin").read_bytes() == made[1].read_bytes(), "the default of the small shapes"
    exact, packed = tensors(tmp_path / "fp32.bin"), tensors(tmp_path / "mxfp4.bin")
    for name, (values, _, _) in tensors(made[1]).items():
        if name in ("w_mlp1", "w_mlp2"):
            values = nearest_in_mxfp4(exact[name][0])
        assert packed[name][0].tobytes() == values.tobytes(), name


def test_ties_of_mxfp4_go_to_even_and_what_is_larger_than_6_is_6(tmp_path):
    """Values that a random model has too seldom, through the function itself."""
    groups = np.array([[7.5, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6.99, 7, 0.2, 0.3, -0.25, -5, -7.9, 0],
                       [4, 0.25, 0.26, 0.75, 0.74, 2.51, 3.49, -1.25, -1.75, -2.5, 3.5, 0, 0.24, -0.1, 3, 1.5]],
                      np.float32).repeat(2, axis=1)
    cases = np.concatenate([groups * np.float32(2) ** e for e in (-100, -9, 0, 1, 30, 100)] + [0 * groups[:1]])
    (tmp_path / "round.cpp").write_text("""
#include "%s/tools/random_weights.hpp"
#include <cstdio>
int main() {
  for (float group[32]; fread(group, sizeof group, 1, stdin);) {
    random_weights::round_to_mxfp4(group);
    fwrite(group, sizeof group, 1, stdout);
  }
}
""" % ROOT)
    subprocess.run(["g++", "-std=c++17", "-O3", "-march=native", tmp_path / "round.cpp", "-o", tmp_path / "round"], check=True)
    done = subprocess.run([tmp_path / "round"], input=cases.tobytes(), capture_output=True, check=True)
    rounded = np.frombuffer(done.stdout, np.float32)
    assert (rounded[:-32] == nearest_in_mxfp4(cases[:-1])).all()
    assert (rounded[-32:] == 0).all()
    assert rounded[128:160:2].tolist() == [6, 0, 1, 1, 2, 2, 4, 4, 6, 6, 0, 0.5, 0, -4, -6, 0]  # by hand, of the scale 1


def test_same_bytes_with_any_number_of_threads(make_model, made, tmp_path):
    make_model(made[0], "-o", tmp_path / "mxfp4.bin", "--mxfp4", check=True)
    want = {"--bf16": made[1].read_bytes(), "--mxfp4": (tmp_path / "mxfp4.bin").read_bytes()}
    for rounding, threads in (("--bf16", "1"), ("--mxfp4", "1"), ("--bf16", "2"), ("--mxfp4", "3")):
        make_model(made[0], "-o", tmp_path / "m.bin", "--seed", 1, rounding, check=True,
                   env={**os.environ, "OMP_NUM_THREADS": threads})
        assert (tmp_path / "m.bin").read_bytes() == want[rounding], (rounding, threads)


# SHA-256 of tiny's file of seed 1. --bf16's and --fp32's are those of golden outputs and of figures that were published.
HASHES = {"--bf16": "82053e1559096004c5597a178572c14bfcbc7af5757141e242ac04c5f0da53c1",
          "--fp32": "bbc540fa3e729e0663bd1f05be03861912923505b47a1779479be965670c6cf3",
          "--mxfp4": "cb4291a9eb43fc036d05cb2eaf23a331d0b6977005f8b33de2e7a17d248c703f"}


def test_same_bytes_from_other_compiler_options(tmp_path):
    """Neither fused multiply-adds, nor vector code, nor the lack of OpenMP may change a value."""
    compilers = [["g++", "-O0"], ["g++", "-O3"], ["g++", "-O3", "-march=native", "-ffp-contract=fast"],
                 ["clang++-19", "-O3", "-march=native", "-ffp-contract=on"]]
    for number, compiler in enumerate(filter(lambda words: shutil.which(words[0]), compilers)):
        program, model = tmp_path / f"p{number}", tmp_path / f"m{number}"
        subprocess.run([*compiler, "-std=c++17", "-Wno-unknown-pragmas", ROOT / "tools/make_model.cpp", "-o", program],
                       check=True)
        for rounding, expected in HASHES.items():
            subprocess.run([program, "tiny", "-o", model, rounding], check=True)
            assert hashlib.sha256(model.read_bytes()).hexdigest() == expected, (compiler, rounding)


def read_tokenizer(path):
    data = path.read_bytes()
    (longest,) = struct.unpack_from("<i", data)
    scores, texts, offset = [], [], 4
    while offset < len(data):
        score, length = struct.unpack_from("<fi", data, offset)
        assert 0 < length <= longest
        scores.append(score)
        texts.append(data[offset + 8:offset + 8 + length])
        assert len(texts[-1]) == length
        offset += 8 + length
    return longest, scores, texts


def test_tokenizer_is_well_formed(made):
    shape, _, path = made
    longest, scores, texts = read_tokenizer(path)
    assert len(texts) == SHAPES[shape][0]
    assert longest == max(map(len, texts))
    assert len(set(texts)) == len(texts)
    assert texts[:256] == [b"<0x00>"] + [bytes([byte]) for byte in range(1, 256)]
    first_special = 199998
    for token, score in enumerate(scores):
        assert score == (token if token < first_special else np.float32(-1e30)), token
    for token in range(first_special, len(texts)):
        assert texts[token].decode() == f"<|{HARMONY.get(token, f'reserved_{token}')}|>"


def test_every_merge_joins_two_tokens_of_lower_rank(made):
    _, _, texts = read_tokenizer(made[2])
    rank = {text: token for token, text in enumerate(texts)}
    for token, text in enumerate(texts[:199998]):
        if token >= 256:
            assert any(rank.get(text[:i], token) < token and rank.get(text[i:], token) < token
                       for i in range(1, len(text))), (token, text)


def bpe(rank, text):
    """Plain byte-pair encoding of one word: join the neighbours of lowest rank until none is left."""
    parts = [text[i:i + 1] for i in range(len(text))]
    while True:
        candidates = [(rank[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in rank]
        if not candidates:
            return parts
        _, i = min(candidates)
        parts[i:i + 2] = [parts[i] + parts[i + 1]]


def test_prompts_are_compressed_and_leave_room_for_answers(made):
    _, _, texts = read_tokenizer(made[2])
    rank = {text: token for token, text in enumerate(texts)}
    lines = (ROOT / "data/input.txt").read_bytes().split(b"\n")
    assert lines[0] == b"32" and len(lines) == 34 and lines[-1] == b""
    assert all(0 < len(line) < 90 for line in lines[1:33])
    for number, line in enumerate(lines[1:33]):  # words with the space before them, as pre-tokenisation cuts them, roughly
        words = line.replace(b" ", b"\n ").split(b"\n")
        tokens = sum(len(bpe(rank, word)) for word in words)
        assert tokens <= (10 if number < 4 else 50), line  # of 64 steps; the first four also suit runs of 16 steps
        if number < 5:  # languages of the text that the merges are learnt from
            assert tokens < 0.8 * len(line), line


@pytest.mark.parametrize("arguments, message", [
    ([], "which shape"),
    (["tiny"], "-o is missing"),
    (["12b", "-o", "m.bin"], "unknown shape '12b'"),
    (["tiny", "7m", "-o", "m.bin"], "unknown argument '7m'"),
    (["tiny", "-o"], "-o needs a value"),
    (["tiny", "-o", ""], "-o needs a value"),
    (["tiny", "-o", "m.bin", "--fp16"], "unknown argument '--fp16'"),
    (["tiny", "-o", "m.bin", "--mxfp4", "--fp32"], "--mxfp4, --bf16 and --fp32 exclude each other"),
    (["20b", "-o", "m.bin", "--bf16", "--mxfp4"], "exclude each other"),
    (["7m", "-o", "m.bin", "--fp32", "--bf16"], "exclude each other"),
    (["tiny", "-o", "m.bin", "--seed", "-1"], "--seed '-1'"),
    (["tiny", "-o", "m.bin", "--seed", "1e3"], "--seed '1e3'"),
    (["tiny", "-o", "m.bin", "--seed", "18446744073709551616"], "--seed"),
    (["tiny", "-o", "m.bin", "-z", "m.bin"], "same file"),
    (["tiny", "-o", "no/such/folder/m.bin"], "cannot create no/such/folder/m.bin"),
    (["tiny", "-o", "."], "not a regular file"),
    (["tiny", "-o", "/dev/null"], "not a regular file"),
])
def test_bad_arguments_get_one_line_and_leave_nothing(make_model, tmp_path, arguments, message):
    done = make_model(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_write_error_keeps_the_old_model(make_model, tmp_path):
    model = tmp_path / "m.bin"
    model.write_text("old")
    done = make_model("tiny", "-o", model, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "writing" in done.stderr and "File too large" in done.stderr
    assert model.read_text() == "old" and os.listdir(tmp_path) == ["m.bin"]


def test_disk_too_small_for_20b_is_said_before_writing(make_model, tmp_path):
    for folder in tmp_path, Path("/dev/shm"):
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < 80e9:
            model = folder / f"getp-hip-test-{os.getpid()}.bin"
            try:
                done = make_model("20b", "-o", model, timeout=20)
                assert done.returncode == 1 and done.stderr.count("\n") == 1
                assert "needs 83.659 GB" in done.stderr
                assert not list(folder.glob(model.name + "*"))
            finally:
                for left in folder.glob(model.name + "*"):
                    left.unlink()
            return
    pytest.skip("every disk here has room for 84 GB")


def test_help(make_model):
    done = make_model("--help")
    assert done.returncode == 0 and "usage: make_model" in done.stdout
