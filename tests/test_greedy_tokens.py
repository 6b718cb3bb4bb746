"""The main job: getp through the HIP kernels gives the CPU reference's tokens.

By default on the host back end; with GETP_TEST_GPU=1 on this machine's GPU. GETP_TEST_FULL=1: all 32 prompts on 7m too.
"""

import os
import pty
import random
import re
import signal
import struct
import subprocess
import time
from types import SimpleNamespace

import numpy
import pytest

from conftest import CPU, ROOT, built

FULL = os.environ.get("GETP_TEST_FULL") == "1"
ON_GPU = os.environ.get("GETP_TEST_GPU") == "1"


@pytest.fixture(scope="session")
def programs(program):
    """The program under test, and the one that with GETP_CPU=1 is the reference."""
    if not ON_GPU:
        return program, program
    back_end = subprocess.run(["make", "-s", "backend"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[0]
    return built(f"build/tests-{back_end}/run", f"GPU={back_end}"), program


def first_prompts(folder, count):
    lines = (ROOT / "data/input.txt").read_text(encoding="utf-8").splitlines()
    path = folder / "input.txt"
    path.write_text("\n".join([str(count), *lines[1 : count + 1]]) + "\n", encoding="utf-8")
    return path


def getp(program, made, prompts, output, *options, environment=None):
    done = subprocess.run(
        [program, made.model, "-z", made.tokenizer, "-m", "getp", "-i", prompts, "-o", output, *map(str, options)],
        capture_output=True, text=True,
        # The reference's threads meet at every matrix, which small models pay for dearly where other work runs.
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})})
    assert done.returncode == 0, done.stderr
    return output.read_text().splitlines(), done


REFERENCES = {}  # by what they were made of


def assert_same(programs, made, folder, count, *options, environment=None):
    prompts = first_prompts(folder, count)
    hip, done = getp(programs[0], made, prompts, folder / "hip.txt", *options, environment=environment)
    if (made.model, count, options) not in REFERENCES:
        REFERENCES[made.model, count, options], _ = getp(programs[1], made, prompts, folder / "cpu.txt", *options, environment=CPU)
    cpu = REFERENCES[made.model, count, options]
    assert len(cpu) == count and all(cpu), "the reference itself must generate for every prompt"
    same = sum(a == b for a, b in zip(hip, cpu))
    assert hip == cpu, f"{same} of {count} requests are token-identical"
    return hip, done


def test_tiny_32_prompts_at_least_64_tokens_each(programs, tiny, tmp_path):
    hip, done = assert_same(programs, tiny, tmp_path, 32, "-n", 128)
    assert all(len(line.split()) >= 64 for line in hip)
    assert len(set(hip)) == 32, "different prompts give different outputs"
    assert "Num requests: 32" in done.stdout
    tokens = sum(len(line.split()) for line in hip)
    elapsed, rate = map(float, re.search(r"^elapsed time\(s\): (\S+), achieved throughput TPS \(tok/s\): (\S+)$",
                                         done.stdout, re.M).groups())
    assert rate == pytest.approx(tokens / elapsed, rel=0.01), "tokens counted are tokens written"


def test_7m(programs, seven_m, tmp_path):
    count, steps = (32, 64) if FULL else (4, 16)
    assert_same(programs, seven_m, tmp_path, count, "-n", steps)


def first_layers(made, folder, layers, positions):
    """The model cut to its first layers, with room for longer sequences."""
    fields = list(struct.unpack("<11i2fif", made.model.read_bytes()[:60]))
    vocab, hidden, experts, _, inter, all_layers, head_dim, heads, kv_heads = fields[:9]
    wide, qkv = heads * head_dim, (heads + 2 * kv_heads) * head_dim
    once, each = [2 * vocab * hidden, hidden], [  # a layer, in the order of the file
        hidden, hidden, qkv * hidden, qkv, hidden * wide, hidden, heads, experts * hidden, experts,
        experts * 2 * inter * hidden, experts * 2 * inter, experts * hidden * inter, experts * hidden]
    parts = [(once[0], 1)] + [(n, all_layers) for n in each[:2]] + [(once[1], 1)] + [(n, all_layers) for n in each[2:]]
    values, at, kept = numpy.fromfile(made.model, "<f4")[15:], 0, []
    for count, times in parts:
        kept.append(values[at : at + count * min(times, layers)])
        at += count * times
    assert at == values.size
    fields[5], fields[9] = layers, positions
    path = folder / "cut.bin"
    path.write_bytes(struct.pack("<11i2fif", *fields) + numpy.concatenate(kept).tobytes())
    return SimpleNamespace(model=path, tokenizer=made.tokenizer)


def prompts_of_1_to_300_tokens(folder, count):
    """Digits: neither tokenizer merges them, so a prompt has as many tokens as characters."""
    draw = random.Random(1)
    lengths = [1, 300] + [draw.randint(1, 300) for _ in range(count - 2)]
    path = folder / "input.txt"
    path.write_text("\n".join([str(count), *("".join(draw.choices("0123456789", k=n)) for n in lengths)]) + "\n")
    return path, lengths


def assert_requests_are_equal(programs, made, folder, environment, stops=False, count=200):
    prompts, lengths = prompts_of_1_to_300_tokens(folder, count)
    hip, _ = getp(programs[0], made, prompts, folder / "hip.txt", "-n", 364, environment=environment)
    cpu, _ = getp(programs[1], made, prompts, folder / "cpu.txt", "-n", 364, environment=CPU)
    assert hip == cpu, f"{sum(a == b for a, b in zip(hip, cpu))} of {count} requests are token-identical"
    if not stops:
        assert [len(line.split()) for line in hip] == [365 - length for length in lengths]


def test_prompts_of_1_to_300_tokens(programs, tiny, tmp_path):
    """At least 64 generated tokens each; of the 4 layers 2, one of each kind."""
    assert_requests_are_equal(programs, first_layers(tiny, tmp_path, 2, 364), tmp_path, {"GETP_BATCH": "16"}, count=24)


@pytest.mark.skipif(not FULL, reason="only in ./run.sh test --full")
@pytest.mark.parametrize("batch, devices", [(1, 1), (2, 1), (7, 3), (64, 3), (200, 1), (512, 1)])
def test_200_requests_at_any_batch_size(programs, tiny, tmp_path, batch, devices):
    environment = {"GETP_BATCH": str(batch), "GETP_HOST_DEVICES": str(devices)}
    assert_requests_are_equal(programs, first_layers(tiny, tmp_path, 4, 364), tmp_path, environment)


@pytest.mark.skipif(not FULL, reason="only in ./run.sh test --full")
def test_200_requests_on_7m(programs, seven_m, tmp_path):
    assert_requests_are_equal(programs, seven_m, tmp_path, {}, stops=True)


@pytest.mark.parametrize("options", [("-t", 0.8, "-p", 0.9, "-s", 7), ("-t", 1.5, "-p", 1.0, "-s", 11),
                                     ("-t", 0.3, "-p", 0.5, "-s", 3)])
def test_sampling_options_are_honoured(programs, tiny, tmp_path, options):
    sampled, _ = assert_same(programs, tiny, tmp_path, 4, "-n", 100, *options)
    greedy, _ = getp(programs[0], tiny, tmp_path / "input.txt", tmp_path / "greedy.txt", "-n", 100)
    other, _ = getp(programs[0], tiny, tmp_path / "input.txt", tmp_path / "other.txt", "-n", 100, *options[:-1], 99)
    assert sampled != greedy and sampled != other


def test_steps_above_seq_len_are_clamped(programs, tiny, tmp_path):
    full, _ = assert_same(programs, tiny, tmp_path, 2, "-n", 0)
    more, _ = getp(programs[0], tiny, tmp_path / "input.txt", tmp_path / "more.txt", "-n", 100000)
    assert more == full


@pytest.mark.skipif(ON_GPU, reason="lane orders can be chosen on the host back end only")
@pytest.mark.parametrize("wave, seed", [(32, 0), (64, 5), (32, 6)])
def test_wave_size_and_lane_order_change_nothing(programs, tiny, tmp_path, wave, seed):
    _, done = assert_same(programs, tiny, tmp_path, 3, "-n", 80,
                          environment={"GETP_HOST_WAVE": str(wave), "GETP_HOST_SEED": str(seed),
                                       "GETP_HOST_DEVICES": "2", "HIP_DEVICE_ID": "1"})
    assert devices(done) == [1]


def devices(done):
    """The numbers of the devices that a run used."""
    return [int(number) for number in re.findall(r"^device (\d+): ", done.stderr, re.M)]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_batch_size_and_devices_change_nothing(programs, tiny, tmp_path, batch, count):
    prompts = {1: 8, 2: 12}.get(batch, 32)  # one at a time takes the host back end long
    _, done = assert_same(programs, tiny, tmp_path, prompts, "-n", 64,
                          environment={"GETP_BATCH": str(batch), "GETP_HOST_DEVICES": str(count)})
    assert "\r" not in done.stderr, "progress is for terminals"
    if not ON_GPU:
        assert devices(done) == list(range(count))


@pytest.mark.skipif(ON_GPU, reason="the host back end's memory can be set")
@pytest.mark.parametrize("environment, used, left_out", [
    ({"GETP_HOST_MEMORY": "8G,64M,8G"}, [0, 2], [1]),  # an integrated GPU beside cards
    ({"GETP_HOST_MEMORY": "64M,8G"}, [1, 2], [0]),
    ({"GETP_HOST_MEMORY": "8G,64M", "HIP_DEVICE_ID": "2,0"}, [0], [2]),
    ({"GETP_HOST_MEMORY": "1M,8G", "GETP_MEMORY": "4G"}, [1, 2], [0]),  # says too much: what was allocated is freed
    ({"HIP_DEVICE_ID": " 2, 0"}, [2, 0], []),
])
def test_a_device_that_is_too_small_is_left_out(programs, tiny, tmp_path, environment, used, left_out):
    _, done = assert_same(programs, tiny, tmp_path, 8, "-n", 48, environment={"GETP_HOST_DEVICES": "3", **environment})
    assert re.findall(r"^warning: device (\d) is left out: ", done.stderr, re.M) == [str(id) for id in left_out]
    assert [id for id in devices(done) if id not in left_out] == used


@pytest.mark.skipif(ON_GPU, reason="the host back end's memory can be set")
def test_only_when_nothing_fits_does_a_run_end(programs, tiny, tmp_path):
    call = [programs[0], tiny.model, "-z", tiny.tokenizer, "-m", "getp", "-i", first_prompts(tmp_path, 2), "-o",
            tmp_path / "out.txt", "-n", "24"]

    def run(**variables):
        return subprocess.run(call, capture_output=True, text=True, env={**os.environ, "GETP_HOST_DEVICES": "2", **variables})

    done = run(GETP_HOST_MEMORY="1M,2M")
    assert done.returncode == 1 and "weights loaded" not in done.stderr
    assert re.search(r"^warning: device 0 is left out: the model needs .* but device 0 .* has 0.001 GB free", done.stderr, re.M)
    assert re.search(r"\nerror: the model needs 0.\d+ GB but device 1 .* has 0.002 GB free.*GETP_MEMORY.*\n$", done.stderr)
    for variables, said in [({"GETP_MEMORY": "lots"}, "GETP_MEMORY=lots: expected a number of bytes"),
                            ({"GETP_BATCH": "0"}, "GETP_BATCH=0: expected how many requests"),
                            ({"HIP_DEVICE_ID": "0,2"}, "HIP_DEVICE_ID=0,2: '2' names no device")]:
        done = run(**variables)  # what no device is at fault for is said once
        assert done.returncode == 1 and done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("requests", [1, 2, 5])
def test_few_requests_for_many_devices(programs, tiny, tmp_path, requests):
    assert_same(programs, tiny, tmp_path, requests, "-n", 64, environment={"GETP_HOST_DEVICES": "4"})


def test_order_and_company_of_requests_change_nothing(programs, tiny, tmp_path):
    """A request's tokens, drawn or greedy, depend neither on the batch nor on the devices; greedy ones not on its place
    in the input either."""
    prompts = first_prompts(tmp_path, 10)
    options = ("-n", 64, "-t", 0.9, "-p", 0.95, "-s", 5)
    alone, _ = getp(programs[0], tiny, prompts, tmp_path / "1.txt", *options, environment={"GETP_BATCH": "1"})
    spread, _ = getp(programs[0], tiny, prompts, tmp_path / "3x4.txt", *options,
                     environment={"GETP_BATCH": "4", "GETP_HOST_DEVICES": "3"})
    assert alone == spread and len(set(alone)) == 10
    count, *lines = prompts.read_text(encoding="utf-8").splitlines()
    turned = tmp_path / "turned.txt"
    turned.write_text("\n".join([count, *lines[::-1]]) + "\n", encoding="utf-8")
    forward, _ = getp(programs[0], tiny, prompts, tmp_path / "f.txt", "-n", 64, environment={"GETP_BATCH": "5"})
    backward, _ = getp(programs[0], tiny, turned, tmp_path / "b.txt", "-n", 64,
                       environment={"GETP_BATCH": "9", "GETP_HOST_DEVICES": "2"})
    assert forward == backward[::-1]


def test_a_window_wider_than_the_sequence_is_none(programs, tiny, tmp_path):
    """The header's 14th int is sliding_window."""
    wide = tmp_path / "wide.bin"
    model = bytearray(tiny.model.read_bytes())
    model[13 * 4 : 14 * 4] = (500).to_bytes(4, "little")
    wide.write_bytes(model)
    assert_same(programs, SimpleNamespace(model=wide, tokenizer=tiny.tokenizer), tmp_path, 4, "-n", 150)


def test_blank_and_too_long_prompts_get_an_empty_line_and_a_warning(programs, tiny, tmp_path):
    (tmp_path / "input.txt").write_text("3\nHello\n\n" + "long " * 100 + "\n")
    hip, done = getp(programs[0], tiny, tmp_path / "input.txt", tmp_path / "out.txt", "-n", 40)
    assert hip[0] and hip[1:] == ["", ""]
    assert "warning: input line 3: blank prompt" in done.stderr
    assert "warning: input line 4: " in done.stderr and "exceed the 40 steps" in done.stderr


def test_parity_switch_prints_every_stage(programs, tiny, tmp_path):
    hip, done = getp(programs[0], tiny, first_prompts(tmp_path, 1), tmp_path / "out.txt", "-n", 45,
                     environment={"GETP_PARITY": "5e-4"})
    lines = [line for line in done.stderr.splitlines() if line.startswith("parity: ")]
    generated = len(hip[0].split())  # the last residual, final norm and logits are made where a token is sampled
    assert len(lines) == 45 * (1 + 4 * 15 - 1) + 3 * generated, "every stage of every layer at every position"


def test_a_stage_that_differs_ends_the_run_at_once(programs, tiny, tmp_path):
    """Not as a device that fails would: nothing is timed, and nothing written."""
    output = tmp_path / "out.txt"
    done = subprocess.run([programs[0], tiny.model, "-z", tiny.tokenizer, "-m", "getp", "-i",
                           first_prompts(tmp_path, 2), "-o", output, "-n", "45"], capture_output=True, text=True,
                          env={**os.environ, "GETP_PARITY": "1e-12"})
    assert done.returncode == 1 and "achieved throughput" not in done.stdout and "stopped by" not in done.stderr
    assert re.fullmatch(r"error: position 0, layer \d+, .* exceeds GETP_PARITY=1e-12", done.stderr.splitlines()[-1])
    assert output.read_text() == ""


def test_a_device_that_does_not_exist_is_refused_before_any_work(programs, tiny, tmp_path):
    output = tmp_path / "out.txt"
    done = subprocess.run([programs[0], tiny.model, "-z", tiny.tokenizer, "-m", "getp", "-i",
                           first_prompts(tmp_path, 1), "-o", output], capture_output=True, text=True,
                          env={**os.environ, "HIP_DEVICE_ID": "64"})
    assert done.returncode == 1
    assert "HIP_DEVICE_ID=64: '64' names no device; set it to one of: 0 " in done.stderr


# A run that is stopped ------------------------------------------------------------------------------------------------


def many_prompts(folder, count):
    """The 32 prompts again and again."""
    lines = (ROOT / "data/input.txt").read_text(encoding="utf-8").splitlines()[1:33]
    path = folder / "many.txt"
    path.write_text("\n".join([str(count), *(lines[i % 32] for i in range(count))]) + "\n", encoding="utf-8")
    return path


def assert_stopped(output, expected, returncode, stderr, reason, code):
    """The finished requests are written, the others are empty lines, and one line and the exit code say so."""
    assert returncode == code, stderr
    lines = output.read_text().splitlines()
    finished = [i for i, line in enumerate(lines) if line]
    message = re.search(r"^stopped by (.*): (\d+) of (\d+) requests are finished; .*$", stderr, re.M)
    assert message and message.groups() == (reason, str(len(finished)), str(len(lines))), stderr
    assert 0 < len(finished) < len(lines)
    assert all(lines[i] == expected[i % 32] for i in finished)


@pytest.mark.parametrize("number, devices", [(signal.SIGINT, 3), (signal.SIGTERM, 1)])
def test_a_signal_keeps_what_is_finished(programs, tiny, tmp_path, number, devices):
    """Sent when the progress line, which a terminal gets, says that requests are finished."""
    expected, _ = getp(programs[0], tiny, first_prompts(tmp_path, 32), tmp_path / "all.txt", "-n", 64)
    output, (terminal, stderr) = tmp_path / "out.txt", pty.openpty()
    # What starts the tests may ignore Ctrl-C, as scripts let their background jobs do.
    process = subprocess.Popen([programs[0], tiny.model, "-z", tiny.tokenizer, "-m", "getp", "-i",
                                many_prompts(tmp_path, 20000), "-o", output, "-n", "64"], stdout=subprocess.PIPE, text=True,
                               stderr=stderr, env={**os.environ, "GETP_HOST_DEVICES": str(devices), "GETP_BATCH": "8"},
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    os.close(stderr)
    printed = b""
    while not re.search(rb"\r[1-9]\d* of 20000 requests done, \d+ tokens, \d+ tok/s ", printed):
        printed += os.read(terminal, 4096)
    process.send_signal(number)
    try:
        while chunk := os.read(terminal, 4096):
            printed += chunk
    except OSError:  # what Linux says once nobody holds the other end
        pass
    os.close(terminal)
    stdout, _ = process.communicate()
    text = printed.decode().replace("\r\n", "\n").replace("\r\033[K", "\n")
    assert_stopped(output, expected, process.returncode, text, number.name, 128 + number)
    assert re.search(r"elapsed time\(s\): .*\n\nfinish elapsed time\(s\): \S+\n$", stdout)
    rate = float(re.search(r"TPS \(tok/s\): (\S+)", stdout)[1])
    elapsed = float(re.search(r"^elapsed time\(s\): ([\d.]+)", stdout, re.M)[1])
    assert rate * elapsed == pytest.approx(len(output.read_text().split()), rel=0.01), "tokens counted are tokens written"


def test_a_signal_stops_the_reference_too(programs, tiny, tmp_path):
    expected, _ = getp(programs[0], tiny, first_prompts(tmp_path, 32), tmp_path / "all.txt", "-n", 64)
    output = tmp_path / "out.txt"
    process = subprocess.Popen([programs[1], tiny.model, "-z", tiny.tokenizer, "-m", "getp", "-i",
                                many_prompts(tmp_path, 20000), "-o", output, "-n", "64"], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.PIPE, env={**os.environ, **CPU, "OMP_NUM_THREADS": "1"},
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while "warm up elapsed" not in process.stdout.readline():
        pass
    time.sleep(2)  # some requests' worth
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert_stopped(output, expected, process.returncode, stderr, "SIGINT", 130)


@pytest.mark.skipif(ON_GPU, reason="only the host back end fails on request")
def test_a_device_that_fails_stops_the_run(programs, tiny, tmp_path):
    """The last of three devices, in its second request or later."""
    expected, _ = getp(programs[0], tiny, first_prompts(tmp_path, 32), tmp_path / "all.txt", "-n", 64)
    output = tmp_path / "out.txt"
    done = subprocess.run([programs[0], tiny.model, "-z", tiny.tokenizer, "-m", "getp", "-i", many_prompts(tmp_path, 1000),
                           "-o", output, "-n", "64"], capture_output=True, text=True,
                          env={**os.environ, "GETP_HOST_DEVICES": "3", "GETP_BATCH": "4", "GETP_HOST_FAIL": "9000"})
    assert_stopped(output, expected, done.returncode, done.stderr, "an error", 1)
    assert re.search(r"^error: launch of \S.* at .* failed: hipErrorLaunchFailure \(719\), .*, on device 2 \(host CPU", done.stderr,
                     re.M)
    assert "finish elapsed" in done.stdout
