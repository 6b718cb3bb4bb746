"""The program from outside: command line, files, the getp flow, and every defect that a harness like this one has had."""
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import ROOT, built

PROMPTS = ["the quick brown fox", "q", "h\u00e9llo w\u00f6rld", "1234567", "q"]


def request_file(folder, prompts=PROMPTS, count=None, end="\n"):
    path = folder / "input.txt"
    lines = [str(len(prompts) if count is None else count), *prompts]
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


@pytest.fixture
def getp(run, tiny, tmp_path):
    """Runs mode getp on the tiny model: getp(input, *options) -> finished process; .output is the output file."""

    def call(source, *options, model=tiny.model, tokenizer=tiny.tokenizer, output=None, **kwargs):
        return run(model, "-m", "getp", "-i", source, "-o", output or call.output, "-z", tokenizer, *options, **kwargs)

    call.output = tmp_path / "output.txt"
    return call


def tokens(path):
    """The rows of an output file; checks its form: ids separated by one space, every line ended."""
    text = path.read_bytes().decode("ascii")
    assert text.endswith("\n")
    rows = text[:-1].split("\n")
    assert all(re.fullmatch(r"(\d+( \d+)*)?", row) for row in rows)
    return [[int(token) for token in row.split()] for row in rows]


def warnings(done):
    """The warnings and errors on stderr; a back end may tell about its device there, too."""
    return re.findall(r"^(?:warning|error): .*$", done.stderr.decode(), re.MULTILINE)


def assert_refused(done, *words):
    """One line "error: ..." with these words on stderr, exit 1, and no work begun."""
    text = done.stderr.decode()
    assert done.returncode == 1, text
    assert text.startswith("error: ") and text.count("\n") == 1, text
    for word in words:
        assert str(word) in text
    assert b"elapsed" not in done.stdout


# The flow --------------------------------------------------------------------------------------------------------------


def test_printed_lines_and_counting(getp, tmp_path):
    done = getp(request_file(tmp_path), "-n", "24")
    assert (done.returncode, warnings(done)) == (0, [])
    number = r"(\d+\.\d{6})"
    match = re.search(
        r"^requests size = \d+ B\nNum requests: 5\n(?:.*\n)*\nwarm up elapsed time\(s\): " + number +
        r"\n\nelapsed time\(s\): " + number + r", achieved throughput TPS \(tok/s\): " + number +
        r"\n\nfinish elapsed time\(s\): " + number + r"\n$", done.stdout.decode())
    assert match, done.stdout
    rows = tokens(getp.output)
    assert len(rows) == 5
    assert len(rows[1]) == 24  # a prompt of one token: as many tokens as steps, not one fewer
    seconds, speed = float(match[2]), float(match[3])
    assert speed * max(seconds, 0.001) == pytest.approx(sum(map(len, rows)), abs=1e-3)


def test_same_prompt_gives_same_tokens_at_any_place(getp, tmp_path):
    assert getp(request_file(tmp_path), "-n", "40").returncode == 0
    rows = tokens(getp.output)
    assert rows[1] == rows[4]
    assert getp(request_file(tmp_path, PROMPTS[1:3]), "-n", "40").returncode == 0
    assert tokens(getp.output) == rows[1:3]


def test_steps(getp, tmp_path):
    source = request_file(tmp_path)
    rows = {}
    for steps in 32, 24, 0, 100000:
        assert getp(source, "-n", steps).returncode == 0
        rows[steps] = tokens(getp.output)
    assert rows[24] == [row[:-8] for row in rows[32]]
    assert len(rows[0][1]) == 160  # seq_len
    assert rows[0] == rows[100000]


def test_sampling_options(getp, tmp_path):
    source = request_file(tmp_path)

    def rows(*options):
        assert getp(source, "-n", "30", *options).returncode == 0
        return tokens(getp.output)

    greedy = rows()
    assert rows("-s", "5") == greedy
    assert rows("-t", "1", "-p", "0.000001", "-s", "5") == greedy
    sampled = rows("-t", "1", "-s", "5")
    assert sampled != greedy
    assert rows("-t", "1", "-s", "5") == sampled
    assert rows("-t", "1", "-s", "6") != sampled
    assert rows("-t", "1", "-s", "5", "-p", "1") != sampled


@pytest.mark.parametrize("stop", [199999, 200002])
def test_stop_token_ends_the_row_and_counts(getp, seven_m, tmp_path, stop):
    """A model whose every logit is 0 but the stop token's."""
    model = tmp_path / "model.bin"
    shutil.copy(seven_m.model, model)
    vocab, hidden = 201088, 32
    values = np.memmap(model, np.float32, "r+", offset=60)
    values[:] = 0
    values[:vocab * hidden] = 1  # embedding
    values[(vocab + stop) * hidden:(vocab + stop + 1) * hidden] = 1  # unembedding
    layers = 2
    values[2 * vocab * hidden:][:(2 * layers + 1) * hidden] = 1  # norms
    values.flush()
    assert getp(request_file(tmp_path, ["a", "b"]), "-n", "9", model=model, tokenizer=seven_m.tokenizer).returncode == 0
    assert tokens(getp.output) == [[stop], [stop]]


# Request files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["0", "-3", "abc", "", "12x", "1.5", "2147483648", "99999999999999999999", " "])
def test_bad_count(getp, tmp_path, count):
    assert_refused(getp(request_file(tmp_path, count=count)), "input.txt", "line 1")
    assert not getp.output.exists()


@pytest.mark.parametrize("count", [" 5", "5 ", "5\t", "05"])
def test_blanks_around_the_count(getp, tmp_path, count):
    assert getp(request_file(tmp_path, count=count), "-n", "24").returncode == 0
    assert len(tokens(getp.output)) == 5


@pytest.mark.parametrize("count", [6, 2147483647])
def test_fewer_lines_than_announced(getp, tmp_path, count):
    assert_refused(getp(request_file(tmp_path, count=count)), "input.txt", count, "after line 6")
    assert not getp.output.exists()


def test_more_lines_than_announced(getp, tmp_path):
    assert getp(request_file(tmp_path, PROMPTS[:3]), "-n", "24").returncode == 0
    expected = tokens(getp.output)
    done = getp(request_file(tmp_path, count=3), "-n", "24")
    assert done.returncode == 0
    assert len(warnings(done)) == 1 and re.fullmatch(r"warning: .*input\.txt.* line 5 .*", warnings(done)[0])
    assert tokens(getp.output) == expected


@pytest.mark.parametrize("bad, line", [("", "line 3"), ("  ", None), ("x" * 300000, "line 3"), ("ab " * 50000, "line 3")],
                         ids=["empty", "blanks", "one long word", "many words"])
def test_odd_prompts_leave_their_neighbours_alone(getp, tmp_path, bad, line):
    """A blank prompt, prompts of more than `steps` tokens, lines longer than a request's row."""
    assert getp(request_file(tmp_path, [PROMPTS[0], PROMPTS[2]]), "-n", "40").returncode == 0
    expected = tokens(getp.output)
    done = getp(request_file(tmp_path, [PROMPTS[0], bad, PROMPTS[2]]), "-n", "40")
    assert done.returncode == 0
    rows = tokens(getp.output)
    assert [rows[0], rows[2]] == expected
    if line:
        assert len(warnings(done)) == 1 and warnings(done)[0].startswith("warning: ") and line in warnings(done)[0]
        assert rows[1] == []


def test_line_ends_and_byte_order_mark(getp, tmp_path):
    source = request_file(tmp_path)
    assert getp(source, "-n", "24").returncode == 0
    plain, expected = source.read_bytes(), tokens(getp.output)
    for variant in (plain.replace(b"\n", b"\r\n"), plain[:-1], b"\xef\xbb\xbf" + plain,
                    b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n")[:-2]):
        source.write_bytes(variant)
        done = getp(source, "-n", "24")
        assert (done.returncode, warnings(done)) == (0, [])
        assert tokens(getp.output) == expected


def test_unusable_input_files(getp, tmp_path):
    empty, nul = tmp_path / "empty.txt", tmp_path / "nul.txt"
    empty.write_bytes(b"")
    nul.write_bytes(b"2\nabc\nd\0ef\n")
    assert_refused(getp(tmp_path / "absent.txt"), "absent.txt", "No such file")
    assert_refused(getp(tmp_path), tmp_path, "directory")
    assert_refused(getp(empty), "empty.txt")
    assert_refused(getp(nul), "nul.txt", "line 3", "NUL")


# Output files ----------------------------------------------------------------------------------------------------------


def test_unwritable_output_is_found_before_the_work(getp, tmp_path):
    source = request_file(tmp_path)
    assert_refused(getp(source, output=tmp_path), tmp_path, "directory")
    assert_refused(getp(source, output=tmp_path / "absent" / "out.txt"), "absent", "No such file")
    before = source.read_bytes()
    assert_refused(getp(source, output=source), "-i", "-o", "same file")
    assert source.read_bytes() == before


@pytest.mark.parametrize("victim", ["model", "tokenizer"])
def test_the_output_may_not_be_the_model_or_the_tokenizer(getp, tiny, tmp_path, victim):
    copy = tmp_path / "copy.bin"
    copy.write_bytes(getattr(tiny, victim).read_bytes())
    before = copy.read_bytes()
    assert_refused(getp(request_file(tmp_path), output=copy, **{victim: copy}), "-o", "the model or the tokenizer itself")
    assert copy.read_bytes() == before


def test_failed_run_keeps_the_old_output(getp, tmp_path):
    getp.output.write_text("old results\n")
    assert_refused(getp(request_file(tmp_path, count=99)))
    assert getp.output.read_text() == "old results\n"


def test_old_output_is_replaced_whole(getp, tmp_path):
    getp.output.write_text("7 " * 100000)
    assert getp(request_file(tmp_path), "-n", "24").returncode == 0
    assert len(tokens(getp.output)) == 5
    before = getp.output.read_bytes()
    assert getp(request_file(tmp_path), "-n", "24", output="/dev/stdout").stdout.count(before) == 1


def test_full_device(getp, tmp_path):
    """The results are on stdout when the device takes none."""
    source = request_file(tmp_path)
    assert getp(source, "-n", "24").returncode == 0
    done = getp(source, "-n", "24", output="/dev/full")
    assert done.returncode == 1
    assert len(warnings(done)) == 1 and re.fullmatch(r"error: /dev/full: .*No space left.*", warnings(done)[0])
    assert getp.output.read_bytes() in done.stdout


# The model and the tokenizer -------------------------------------------------------------------------------------------


def header(**changes):
    names = ("vocab_size hidden_dim n_experts experts_per_token intermediate_dim n_layers head_dim n_attn_heads n_kv_heads "
             "seq_len initial_context_length rope_theta rope_scaling_factor sliding_window swiglu_limit").split()
    values = dict(zip(names, (512, 96, 8, 4, 96, 4, 32, 6, 2, 160, 4096, 150000.0, 32.0, 24, 7.0)))
    values.update(changes)
    return struct.pack("<11i2fif", *values.values())


BAD_MODELS = {
    "empty": lambda good: b"",
    "59 bytes": lambda good: good[:59],
    "header alone": lambda good: good[:60],
    "one byte short": lambda good: good[:-1],
    "half": lambda good: good[:len(good) // 2],
    "one value more": lambda good: good + b"\0\0\0\0",
    "text": lambda good: b"This is no model. " * 1000,
    "zeros": lambda good: bytes(len(good)),
    "other vocabulary": lambda good: header(vocab_size=513) + good[60:],
    "huge": lambda good: header(hidden_dim=2**31 - 1) + good[60:],
    "heads do not divide": lambda good: header(n_attn_heads=7) + good[60:],
    "nan": lambda good: header(rope_theta=float("nan")) + good[60:],
}


@pytest.mark.parametrize("fault", BAD_MODELS)
def test_bad_model(getp, tiny, tmp_path, fault):
    model = tmp_path / "bad.bin"
    model.write_bytes(BAD_MODELS[fault](tiny.model.read_bytes()))
    assert_refused(getp(request_file(tmp_path), model=model), model)


def test_model_header_of_these_tests_is_right(tiny):
    assert tiny.model.read_bytes()[:60] == header()


def test_absent_model(getp, tmp_path):
    assert_refused(getp(request_file(tmp_path), model=tmp_path / "absent.bin"), "absent.bin", "No such file")
    assert_refused(getp(request_file(tmp_path), model=tmp_path), tmp_path, "not a regular file")


@pytest.mark.parametrize("fault", ["absent", "empty", "truncated", "longer", "text", "directory"])
def test_bad_tokenizer(getp, tiny, tmp_path, fault):
    good, path = tiny.tokenizer.read_bytes(), tmp_path / "bad.tok"
    contents = {"empty": b"", "truncated": good[:-1], "longer": good + good, "text": b"no tokenizer " * 999}
    if fault == "directory":
        path.mkdir()
    elif fault != "absent":
        path.write_bytes(contents[fault])
    assert_refused(getp(request_file(tmp_path), tokenizer=path), path)


# Numbers that are none ---------------------------------------------------------------------------------------------------


def tensor_place(model, name, layer=0, index=0):
    """Where a value of a tensor stands in a model file, in bytes."""
    vocab, hidden, experts, _, inter, layers, head_dim, heads, kv_heads = struct.unpack("<9i", model[:36])
    wide, qkv = heads * head_dim, (heads + 2 * kv_heads) * head_dim
    at = 60
    for tensor, times, count in [
            ("embedding", 1, vocab * hidden), ("out", 1, vocab * hidden), ("rms_attn_w", layers, hidden),
            ("rms_ffn_w", layers, hidden), ("rms_out_w", 1, hidden), ("w_qkv", layers, qkv * hidden), ("b_qkv", layers, qkv),
            ("w_o", layers, hidden * wide), ("b_o", layers, hidden), ("attn_sinks", layers, heads),
            ("w_router", layers, experts * hidden), ("b_router", layers, experts),
            ("w_mlp1", layers, experts * 2 * inter * hidden), ("b_mlp1", layers, experts * 2 * inter),
            ("w_mlp2", layers, experts * hidden * inter), ("b_mlp2", layers, experts * hidden)]:
        if tensor == name:
            return at + 4 * (layer * count + index)
        at += 4 * times * count
    assert False, name


def with_values(made, path, name, values, layer=0, index=0):
    """A copy of the model with these values in one of its tensors."""
    model = bytearray(made.model.read_bytes())
    at, data = tensor_place(model, name, layer, index), np.asarray(values, "<f4").tobytes()
    model[at:at + len(data)] = data
    path.write_bytes(model)
    return path


ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # the reference's threads meet at every matrix
NO_NUMBERS = [
    ("w_mlp1", 0, 5, "nan", "layer 0, w_mlp1, index 5 is NaN"),
    ("w_mlp2", 3, 40, "inf", "layer 3, w_mlp2, index 40 is infinity"),
    ("out", 0, 1000, "nan", "out, index 1000 is NaN"),
    ("attn_sinks", 2, 1, "inf", "layer 2, attn_sinks, index 1 is infinity"),
    ("b_router", 1, 3, "-inf", "layer 1, b_router, index 3 is minus infinity"),
]


@pytest.mark.parametrize("tensor, layer, index, value, line", NO_NUMBERS, ids=[row[0] for row in NO_NUMBERS])
def test_a_weight_that_is_no_number_is_named(getp, run, tiny, tmp_path, tensor, layer, index, value, line):
    model = with_values(tiny, tmp_path / "bad.bin", tensor, [float(value)], layer, index)
    done = getp(request_file(tmp_path), "-n", "16", model=model)
    assert (done.returncode, warnings(done)) == (1, [f"error: not a number among the weights: {line}; export the model again"])
    assert b"elapsed" not in done.stdout and getp.output.read_bytes() == b""
    done = run(model, "-z", tiny.tokenizer, "-i", "the", "-n", "16")
    assert done.returncode == 1 and line in last_line(done) and done.stdout == b""


@pytest.mark.parametrize("options", [[], ["-t", "1"]])
def test_the_reference_names_it_at_the_first_step(getp, run, tiny, tmp_path, options):
    """It does not read all weights beforehand."""
    model = with_values(tiny, tmp_path / "bad.bin", "rms_ffn_w", [np.nan], 1, 7)
    line = "the logits are not numbers, nor are all weights: layer 1, rms_ffn_w, index 7 is NaN; export the model again"
    done = getp(request_file(tmp_path, ["q", "w"]), "-n", "16", "--cpu", *options, model=model)
    assert (done.returncode, warnings(done)) == (1, ["error: request 1, position 0: " + line])
    assert "stopped by an error: 0 of 2 requests are finished" in done.stderr.decode()
    assert getp.output.read_bytes() == b"\n\n"
    done = run(model, "-z", tiny.tokenizer, "-i", "q", "-n", "16", "--cpu", *options)
    assert (done.returncode, done.stderr.decode()) == (1, f"error: position 0: {line}\n")


def test_eval_does_not_call_such_outputs_equal(program, tiny, tmp_path):
    """Zeros, as a program without the check would print."""
    pytest.importorskip("tqdm")
    model = with_values(tiny, tmp_path / "bad.bin", "rms_out_w", [np.nan])
    (tmp_path / "zeros.txt").write_text("0 0 0 0\n")
    done = subprocess.run([sys.executable, ROOT / "tools/evaluate.py", "--self", model, tmp_path / "zeros.txt", "-n", "4", "-z",
                           tiny.tokenizer, "-i", request_file(tmp_path, ["q"]), "--program", program], capture_output=True,
                          text=True, env=ONE_THREAD)
    assert done.returncode == 2 and "fully equal" not in done.stdout
    assert done.stderr == ("error: the CPU reference failed: error: request 1, position 0: the logits are not numbers, nor are all "
                           "weights: rms_out_w, index 0 is NaN; export the model again\n")


def test_chat_names_it(run, seven_m, tmp_path):
    model = with_values(seven_m, tmp_path / "bad.bin", "b_mlp2", [np.inf], 1, 2)
    for flags in [], ["--cpu"]:
        done = run(model, "-z", seven_m.tokenizer, "-m", "chat", "-y", "", *flags, input=b"hi\n")
        assert done.returncode == 1 and warnings(done) == [last_line(done)], done.stderr
        assert "layer 1, b_mlp2, index 2 is infinity" in last_line(done)


def test_sinks_of_minus_infinity_take_no_part(getp, tiny, tmp_path):
    model = with_values(tiny, tmp_path / "free.bin", "attn_sinks", np.full(4 * 6, -np.inf))
    source = request_file(tmp_path)
    rows = []
    for options in [], ["--cpu"]:
        assert getp(source, "-n", "40", *options, model=model, env=ONE_THREAD).returncode == 0
        rows.append(tokens(getp.output))
    assert rows[0] == rows[1] and all(rows[0])
    assert getp(source, "-n", "40").returncode == 0 and tokens(getp.output) != rows[0]


@pytest.mark.parametrize("options", [[], ["-t", "0.7", "-s", "3"], ["--cpu"]], ids=["greedy", "drawn", "CPU"])
def test_values_that_overflow_stop_the_run(getp, tiny, tmp_path, options):
    """In one request alone, by the embedding of one of its tokens: what was finished before is kept."""
    vocabulary = read_vocabulary(tiny.tokenizer)
    hidden, token = 96, vocabulary.index(b"q")
    signs = np.where(np.arange(hidden) % 2, 1, -1)
    model = with_values(tiny, tmp_path / "big.bin", "embedding", 3.4e38 * signs, index=token * hidden)
    if "--cpu" in options:  # which squares in double: only a sum can overflow
        with_values(SimpleNamespace(model=model), model, "b_o", 3e36 * signs)
    source = request_file(tmp_path, ["1234", "1q"])
    done = getp(source, "-n", "24", *options, model=model, env={**ONE_THREAD, "GETP_BATCH": "1"})
    assert done.returncode == 1 and [len(row) for row in tokens(getp.output)] == [21, 0]
    assert warnings(done) == ["error: request 2, position 1: the logits are not numbers, though the weights are: "
                              "values overflow FP32"]
    assert "stopped by an error: 1 of 2 requests are finished" in done.stderr.decode()


@pytest.mark.parametrize("mode", ["device", "CPU", "generate"])
def test_the_lowest_temperatures_are_greedy(getp, run, tiny, tmp_path, mode):
    source = request_file(tmp_path, ["the quick", "q"])

    def text(*options):
        if mode == "generate":
            done = run(tiny.model, "-z", tiny.tokenizer, "-i", "the quick", "-n", "24", *options)
            assert done.returncode == 0
            return done.stdout
        assert getp(source, "-n", "24", *options, *(["--cpu"] if mode == "CPU" else []), env=ONE_THREAD).returncode == 0
        return getp.output.read_bytes()

    greedy = text("-t", "0")
    for temperature in "1e-38", "1e-40", "1e-400":
        assert text("-t", temperature, "-p", "0.9", "-s", "5") == greedy, temperature
    assert text("-t", "1e-40", "-p", "1", "-s", "5") == greedy


@pytest.mark.parametrize("topp", ["1e-40", "1e-60", "1e-400"])
def test_a_top_p_above_0_is_not_0(getp, tmp_path, topp):
    """Which would mean all tokens."""
    source = request_file(tmp_path, ["the quick"])
    assert getp(source, "-n", "24").returncode == 0
    greedy = tokens(getp.output)
    assert getp(source, "-n", "24", "-t", "1", "-p", topp, "-s", "5").returncode == 0 and tokens(getp.output) == greedy


# The command line ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, words", [
    ([], ["model"]),
    (["-m", "getp"], ["model"]),
    (["MODEL", "-x", "1"], ["-x"]),
    (["MODEL", "x", "1"], ["x"]),
    (["MODEL", "-tt", "1"], ["-tt"]),
    (["MODEL", "-t"], ["-t", "value"]),
    (["MODEL", "-t", "warm"], ["-t", "warm"]),
    (["MODEL", "-t", "-1"], ["-t", "-1"]),
    (["MODEL", "-t", "nan"], ["-t", "nan"]),
    (["MODEL", "-t", ""], ["-t"]),
    (["MODEL", "-p", "1.5"], ["-p", "1.5"]),
    (["MODEL", "-p", "0.5x"], ["-p", "0.5x"]),
    (["MODEL", "-n", "-1"], ["-n", "-1"]),
    (["MODEL", "-n", "ten"], ["-n", "ten"]),
    (["MODEL", "-n", "1e3"], ["-n", "1e3"]),
    (["MODEL", "-n", "99999999999999999999"], ["-n"]),
    (["MODEL", "-s", "-4"], ["-s", "-4"]),
    (["MODEL", "-s", " 4"], ["-s"]),
    (["MODEL", "-m", "talk"], ["-m", "talk"]),
    (["MODEL", "-m", "getp", "-i", "x"], ["-o"]),
    (["MODEL", "-m", "getp", "-o", "x"], ["-i"]),
    (["MODEL", "--gpu"], ["--gpu"]),
    (["MODEL", "--reasoning"], ["--reasoning", "value"]),
    (["MODEL", "--reasoning", ""], ["--reasoning", "low, medium and high"]),
    (["MODEL", "--reasoning", "Low"], ["--reasoning", "Low"]),
])
def test_bad_command_line(run, tiny, options, words):
    done = run(*[tiny.model if option == "MODEL" else option for option in options])
    assert done.returncode == 1 and done.stdout == b""
    assert re.fullmatch(r"error: .*\nhint: .*\n", done.stderr.decode())
    for word in words:
        assert word in done.stderr.decode()


def test_help(run):
    done = run("-h")
    assert done.returncode == 0 and done.stderr == b""
    for flag in "tpsniozmy":
        assert f"  -{flag} <" in done.stdout.decode()
    assert "  --cpu " in done.stdout.decode() and "  --reasoning <" in done.stdout.decode()


# generate and chat -----------------------------------------------------------------------------------------------------


def last_line(done):
    """On stderr; a device tells about itself before it."""
    return done.stderr.decode().splitlines()[-1]


@pytest.mark.parametrize("options", [["-n", "30"], ["-n", "0"], ["-n", "60", "-t", "0.8", "-s", "3"]])
def test_generate(run, tiny, options):
    generate = [tiny.model, "-z", tiny.tokenizer, "-i", "the quick brown", *options]
    done, cpu = run(*generate), run(*generate, "--cpu")
    assert done.returncode == cpu.returncode == 0
    assert done.stdout.startswith(b"the quick brown") and len(done.stdout) > 20
    assert done.stdout == cpu.stdout
    assert re.fullmatch(rb"achieved tok/s: \d+\.\d+\n", cpu.stderr)
    assert re.fullmatch(r"achieved tok/s: \d+\.\d+", last_line(done)) and "(1 requests at a time, " in done.stderr.decode()


def test_generate_uses_one_device(run, tiny):
    environment = {**os.environ, "GETP_HOST_DEVICES": "3"}
    for variables, used in [({}, ["0"]), ({"HIP_DEVICE_ID": "2"}, ["2"]), ({"HIP_DEVICE_ID": "1,2"}, ["1"]),
                            ({"GETP_HOST_MEMORY": "1M,8G"}, ["0", "1"])]:  # 0 is too small
        done = run(tiny.model, "-z", tiny.tokenizer, "-i", "the", "-n", "4", env={**environment, **variables})
        assert done.returncode == 0 and re.findall(r"^device (\d): ", done.stderr.decode(), re.MULTILINE) == used


def test_generate_without_prompt(run, tiny, seven_m):
    for options in [], ["-i", ""]:
        assert_refused(run(tiny.model, "-z", tiny.tokenizer, *options), "prompt", "-i")
        done = run(seven_m.model, "-z", seven_m.tokenizer, "-n", "4", *options)
        assert done.returncode == 0 and len(done.stdout) > 4
    assert_refused(run(tiny.model, "-z", tiny.tokenizer, "-i", "abc " * 100, "-n", "10"), "10 steps")


def test_chat(run, tiny, seven_m):
    assert_refused(run(tiny.model, "-z", tiny.tokenizer, "-m", "chat", input=b"hi\n"), "harmony", "<|start|>")
    chat = [seven_m.model, "-z", seven_m.tokenizer, "-m", "chat"]
    done = run(*chat, "--cpu", input=b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"User: \n", b"")
    for options in (["-n", "60"], ["-n", "40", "-y", "Speak of <|end|> only.", "--reasoning", "high"], ["-n", "1"],
                    ["--reasoning", "low", "-n", "8", "-y", ""]):
        done = run(*chat, *options, input=b"hi " * 5 + b"\r\n")
        assert done.returncode == 0
        assert done.stdout.startswith(b"User: Assistant: ")
        assert re.fullmatch(r"the conversation has used up its \d+ steps.*", last_line(done))


def read_vocabulary(path):
    """The bytes of each token of a tokenizer.bin."""
    data, vocabulary, at = path.read_bytes(), [], 4
    while at < len(data):
        length = struct.unpack_from("<i", data, at + 4)[0]
        vocabulary.append(data[at + 8:at + 8 + length])
        at += 8 + length
    return vocabulary


def test_chat_on_the_device_says_what_it_says_on_the_cpu(run, tiny, tmp_path):
    """A model in which each token has one successor: a message, then a header alone, which the history leaves out."""
    vocabulary = read_vocabulary(tiny.tokenizer)
    names = "start", "channel", "message", "end", "return", "call", "endoftext"
    special = {name: len(vocabulary) - 1 - i for i, name in enumerate(names)}  # in the place of merges
    for name, token in special.items():
        vocabulary[token] = b"<|%s|>" % name.encode()
    records = [struct.pack("<fi", i if i not in special.values() else -1e30, len(text)) + text for i, text in enumerate(vocabulary)]
    (tmp_path / "tokenizer.bin").write_bytes(struct.pack("<i", 64) + b"".join(records))
    a, b, c, d, e = (vocabulary.index(letter) for letter in (b"A", b"B", b"C", b"D", b"E"))  # none is of "assistant"
    successors = {special["channel"]: a, a: special["message"], special["message"]: b, b: special["end"],
                  special["end"]: special["start"], special["start"]: c, c: d, d: e, e: special["return"]}
    model, vocab, hidden = tmp_path / "model.bin", len(vocabulary), 32
    shape = dict(hidden_dim=hidden, n_experts=1, experts_per_token=1, intermediate_dim=32, n_layers=1, n_attn_heads=1, n_kv_heads=1)
    model.write_bytes(header(**shape, seq_len=1024) + bytes(4 * ((2 * vocab + 3) * hidden + 7 * 32 * 33 + 34)))
    values = np.memmap(model, np.float32, "r+", offset=60)
    values[2 * vocab * hidden:][:3 * hidden] = 1  # norms
    embedding, unembedding = values[:2 * vocab * hidden].reshape(2, vocab, hidden)
    embedding[:, 0] = 1  # all other tokens lead to <|channel|>
    unembedding[special["channel"], 0] = 1
    for i, (token, successor) in enumerate(successors.items(), 1):
        embedding[token] = np.eye(hidden)[i]
        unembedding[successor, i] = 1
    values.flush()
    chat = [model, "-z", tmp_path / "tokenizer.bin", "-m", "chat"]
    done, cpu = run(*chat, input=b"hi\nho\n"), run(*chat, "--cpu", input=b"hi\nho\n")
    assert done.returncode == cpu.returncode == 0, done.stderr
    assert done.stdout == cpu.stdout == b"User: Assistant: [A] B\n\nUser: Assistant: [A] B\n\nUser: \n"
    assert b"device 0: " in done.stderr and cpu.stderr == b""


# Many requests ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    """tests/getp_stub.cpp, compiled."""
    program = tmp_path_factory.mktemp("stub") / "getp_stub"
    subprocess.run(["g++", "-std=c++17", "-O2", ROOT / "tests/getp_stub.cpp", ROOT / "tokenizer.cpp", "-o", program],
                   check=True)
    return program


def test_twenty_thousand_requests(stub, tmp_path):
    count, steps = 20000, 1024
    source, output = request_file(tmp_path, [str(i) for i in range(count)]), tmp_path / "output.txt"
    process = subprocess.Popen([stub, source, output, str(steps)], stdout=subprocess.PIPE)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0
    assert re.search(rb"requests size = (\d+) B\nNum requests: 20000\n", printed)
    step = np.arange(steps, dtype=np.int64) * 7919
    with open(output, "rb") as file:
        for i in range(count):
            line = file.readline()
            row = np.fromstring(line, np.int64, sep=" ")
            assert np.array_equal(row, (i * 1000003 + step) % 201088), f"request {i}"
            assert line.count(b" ") == steps - 1 and line.endswith(b"\n")
        assert file.read() == b""
    print(f"peak memory {usage.ru_maxrss / 1024:.0f} MiB")
    assert usage.ru_maxrss < 450 * 1024  # rows 78 MiB, output text 133 MiB, twice while the text grows


def test_old_output_survives_when_there_is_no_room(stub, tmp_path):
    """A limit on the size of files stands for the full disk."""
    source, output = request_file(tmp_path, [str(i) for i in range(100)]), tmp_path / "output.txt"
    output.write_text("old results\n")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run([stub, source, output, "100"], capture_output=True, preexec_fn=limit, restore_signals=False)
    assert done.returncode == 1
    assert re.fullmatch(rb"error: .*output\.txt: .*File too large.*stdout.*\n", done.stderr)
    assert output.read_text() == "old results\n"
    assert done.stdout.count(b"\n") > 100  # the results


def test_results_outlive_the_reader_of_stdout(stub, tmp_path):
    source, output = request_file(tmp_path, [str(i) for i in range(100)]), tmp_path / "output.txt"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([stub, source, output, "100"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [len(row) for row in tokens(output)] == [100] * 100


# make ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, expected", [
    (["GPU=host"], r'g\+\+ --std=c\+\+17 -g -O0 run\.cpp tokenizer\.cpp -o "\$OUT" -lm'),
    (["rundebug", "GPU=host"], r'g\+\+ --std=c\+\+17 -g run\.cpp tokenizer\.cpp -o "\$OUT" -lm'),
    (["runfast", "GPU=host", "OUT=build/x/run"], r'g\+\+ --std=c\+\+17 -O3 run\.cpp tokenizer\.cpp -o "\$OUT" -lm'),
    (["runomp", "GPU=host"], r"g\+\+ --std=c\+\+17 -O3 -fopenmp -march=native .*"),
    (["runfast", "GPU=amd"], r"hipcc --std=c\+\+17 --offload-arch=gfx90a -O3 .*"),
    (["GPU=amd", "GPU_ARCH=gfx90a,gfx942"], r"hipcc --std=c\+\+17 --offload-arch=gfx90a --offload-arch=gfx942 -g -O0 .*"),
    (["runomp", "GPU=nvidia", "GPU_ARCH=sm_90"],
     r"nvcc -x cu -std=c\+\+17 -gencode arch=compute_90,code=sm_90 -O3 -Xcompiler -fopenmp -Xcompiler -march=native .*"),
    (["GPU=nvidia", "GPU_ARCH=sm_80,sm_90a"],
     r"nvcc .* -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a -g -O0 .*"),
])
def test_make_commands(arguments, expected):
    printed = subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert any(re.fullmatch(expected, line) for line in printed.splitlines()), printed


def test_a_changed_header_rebuilds_what_includes_it():
    """Of two programs, each of which includes a header, here as its compiler names it, that the other does not."""
    programs = {"build/tests/bf16_test": "tests/../hip/bf16.hpp", "build/make_model": "tools/shapes.hpp"}
    for program in programs:
        built(program, "GPU=host")
    for program, header in programs.items():
        make = ["make", "-n", "GPU=host", "-W", header, *programs]
        printed = subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        assert [other for other in programs if f"-o {other}" in printed] == [program], printed


def test_make_refuses_an_unknown_back_end():
    done = subprocess.run(["make", "-n", "GPU=abacus"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "abacus" in done.stderr
