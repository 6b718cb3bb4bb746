"""The programs that AMD's compilers build, executed on the simulated AMD device (docs/AMDSIM.md): getp, and what ends it.

The GoogleTest programs on the simulated device are run by tests/suite.py.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import CPU, ROOT, built
from test_greedy_tokens import first_prompts, getp

FULL = os.environ.get("GETP_TEST_FULL") == "1"


def what_amdsim_lacks():
    """The Debian packages to install, or the HIP that would be needed; empty if all is here."""
    wanted = {"hipcc": shutil.which("hipcc"), "clang-19": shutil.which("clang++-19"),
              "clang-tools-19": shutil.which("clang-offload-bundler-19"), "lld-19": shutil.which("ld.lld-19"),
              "llvm-19-dev": Path("/usr/lib/llvm-19/include/llvm-c/Disassembler.h").exists(),
              "nlohmann-json3-dev": Path("/usr/include/nlohmann/json.hpp").exists()}
    missing = [package for package, found in wanted.items() if not found]
    if not missing and not re.search(r"^HIP version: 5\.", subprocess.run(["hipcc", "--version"], capture_output=True,
                                                                           text=True).stdout, re.M):
        missing = ["HIP 5"]
    return " ".join(missing)


needs_amdsim = pytest.mark.skipif(bool(what_amdsim_lacks()),
                                  reason=f"the simulated AMD device needs what is not here: {what_amdsim_lacks()}")
pytestmark = needs_amdsim

HIPCC, CLANG = "hipcc-gfx90a-O3", "clang-gfx90a+gfx942+gfx1100+gfx1151-O3"


@pytest.fixture(scope="session")
def programs():
    """run by what it was built with."""
    built("amdsim")
    return {build: built(f"build/amdsim/tests/{build}/run") for build in (HIPCC, CLANG)}


def device(amdsim, **environment):
    return {"LD_LIBRARY_PATH": str(ROOT / "build/amdsim"), "AMDSIM": amdsim, **environment}


@pytest.fixture(scope="session")
def expected(program, seven_m, tmp_path_factory):
    """The prompts, and the CPU reference's tokens for them."""
    folder = tmp_path_factory.mktemp("amdsim")
    prompts = first_prompts(folder, 8)
    lines, _ = getp(program, seven_m, prompts, folder / "cpu.txt", "-n", 32, environment=CPU)
    assert len(lines) == 8 and all(lines)
    return prompts, lines


in_full = pytest.mark.skipif(not FULL, reason="only in ./run.sh test --full")


# Waves in an order drawn from a seed find what the plain order does; that is in --full.
@pytest.mark.parametrize("build, amdsim, environment, card", [
    pytest.param(HIPCC, "gfx90a", {}, "0: AMD Instinct MI250 (one GCD)", marks=in_full),
    (HIPCC, "gfx90a", {"AMDSIM_SEED": "7"}, "0: AMD Instinct MI250 (one GCD)"),
    (HIPCC, "gfx90a:3", {}, "2: AMD Instinct MI250 (one GCD)"),
    pytest.param(CLANG, "gfx942", {}, "0: AMD Instinct MI300X", marks=in_full),
    (CLANG, "gfx942", {"AMDSIM_SEED": "8"}, "0: AMD Instinct MI300X"),
    pytest.param(CLANG, "gfx1100", {}, "0: AMD Radeon RX 7900 XTX", marks=in_full),
    (CLANG, "gfx1100", {"AMDSIM_SEED": "9"}, "0: AMD Radeon RX 7900 XTX"),
])
def test_getp_gives_the_references_tokens(programs, seven_m, expected, tmp_path, build, amdsim, environment, card):
    prompts, tokens = expected
    lines, done = getp(programs[build], seven_m, prompts, tmp_path / "out.txt", "-n", 32,
                       environment=device(amdsim, **environment))
    assert lines == tokens, f"{sum(a == b for a, b in zip(lines, tokens))} of 8 requests are token-identical"
    assert f"device {card} (amd back end)" in done.stderr


def test_one_of_several_devices(programs, program, tiny, tmp_path):
    prompts = first_prompts(tmp_path, 2)
    tokens, _ = getp(program, tiny, prompts, tmp_path / "cpu.txt", "-n", 40, environment=CPU)
    lines, done = getp(programs[HIPCC], tiny, prompts, tmp_path / "out.txt", "-n", 40,
                       environment=device("gfx90a:4", HIP_DEVICE_ID="3"))
    assert lines == tokens and "device 3: AMD Instinct MI250 (one GCD) (amd back end)" in done.stderr
    assert "device 0" not in done.stderr


def test_products_of_many_rows_are_bound_by_the_matrix_cores():
    """At full batches nothing that the simulated card counts keeps its matrix cores from 80 % of their peak."""
    done = subprocess.run(["tools/amd_bound.py", "1870"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for product in ["w_qkv", "w_o", "w_mlp1", "w_mlp2", "w_out"]:
        found = re.search(rf"^\| {product} \| [\d.]+ matrix, (\d+) % \|$", done.stdout, re.M)
        assert found and int(found[1]) >= 80, f"{product}:\n{done.stdout}"
        assert re.search(rf"^\| {product} .*\| 0 % \| 1.0\d \|$", done.stdout, re.M), f"{product} conflicts:\n{done.stdout}"


def test_the_bytes_of_a_bound_follow_the_form():
    """Of one row of w_mlp1: four experts, and what goes in and out."""
    def bound(*arguments):
        return subprocess.run([ROOT / "build/amdsim/amd_bound-gfx90a", "w_mlp1", "1", "2", *arguments], capture_output=True,
                              text=True, env={**os.environ, "LD_LIBRARY_PATH": str(ROOT / "build/amdsim"), "AMDSIM": "gfx90a"})

    subprocess.run(["tools/amd_bound.py", "1"], cwd=ROOT, check=True, capture_output=True)  # builds it
    d, n = 2 * 2880, 2880
    rest = 4 * (4 * d + 2 * 2 * n + 4 * d)
    assert bound().stdout == bound("mxfp4").stdout
    for form, strip in (("mxfp4", 23 * 1088), ("fp16", 2 * 16 * n)):  # 23 groups of four steps of 32 k
        launches, _, moved, _ = map(int, bound(form).stdout.split())
        assert (launches, moved) == (24, rest + 4 * strip * d // 16), form
    assert bound("fp8").returncode == 1 and "no form 'fp8'" in bound("fp8").stderr


@in_full
@pytest.mark.parametrize("architecture", ["gfx942", "gfx1100"])
def test_getp_of_all_prompts(programs, program, seven_m, tmp_path, architecture):
    prompts = first_prompts(tmp_path, 32)
    cpu, _ = getp(program, seven_m, prompts, tmp_path / "cpu.txt", "-n", 64, environment=CPU)
    hip, _ = getp(programs[CLANG], seven_m, prompts, tmp_path / "hip.txt", "-n", 64, environment=device(architecture))
    assert hip == cpu


def refusal(programs, tiny, tmp_path, build, amdsim, **environment):
    """What getp says when it ends with an error."""
    done = subprocess.run([programs[build], tiny.model, "-z", tiny.tokenizer, "-m", "getp", "-i", first_prompts(tmp_path, 1),
                           "-o", tmp_path / "out.txt", "-n", "16"], capture_output=True, text=True,
                          env={**os.environ, **device(amdsim, **environment)})
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("amdsim", ["gfx906", "gfx90a:", "gfx90a:0", "gfx90a:65", "gfx90a:two", "4"])
def test_a_device_that_is_not_simulated_is_refused(programs, tiny, tmp_path, amdsim):
    assert f"AMDSIM={amdsim}: set it to gfx90a, gfx942 or gfx1100" in refusal(programs, tiny, tmp_path, HIPCC, amdsim)


def test_a_program_without_code_for_the_device_is_refused(programs, tiny, tmp_path):
    message = refusal(programs, tiny, tmp_path, HIPCC, "gfx942")
    assert re.fullmatch(r"error: device 0 .*not built for gfx942; build it with GPU_ARCH=gfx942 .*\n", message)


@pytest.fixture(scope="session")
def other_cards(tmp_path_factory):
    """other_cards(ARCHITECTURES=..., ...): the environment in which the simulated devices are other cards."""
    shim = tmp_path_factory.mktemp("shim") / "other_cards.so"
    subprocess.run(["g++", "-shared", "-fPIC", ROOT / "tests/other_cards.cpp", "-o", shim, "-ldl"], check=True)
    return lambda **variables: {"LD_PRELOAD": str(shim), **{f"OTHER_{name}": value for name, value in variables.items()}}


SMALL = str(64 << 20)
NO_TILE = "has no matrix instructions"


@pytest.mark.parametrize("cards, left_out, why", [
    ({"ARCHITECTURES": "gfx90a:sramecc+:xnack-,gfx1036"}, 1, f"gfx1036 {NO_TILE}"),
    ({"ARCHITECTURES": "gfx1030,gfx90a"}, 0, f"gfx1030 {NO_TILE}"),
    ({"ARCHITECTURES": "gfx90a,gfx942:sramecc+:xnack-", "NO_CODE": "1"}, 1, "not built for gfx942; build it with GPU_ARCH=gfx942"),
    ({"MEMORY": f"8589934592,{SMALL}"}, 1, "the model needs 0.137 GB"),
    ({"MEMORY": f"{SMALL},8589934592"}, 0, "the model needs 0.137 GB"),
    ({"MEMORY": "0,8589934592"}, 0, "the runtime cannot tell the memory of device 0 "),
])
def test_a_card_that_cannot_serve_is_left_out(programs, program, tiny, tmp_path, other_cards, cards, left_out, why):
    prompts = first_prompts(tmp_path, 2)
    tokens, _ = getp(program, tiny, prompts, tmp_path / "cpu.txt", "-n", 40, environment=CPU)
    lines, done = getp(programs[HIPCC], tiny, prompts, tmp_path / "out.txt", "-n", 40,
                       environment=device("gfx90a:2", **other_cards(**cards)))
    assert lines == tokens
    (line,) = re.findall(r"^warning: .*$", done.stderr, re.M)
    assert line.startswith(f"warning: device {left_out} is left out: ") and why in line
    assert f"device {1 - left_out}: AMD" in done.stderr


def test_memory_is_what_getp_memory_says(programs, tiny, tmp_path, other_cards):
    _, done = getp(programs[HIPCC], tiny, first_prompts(tmp_path, 2), tmp_path / "out.txt", "-n", 40,
                   environment=device("gfx90a:2", GETP_MEMORY="24G", **other_cards(MEMORY=f"0,{SMALL}")))
    assert re.findall(r"of 25.770 GB free, (\S+) GB in all", done.stderr) == ["25.770", "25.770"]
    assert "warning" not in done.stderr


@pytest.mark.parametrize("architecture", ["gfx906:sramecc-:xnack-", "gfx908", "gfx1030", "gfx1036", "gfx1201"])
def test_a_card_without_a_tile_is_refused_by_name(programs, tiny, tmp_path, other_cards, architecture):
    message = refusal(programs, tiny, tmp_path, HIPCC, "gfx90a", **other_cards(ARCHITECTURES=architecture))
    assert re.fullmatch(rf"error: device 0 .*: {architecture.split(':')[0]} {NO_TILE} .*gfx90a .*\n", message)


def test_gfx950_is_of_gfx942s_kind(programs, tiny, tmp_path, other_cards):
    _, done = getp(programs[CLANG], tiny, first_prompts(tmp_path, 1), tmp_path / "out.txt", "-n", 40,
                   environment=device("gfx942", **other_cards(ARCHITECTURES="gfx950:sramecc+:xnack-")))
    assert "weights loaded" in done.stderr


def test_no_card_at_all_says_what_may_hide_it(programs, tiny, tmp_path, other_cards):
    for hidden, said in [({}, ""), ({"HIP_VISIBLE_DEVICES": ""}, "; HIP_VISIBLE_DEVICES='' may hide it"),
                         ({"ROCR_VISIBLE_DEVICES": "9"}, "; ROCR_VISIBLE_DEVICES='9' may hide it")]:
        message = refusal(programs, tiny, tmp_path, HIPCC, "gfx90a", **hidden, **other_cards(COUNT="0"))
        assert message == f"error: no amd device found (no ROCm-capable device is detected){said}; " \
                          "build with `make GPU=host` to run without one\n"


def test_a_device_beyond_the_last_is_refused(programs, tiny, tmp_path):
    message = refusal(programs, tiny, tmp_path, HIPCC, "gfx90a:4", HIP_DEVICE_ID="4")
    assert re.search(r"HIP_DEVICE_ID=4: '4' names no device; set it to one of: 0 .*, 1 .*, 2 .*, 3 .*\n$", message)


def test_a_model_that_does_not_fit_is_refused_with_a_table(programs, tiny, tmp_path):
    message = refusal(programs, tiny, tmp_path, HIPCC, "gfx90a", AMDSIM_MEMORY="1000000")
    assert re.search(r"KV cache .*error: the model needs 0.\d* GB but device 0 .* has 0.001 GB free", message, re.S)


def test_a_missing_entry_point_ends_the_program_by_name(programs, tmp_path):
    source, program = tmp_path / "missing.cpp", tmp_path / "missing"
    source.write_text('extern "C" int hipArray3DCreate(void *, const void *);\n'
                      "int main() { return hipArray3DCreate(nullptr, nullptr); }\n")
    subprocess.run(["hipcc", "--offload-arch=gfx90a", source, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, env={**os.environ, **device("gfx90a")})
    assert done.returncode != 0 and "hipArray3DCreate" in done.stderr
