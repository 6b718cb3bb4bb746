"""What AMD's compilers make of the sources: warnings, scratch, spills, matrix instructions; a harness's own builds."""

import os
import re
import shutil
import subprocess

import pytest

from conftest import ROOT, built
from test_amdsim import CLANG, HIPCC

SOURCES = ["run.cpp", "tokenizer.cpp"]

needs_hipcc = pytest.mark.skipif(not shutil.which("hipcc"), reason="hipcc is not installed (Debian: hipcc)")
needs_clang19 = pytest.mark.skipif(
    not (shutil.which("clang++-19") and shutil.which("hipcc")),
    reason="clang++-19 or HIP is not installed (Debian: clang-19 clang-tools-19 lld-19 llvm-19 hipcc)",
)


def compiled(command, cwd=ROOT):
    """Runs a compiler; returns what it printed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, " ".join(command) + "\n" + done.stderr[-4000:]
    return done.stderr


def printed(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def code_object(program, arch):
    """The device code for arch in a program or object file, as a file beside it."""
    fat, code = f"{program}.fat", f"{program}.{arch}"
    compiled(["llvm-objcopy-19", "--dump-section", f".hip_fatbin={fat}", str(program), "/dev/null"])
    compiled(["clang-offload-bundler-19", "--type=o", "--unbundle", f"--targets=hipv4-amdgcn-amd-amdhsa--{arch}",
              f"--input={fat}", f"--output={code}"])
    return code


def kernel_resources(code):
    """Name -> the figures of the metadata, for each kernel of a code object."""
    notes = printed(["llvm-readelf-19", "--notes", code])
    kernels = {}
    for block in re.split(r"\n\s+- \.a(?:gpr_count|rgs):", notes.split("amdhsa.kernels:")[1])[1:]:
        name = re.search(r"^\s+\.name:\s+(\S+)", block, re.M).group(1)
        kernels[name] = {k: int(v) for k, v in re.findall(r"^\s+\.(\w+):\s+(\d+)$", block, re.M)}
    return kernels


def without_scratch(used):
    return not (used["private_segment_fixed_size"] or used["vgpr_spill_count"] or used["sgpr_spill_count"])


MATRIX_INSTRUCTIONS = {"gfx90a": "v_mfma_f32_16x16x16f16", "gfx942": "v_mfma_f32_16x16x16_f16",
                       "gfx1100": "v_wmma_f32_16x16x16_f16", "gfx1151": "v_wmma_f32_16x16x16_f16"}


def check_kernels(program, arch):
    """No kernel uses scratch or spills, and products use the matrix cores."""
    code = code_object(program, arch)
    kernels = kernel_resources(code)
    assert len(kernels) >= 20, sorted(kernels)
    for name, used in kernels.items():
        assert without_scratch(used), f"{name} uses scratch or spills: {used}"
    products = {name for name in kernels if re.search("matmul_(stream|tile)_kernel", name)}
    assert len(products) == 16, products  # two kernels, two forms of weights, one term and two, two sizes
    for name in products:  # a SIMD of gfx9 has 512 registers a lane: two waves, so that one runs while the other waits
        assert kernels[name]["vgpr_count"] <= 256, f"{name} leaves room for one wave: {kernels[name]}"
    functions = re.split(r"^[0-9a-f]+ <(\w+)>:$", printed(["llvm-objdump-19", "-d", code]), flags=re.M)
    for name, body in zip(functions[1::2], functions[2::2]):
        uses = MATRIX_INSTRUCTIONS[arch] in body
        assert uses == (name in products), f"{name} {'uses' if uses else 'does not use'} the matrix cores"


@needs_clang19
@pytest.mark.parametrize("build, arch", [(HIPCC, "gfx90a"), *((CLANG, arch) for arch in MATRIX_INSTRUCTIONS)])
def test_no_scratch_and_matrix_cores(build, arch, tmp_path):
    """The programs that run on the simulated device, built at -O3 with -Wall -Wextra -Werror."""
    program = tmp_path / "run"
    program.symlink_to(built(f"build/amdsim/tests/{build}/run"))
    check_kernels(program, arch)


@needs_clang19
@pytest.mark.parametrize("arch, has_tile", [
    *((arch, True) for arch in "gfx90a gfx940 gfx942 gfx1103 gfx1152".split()),
    *((arch, False) for arch in "gfx803 gfx906 gfx908 gfx1030 gfx1036 gfx1200 gfx1201".split())])
def test_an_architecture_without_a_tile_compiles_and_traps(tmp_path, arch, has_tile):
    source = tmp_path / "tile.hip"
    source.write_text(f'#include "{ROOT}/hip/platform/platform.h"\n__global__ void product(MatrixTile::Sums *sums, '
                      "const MatrixTile::Operand *rows) { MatrixTile::multiply_add(*sums, rows[0], rows[1]); }\n")
    assembly = printed(["clang++-19", "-x", "hip", "--rocm-path=/usr", "-nogpulib", "--std=c++17", f"--offload-arch={arch}", "-O1",
                        "--cuda-device-only", "-S", str(source), "-o", "-"])
    assert bool(re.search("v_(mfma|wmma)_f32_16x16x16", assembly)) == has_tile
    assert ("s_trap" in assembly) == (not has_tile)


@needs_clang19
@pytest.mark.parametrize("arch", ["gfx90a", "gfx1100"])
def test_the_check_for_spills_can_fail(tmp_path, arch):
    source = tmp_path / "spill.cpp"
    source.write_text(
        "#include <hip/hip_runtime.h>\n"
        "__global__ void spills(int *out, int n) { int a[64]; for (int i = 0; i < 64; i++) a[i] = out[i];\n"
        "  for (int i = 0; i < n; i++) a[out[i] & 63] += i; for (int i = 0; i < 64; i++) out[i] = a[i]; }\n"
    )
    compiled(["tools/clang_hip.sh", arch, "-O3", "-c", str(source), "-o", str(tmp_path / "spill.o")])
    (used,) = kernel_resources(code_object(tmp_path / "spill.o", arch)).values()
    assert not without_scratch(used)


@needs_hipcc
@pytest.mark.parametrize("architecture", [["--offload-arch=gfx90a", "--offload-arch=gfx1036"], []], ids=["native", "hipcc's own"])
def test_a_harness_builds_it_unoptimised(tmp_path, architecture):
    """Optimised it is built for the simulated device. The list is what native gives beside an integrated GPU."""
    compiled(["hipcc", "--std=c++17", "-g", "-O0", *architecture, *SOURCES, "-o", str(tmp_path / "run"), "-lm"])


def older_harness(folder):
    """A checkout as third parties have it: getp_eval.cpp beside getp_run.cpp, run.cpp including it from there."""
    (folder / "getp-csrc").mkdir()
    for name in SOURCES + ["fatal.hpp", "terminal.hpp", "tokenizer.hpp", "unicode_classes.inc", "utf8.hpp"]:
        shutil.copy(os.path.join(ROOT, name), folder)
    shutil.copy(os.path.join(ROOT, "getp_eval.cpp"), folder / "getp-csrc")
    run = folder / "run.cpp"
    text = run.read_text()
    assert text.count('#include "getp_eval.cpp"') == 1
    run.write_text(text.replace('#include "getp_eval.cpp"', '#include "getp-csrc/getp_eval.cpp"'))
    shutil.copy(os.path.join(ROOT, "getp-csrc", "getp_run.cpp"), folder / "getp-csrc")
    shutil.copytree(os.path.join(ROOT, "hip"), folder / "hip")


def test_plain_gxx_in_the_layout_of_other_harnesses(tmp_path):
    """It needs no flag but the standard."""
    older_harness(tmp_path)
    compiled(["g++", "--std=c++17", *SOURCES, "-o", "run", "-lm"], cwd=tmp_path)


def test_an_older_standard_gets_one_clear_error(tmp_path):
    """Only the patch set is looked at: an older harness is itself plain C++11."""
    source = tmp_path / "harness.cpp"
    source.write_text(f'#include "{ROOT}/getp-csrc/getp_run.cpp"\n')
    done = subprocess.run(["g++", "--std=c++14", "-fsyntax-only", str(source)], capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert done.returncode != 0 and len(errors) == 1, done.stderr
    assert "needs C++17: make runfast" in errors[0]
