"""tools/gpu.sh, and the Makefile and run.sh on top of it, on machines that are folders and programs made here."""
import os
import shutil
import subprocess

import pytest

from conftest import ROOT


@pytest.fixture
def machine(tmp_path):
    """machine.gpu_sh(*arguments), .make(*arguments) -> finished process, with .root as / and the programs of .bin alone beside
    the system's."""

    class Machine:
        root, bin = tmp_path / "root", tmp_path / "bin"
        environment = {}

        def card(self, number, properties):
            node = self.root / f"sys/class/kfd/kfd/topology/nodes/{number}"
            node.mkdir(parents=True)
            (node / "properties").write_text(properties)

        def program(self, path, output="", code=0):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\nprintf '{output}'\nexit {code}\n")
            path.chmod(0o755)
            return path

        def call(self, *command):
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                                  env={"PATH": str(self.bin), "MACHINE_ROOT": str(self.root), **self.environment})

        def gpu_sh(self, *arguments):
            return self.call(ROOT / "tools/gpu.sh", *arguments)

        def make(self, *arguments):
            return self.call("make", *arguments)

    made = Machine()
    made.bin.mkdir()
    for tool in "bash sh env dirname sed sort tr readlink printf make mkdir echo cmp".split():
        (made.bin / tool).symlink_to(shutil.which(tool))
    return made


CPU_NODE = "cpu_cores_count 16\nsimd_count 0\ngfx_target_version 0\n"


def card_node(version):
    return f"cpu_cores_count 0\nsimd_count 416\ngfx_target_version {version}\nvendor_id 4098\n"


@pytest.mark.parametrize("version, name", [(90010, "gfx90a"), (90402, "gfx942"), (90500, "gfx950"), (110000, "gfx1100"),
                                           (110003, "gfx1103"), (110501, "gfx1151")])
def test_kfd_names_the_card(machine, version, name):
    machine.card(0, CPU_NODE)
    machine.card(1, card_node(version))
    done = machine.gpu_sh("architectures", "amd")
    assert (done.returncode, done.stdout, done.stderr) == (0, name + "\n", "")


@pytest.mark.parametrize("version, name", [(90006, "gfx906"), (90008, "gfx908"), (100300, "gfx1030"), (100306, "gfx1036"),
                                           (120000, "gfx1200"), (120001, "gfx1201")])
def test_a_card_without_a_tile_is_refused_by_name(machine, version, name):
    machine.card(1, card_node(version))
    done = machine.gpu_sh("architectures", "amd")
    assert done.returncode == 1 and done.stdout.startswith(f"{name} has no matrix instructions") and done.stderr == ""
    machine.program(machine.bin / "hipcc")
    done = machine.make("GPU=amd", "-n", "runfast")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and f"*** {name} has no matrix instructions" in done.stderr
    assert machine.make("GPU=amd", "-n", "clean").returncode == machine.make("GPU=amd", "help").returncode == 0


@pytest.mark.parametrize("given", ["gfx906", "gfx1030,gfx1036", "gfx9000"])
def test_a_list_without_a_tile_is_refused(machine, given):
    machine.program(machine.bin / "hipcc")
    done = machine.make("GPU=amd", f"GPU_ARCH={given}", "-n", "run")
    assert done.returncode == 2 and f"*** GPU_ARCH={given}: no matrix instructions" in done.stderr
    for taken in ("gfx906,gfx90a", "gfx90a:xnack-", "gfx9-4-generic", "native"):
        done = machine.make("GPU=amd", f"GPU_ARCH={taken}", "-n", "run")
        assert done.returncode == 0 and "".join(f" --offload-arch={name}" for name in taken.split(",")) in done.stdout


def test_mixed_cards_are_a_list(machine):
    for number, version in enumerate([0, 110000, 100306, 90010, 90010]):
        machine.card(number, card_node(version))
    done = machine.gpu_sh("architectures", "amd")
    assert done.stdout == "gfx1100,gfx90a\n"
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("not built for") and "gfx1036" in done.stderr
    machine.program(machine.bin / "hipcc")
    done = machine.make("GPU=amd", "-n", "runfast")
    assert "hipcc --std=c++17 --offload-arch=gfx1100 --offload-arch=gfx90a -O3" in done.stdout
    assert done.stderr.count("gfx1036") == 1, "asked once"


def test_rocm_is_asked_where_kfd_does_not_say(machine):
    machine.card(0, "cpu_cores_count 16\n")  # of a kernel that does not tell versions
    machine.card(1, "simd_count 416\n")
    machine.program(machine.bin / "amdgpu-arch", "gfx942:sramecc+:xnack-\\n")
    assert machine.gpu_sh("architectures", "amd").stdout == "gfx942\n"
    machine.program(machine.root / "opt/rocm/bin/rocm_agent_enumerator", "gfx000\\ngfx1100\\ngfx1036\\n")
    machine.program(machine.root / "opt/rocm/bin/hipcc")
    assert machine.gpu_sh("architectures", "amd").stdout == "gfx1100\n"
    machine.card(2, card_node(90010))
    assert machine.gpu_sh("architectures", "amd").stdout == "gfx90a\n"
    machine.environment["HSA_OVERRIDE_GFX_VERSION"] = "11.0.0"
    assert machine.gpu_sh("architectures", "amd").stdout == "gfx1100\n"


@pytest.mark.parametrize("output, code", [("", 1), ("gfx000\\n", 0), ("Failed to open /dev/kfd\\n", 0)])
def test_a_machine_without_a_card_builds_for_an_mi250(machine, output, code):
    machine.program(machine.bin / "rocm_agent_enumerator", output, code)
    machine.card(0, CPU_NODE)
    done = machine.gpu_sh("architectures", "amd")
    assert done.stdout == "gfx90a\n" and done.stderr.count("\n") == 1 and "GPU_ARCH" in done.stderr


def test_what_is_given_wins(machine):
    machine.card(0, card_node(100300))
    machine.program(machine.bin / "hipcc")
    done = machine.make("GPU=amd", "GPU_ARCH=gfx90a,gfx1036", "-n", "run")
    assert "--offload-arch=gfx90a --offload-arch=gfx1036 " in done.stdout and done.stderr == ""
    assert machine.make("GPU=amd", "GPU_ARCH=gfx942", "-s", "backend").stdout == "amd gfx942\n"


@pytest.mark.parametrize("capabilities, list", [("9.0\\n", "sm_90a"), ("9.0\\n9.0\\n8.6\\n", "sm_86,sm_90a"),
                                                ("12.0\\n", "sm_120"), ("7.5\\n8.0\\n", "sm_80"), ("[N/A]\\n", "native")])
def test_nvidia_cards_are_a_list_too(machine, capabilities, list):
    (machine.root / "dev").mkdir(parents=True)
    (machine.root / "dev/nvidia0").touch()
    machine.program(machine.bin / "nvidia-smi", capabilities)
    done = machine.gpu_sh("architectures", "nvidia")
    assert done.stdout == list + "\n" and ("sm_75" in done.stderr) == ("7.5" in capabilities)
    machine.program(machine.bin / "nvcc")
    done = machine.make("GPU=nvidia", "-n", "runfast")
    for arch in list.split(","):
        assert (f"code={arch} " if arch != "native" else "-arch=native ") in done.stdout


def test_an_nvidia_card_without_a_tile_is_refused(machine):
    machine.program(machine.bin / "nvidia-smi", "7.5\\n")
    done = machine.gpu_sh("architectures", "nvidia")
    assert done.returncode == 1 and done.stdout.startswith("sm_75 has no matrix instructions")


@pytest.mark.parametrize("gpu, folders, found", [
    ("amd", ["opt/rocm"], "opt/rocm"),
    ("amd", ["opt/rocm-7.1.0"], "opt/rocm-7.1.0"),
    ("amd", ["opt/rocm-6.4.3", "opt/rocm-10.0.0", "opt/rocm-7.1.0"], "opt/rocm-10.0.0"),
    ("amd", ["opt/rocm/core-7.14"], "opt/rocm/core-7.14"),
    ("amd", ["opt/rocm/core-7.9", "opt/rocm/core-7.14"], "opt/rocm/core-7.14"),
    ("nvidia", ["usr/local/cuda-12.8", "usr/local/cuda-13.0", "usr/local/cuda-9.2"], "usr/local/cuda-13.0"),
    ("amd", [], ""),
])
def test_toolkits_are_found(machine, gpu, folders, found):
    compiler, variable = {"amd": ("hipcc", "ROCM_PATH"), "nvidia": ("nvcc", "CUDA_HOME")}[gpu]
    for folder in folders:
        machine.program(machine.root / folder / "bin" / compiler)
    (machine.root / "opt/rocm-9.9.9").mkdir(parents=True)  # what an uninstall leaves
    expected = str(machine.root / found) if found else ""
    assert machine.gpu_sh("toolkit", gpu).stdout.rstrip("\n") == expected
    if found:
        assert f"{expected}/bin/{compiler} " in machine.make(f"GPU={gpu}", "-n", "run").stdout
    own = machine.program(machine.root / f"home/toolkit/bin/{compiler}").parent.parent
    machine.environment[variable] = str(own)
    assert machine.gpu_sh("toolkit", gpu).stdout == f"{own}\n"
    del machine.environment[variable]
    (machine.bin / compiler).symlink_to(own / "bin" / compiler)  # one on PATH, by a link
    assert machine.gpu_sh("toolkit", gpu).stdout == f"{own}\n"


@pytest.mark.parametrize("folder", ["opt/rocm-7.1.0", "opt/rocm/core-7.14", "home/rocm"])
def test_run_sh_finds_rocms_libraries(machine, folder):
    """Where a machine has the runtime and no compiler. Python, for which run.sh's commands end, says what it was given."""
    rocm = machine.root / folder
    (rocm / "lib").mkdir(parents=True)
    (rocm / "lib/libamdhip64.so.7").touch()
    machine.program(machine.bin / "g++")
    python = machine.program(machine.bin / "python")
    python.write_text('#!/bin/sh\necho "$LD_LIBRARY_PATH $PATH"\n')
    machine.environment = {"PYTHON": str(python), "LD_LIBRARY_PATH": "/before"}
    if folder == "home/rocm":
        machine.environment["ROCM_PATH"] = str(rocm)
    done = machine.call(ROOT / "run.sh", "export-tokenizer", "--ranks", "none")
    assert done.returncode == 0 and done.stdout == f"{rocm}/lib:/before {machine.bin}:{rocm}/bin\n", done.stderr
