"""The simulator's sanitizer: each fault planted by tests/amdsim/faults.cpp is described, its twin runs clean."""
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "tests/amdsim/faults.cpp"
LIBRARY = ROOT / "build/amdsim/libamdhip64.so.5"

NEEDED = {
    "hipcc": shutil.which("hipcc"),
    "clang-19": shutil.which("clang++-19"),
    "llvm-19-dev": os.path.exists("/usr/lib/llvm-19/include/llvm/MC/MCInst.h"),
    "nlohmann-json3-dev": os.path.exists("/usr/include/nlohmann/json.hpp"),
}
MISSING = ", ".join(package for package, found in NEEDED.items() if not found)
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING} (Debian packages)")

GFX90A, GFX942, GFX1100 = "gfx90a", "gfx942", "gfx1100"
COMPILERS = {
    GFX90A: ["hipcc", "--offload-arch=gfx90a"],
    GFX942: ["tools/clang_hip.sh", "gfx942,gfx1100"],
    GFX1100: ["tools/clang_hip.sh", "gfx942,gfx1100"],
}


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Builds the simulator; returns program(architecture), which compiles faults.cpp when first asked."""
    make = ["make", f"-j{os.cpu_count()}", "-f", "tests/amdsim/amdsim.mk"]
    subprocess.run([*make, LIBRARY.relative_to(ROOT)], cwd=ROOT, check=True)
    folder, compiled = tmp_path_factory.mktemp("faults"), {}

    def path(architecture):
        command = COMPILERS[architecture]
        file = folder / Path(command[0]).stem
        if file not in compiled:
            arguments = [*command, "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", PROGRAM, "-o", file]
            compiled[file] = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
        assert compiled[file].returncode == 0, compiled[file].stderr[-4000:]
        return file

    return path


@pytest.fixture(scope="session")
def run(program):
    """run(architecture, *arguments, **environment) -> finished process."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("AMDSIM")}

    def call(architecture, *arguments, **environment):
        settings = {"LD_LIBRARY_PATH": str(LIBRARY.parent), "AMDSIM": architecture, "AMDSIM_MEMORY": str(64 << 20)}
        return subprocess.run([program(architecture), *arguments], capture_output=True, text=True, timeout=60,
                              env={**inherited, **settings, **environment})

    return call


# ---- what is expected of a fault

HEX = "0x[0-9a-f]+"
BLOCK = rf"a block of \d+ bytes? of device memory \({HEX}, device 0\)"
FREED = f"inside a block that was freed: {BLOCK}"
ANY_WAVE, WHOLE_WAVE = object(), object()  # in place of a thread: some wave or lane; a wave without a lane


class Found:
    """The simulator ends the program, names the fault and, inside a kernel, who did it with which instruction."""

    def __init__(self, message, kernel=None, instruction="", thread=0, group=0):
        self.message, self.kernel, self.instruction, self.thread, self.group = message, kernel, instruction, thread, group

    def check(self, done, architecture):
        assert done.returncode == 1, done
        pattern = f"amdsim: {self.message}\n"
        if self.kernel:
            lanes = 32 if architecture == GFX1100 else 64
            if self.thread is ANY_WAVE:
                who = r"wave \d+(, lane \d+)?"
            elif self.thread is WHOLE_WAVE:
                who = r"wave \d+"
            else:
                who = f"wave {self.thread // lanes}, lane {self.thread % lanes}"
            pattern += rf"  kernel \(anonymous namespace\)::{self.kernel}, group \({self.group}, 0, 0\), {who}\n"
            pattern += rf"  at {HEX}: ({self.instruction})( .*)?\n"
        assert re.fullmatch(pattern, done.stderr), f"{done.stderr}\ndoes not match\n{pattern}"
        check_distance(done.stderr)


class Wrong:
    """The program itself finds its result wrong, and says so."""

    def __init__(self, output):
        self.output = output

    def check(self, done, architecture):
        assert done.returncode == 3 and done.stderr == "", done
        assert re.search(self.output, done.stdout), done.stdout


class Clean:
    def check(self, done, architecture):
        assert done.returncode == 0 and done.stderr == "", done


def check_distance(message):
    """The distance that a message names must follow from the addresses in it."""
    found = re.search(rf"(?P<bytes>\d+) bytes at (?P<at>{HEX}): (reaches )?(?P<distance>\d+) bytes? "
                      r"(?P<past>past the end|before the start) of "
                      rf"a block of (?P<size>\d+) bytes.*\((?P<block>{HEX})", message)
    assert bool(found) == bool(re.search("past the end|before the start", message)), message
    if found:
        bytes_, at, distance, size, block = (int(found[name], 0) for name in ("bytes", "at", "distance", "size", "block"))
        past = found["past"] == "past the end"
        assert distance == (at + bytes_ - (block + size) if past else block - at), message


def past(bytes_):
    return f"reaches {bytes_} bytes? past the end of {BLOCK}"


def before(bytes_):
    return f"{bytes_} bytes? before the start of {BLOCK}"


COPY = {  # kind and bytes of an access: the instruction of gfx9 or of gfx11
    ("read", 1): "global_load_(ubyte|u8)", ("write", 1): "global_store_(byte|b8)",
    ("read", 4): "global_load_(dword|b32)", ("write", 4): "global_store_(dword|b32)",
    ("read", 16): "global_load_(dwordx4|b128)", ("write", 16): "global_store_(dwordx4|b128)",
}


def outside(kind, bytes_, where, kernel, instruction, **more):
    return Found(f"out-of-bounds {kind} of {bytes_} bytes? at {HEX}: {where}", kernel, instruction, **more)


def copy_outside(kind, bytes_, where, of="int", **more):
    return outside(kind, bytes_, where, f"copy_shifted<{of}>", COPY[kind, bytes_], **more)


def lds_outside(kind, address, size, kernel, instruction, **more):
    message = f"out-of-bounds {kind} of 4 bytes at LDS address {address}: the group has {size} bytes"
    return Found(message, kernel, instruction, **more)


def scratch_outside(offset, kernel, instruction):
    message = rf"out-of-bounds access of 4 bytes at scratch offset {offset}: the kernel has \d+ bytes a lane"
    return Found(message, kernel, instruction)


def misaligned(kernel, instruction, where=f"address {HEX}", bytes_=4):
    message = rf"misaligned access of {bytes_} bytes at {where} \(AMDSIM_UNALIGNED=1 allows it, as ROCm does\)"
    return Found(message, kernel, instruction)


def race(kernel, act="(reads|writes)", by=r"wave \d (wrote|read)"):
    message = rf"LDS race: wave \d {act} byte \d+, which {by} since the last barrier"
    return Found(message, kernel, "(ds|flat)_.*", thread=ANY_WAVE)


def barrier(kernel):
    return Found(r"a barrier that wave \d of the group never reaches: it has ended", kernel, "s_barrier", thread=WHOLE_WAVE)


def trap(kernel):
    return Found(r"the kernel trapped \(abort, assert or __builtin_trap\)", kernel, "s_trap 2", thread=ANY_WAVE)


POISON = "0xfffafffa"
FLOAT4 = "HIP_vector_type<float, 4u> ?"

FAULTS = {
    # Global memory
    "read-past-end": copy_outside("read", 4, past(4), thread=63),
    "write-past-end": copy_outside("write", 4, past(4), thread=63),
    "read-before-start": copy_outside("read", 4, before(4)),
    "write-before-start": copy_outside("write", 4, before(4)),
    "read-byte-past-end": copy_outside("read", 1, past(1), of="unsigned char", thread=63),
    "write-byte-past-end": copy_outside("write", 1, past(1), of="unsigned char", thread=63),
    "read-odd-end": copy_outside("read", 1, past(1), of="unsigned char", thread=61),
    "read-pinned-past-end": copy_outside("read", 4, past(4).replace("device memory", "pinned host memory"), thread=63),
    "read-row-past-end": copy_outside("read", 4, past(4)),
    "read-far-past-end": copy_outside("read", 4, past(260)),
    "write-far-past-end": copy_outside("write", 4, past(260)),
    "read-straddling-end": copy_outside("read", 16, past(8), of=FLOAT4, thread=63),
    "write-straddling-end": copy_outside("write", 16, past(8), of=FLOAT4, thread=63),
    "one-group-too-many": outside("read", 4, past(4), "increment", COPY["read", 4], group=4),
    "scalar-read-past-end": outside("scalar read", 4, past(4), "copy_scalar", "s_load_(dword|b32)", group=3,
                                    thread=WHOLE_WAVE),
    "atomic-past-end": outside("atomic", 4, past(4), "add_atomically", "global_atomic_add(_u32)?", thread=64),
    "use-after-free": copy_outside("read", 4, FREED),
    "never-allocated": copy_outside("read", 4, "in memory that was never allocated"),
    "null-pointer": copy_outside("read", 4, "near the null pointer"),
    "host-pointer": copy_outside("read", 4, "not memory of the device"),
    # Alignment
    "misaligned-read": misaligned("copy_shifted<int>", COPY["read", 4]),
    "misaligned-write": misaligned("copy_shifted<int>", COPY["write", 4]),
    "misaligned-short": misaligned("copy_shifted<short>", "global_load_(ushort|u16)", bytes_=2),
    "misaligned-lds": misaligned("lds_bytes", "(flat|ds)_(write|store)_(dword|b32)", where="LDS address 0x1"),
    "misaligned-atomic": Found(f"misaligned atomic of 4 bytes at {HEX}", "add_atomically", "global_atomic_add(_u32)?"),
    "misaligned-lds-atomic": Found("misaligned atomic of 4 bytes at LDS address 2", "lds_bytes", "ds_add_u32"),
    # What nobody wrote is poison: NaN as a float
    "uninitialised-global": Wrong(f"-?nan .{POISON}"),
    "uninitialised-lds": Wrong(f"-?nan .{POISON}"),
    "uninitialised-scratch": Wrong(POISON),
    "uninitialised-register": Wrong(POISON),
    "uninitialised-scalar-register": Wrong(POISON),
    "uninitialised-accumulator": {GFX90A: Wrong(POISON), GFX942: Wrong(POISON)},
    "register-of-another-kernel": Wrong(POISON),
    # LDS and scratch
    "lds-too-small": lds_outside("write", 252, 252, "dynamic_lds", "ds_(write|store)_b32", thread=63),
    "lds-past-end": lds_outside("read", 256, 256, "read_lds", "ds_(read|load)_b32", thread=63),
    "lds-before-start": lds_outside("read", -4, 256, "read_lds", "ds_(read|load)_b32"),
    "scratch-past-end": scratch_outside(r"\d+", "index_scratch", "(flat|scratch)_load_(dword|b32)"),
    "scratch-far-past-end": scratch_outside(r"4000\d+", "index_scratch", "(flat|scratch)_load_(dword|b32)"),
    "scratch-before-start": scratch_outside(r"-\d+", "index_scratch", "(flat|scratch)_load_(dword|b32)"),
    "stack-past-end": scratch_outside(r"\d+", "index_stack", "(buffer|scratch)_load_(dword|b32)"),
    # Waves that share LDS
    "race-write-read": race("write_then_read"),
    "race-write-write": race("write_then_write", "writes", r"wave \d wrote"),
    "race-read-write": race("read_then_write"),
    "race-in-bytes": race("write_bytes", "writes", r"wave \d wrote"),
    "race-of-neighbours": race("swap_pairs"),
    "race-with-atomic": race("count_atomically", "writes", r"(wave \d wrote|more than one wave changed atomically)"),
    "total-read-too-early": Wrong("wrong result"),  # atomic reads look like plain ones, so this is no race
    "wave-of-64-assumed": {GFX90A: Clean(), GFX942: Clean(), GFX1100: race("reverse_64")},
    "barrier-after-return": barrier("barrier_after_return"),
    "barrier-in-branch": barrier("barrier_in_branch"),
    "one-barrier-more": barrier("barriers_in_loop"),
    # Instructions
    "trap": trap("trap_in_lane"),
    "abort": trap("abort_in_lane"),
    "assert": Found("the kernel calls the host .*assert.*", "assert_in_lane", ".*", thread=5),
    "not-implemented": Found(r"this instruction is not implemented \(docs/AMDSIM.md says how to add it\)", "obscure",
                             "s_decperflevel 3", thread=WHOLE_WAVE),
    "jump-away": Found("jumps to 0x40, where no instruction of this code object starts", "jump_away", "s_setpc_b64",
                       thread=WHOLE_WAVE),
    # Layouts of the matrix instructions, sizes of waves
    "matrix-a": Wrong(r"row \d+, column \d+ is"),
    "matrix-b": Wrong(r"row \d+, column \d+ is"),
    "matrix-d": Wrong(r"row \d+, column \d+ is"),
    "matrix-not-repeated": {GFX1100: Found(r"matrix [AB] must be the same in lanes \d+ and \d+, and is not", "multiply",
                                           "v_wmma_f32_16x16x16_f16", thread=ANY_WAVE)},
    "wave-size": Wrong("wrong result: [0-9]+, not 8128"),
    # Copies and fills by the host
    "copy-past-end": Found(f"hipMemcpy: 260 bytes at {HEX}: {past(4)}"),
    "copy-from-past-end": Found(f"hipMemcpy: 4 bytes at {HEX}: {past(4)}"),
    "copy-from-before-start": Found(f"hipMemcpy: 8 bytes at {HEX}: {before(4)}"),
    "copy-to-freed": Found(f"hipMemcpy: 4 bytes at {HEX}: {FREED}"),
    "fill-past-end": Found(f"hipMemset: 101 bytes at {HEX}: {past(1)}"),
    "fill-rows-past-end": Found(f"hipMemset2D: 1100 bytes at {HEX}: {past(100)}"),
    # Nothing that a stream was given has happened before somebody waits for it
    "not-waited-for": Wrong("wrong result: 0, not 1"),
    "copy-not-waited-for": Wrong("wrong result: 0, not 1"),
    "source-changed-too-early": Wrong("wrong result: 2, not 1"),
    "fault-nobody-waits-for": copy_outside("read", 4, past(4), thread=63),
    "callback-waits-for-itself": Found("a function that a stream calls waits for that stream"),
    # Errors that HIP reports
    "zero-grid": Wrong("refused: hipErrorInvalidConfiguration"),
    "block-too-big": Wrong("refused: hipErrorInvalidConfiguration"),
    "beyond-launch-bounds": Wrong("refused: hipErrorLaunchFailure"),
    "lds-too-big": Wrong("refused: hipErrorInvalidConfiguration"),
    "out-of-memory": Wrong("refused: hipErrorOutOfMemory"),
    "freed-twice": Wrong("refused: hipErrorInvalidValue"),
}
WITH_SEEDS = ["last-group-wins", "last-wave-wins", "lost-update", "no-event-between-streams"]  # below
ELSEWHERE = ["missing-entry-point"]

# gfx942 shares its compiler with gfx1100 and most of its instructions with gfx90a; scratch and matrices are its own.
ON_GFX942 = re.compile("read-past-end|scalar|atomic|uninit|register|scratch|stack|race|wave|not-impl|matrix")


def expectations():
    for architecture in (GFX90A, GFX942, GFX1100):
        for name, expected in FAULTS.items():
            if isinstance(expected, dict):
                expected = expected.get(architecture)
            if expected and (architecture != GFX942 or ON_GFX942.search(name)):
                yield pytest.param(architecture, name, expected, id=f"{architecture}-{name}")


@pytest.mark.parametrize("architecture, name, expected", expectations())
def test_fault_is_found(run, architecture, name, expected):
    expected.check(run(architecture, name), architecture)


@pytest.mark.parametrize("architecture, name, expected", expectations())
def test_twin_without_the_fault_is_clean(run, architecture, name, expected):
    Clean().check(run(architecture, name, "fixed"), architecture)


def test_every_case_is_tested(run):
    assert sorted(run(GFX90A).stdout.split()) == sorted([*FAULTS, *WITH_SEEDS, *ELSEWHERE])


def test_main_was_over_when_the_last_fault_came(run):
    assert run(GFX90A, "fault-nobody-waits-for").stdout == "main ends\n"


def test_a_missing_entry_point_is_named(run):
    done = run(GFX90A, "missing-entry-point")
    assert done.returncode == 127 and "undefined symbol: hipIpcGetMemHandle" in done.stderr
    Clean().check(run(GFX90A, "missing-entry-point", "fixed"), GFX90A)


# ---- alignment, as ROCm configures the cards


@pytest.mark.parametrize("architecture", [GFX90A, GFX1100])
@pytest.mark.parametrize("name", ["misaligned-read", "misaligned-write", "misaligned-short"])
def test_misaligned_accesses_can_be_allowed(run, architecture, name):
    Clean().check(run(architecture, name, AMDSIM_UNALIGNED="1"), architecture)


@pytest.mark.parametrize("name", ["misaligned-atomic", "misaligned-lds-atomic"])
def test_misaligned_atomics_never_are(run, name):
    FAULTS[name].check(run(GFX90A, name, AMDSIM_UNALIGNED="1"), GFX90A)


# ---- another seed, another order


def results(run, *arguments):
    done = [run(GFX90A, *arguments, AMDSIM_SEED=str(seed), AMDSIM_THREADS="1") for seed in range(8)]
    return [(each.returncode, each.stdout) for each in done]


@pytest.mark.parametrize("name", ["last-group-wins", "last-wave-wins"])
def test_seeds_change_the_order_of_groups_and_waves(run, name):
    assert len(set(results(run, name))) > 1
    assert set(results(run, name, "fixed")) == {(0, "result 15\n")}


def test_seeds_interleave_waves(run):
    """In turn, one wave after the other, they would lose nothing."""
    assert 3 in {code for code, _ in results(run, "lost-update")}
    assert {code for code, _ in results(run, "lost-update", "fixed")} == {0}


def test_one_seed_gives_one_order(run):
    assert results(run, "last-group-wins") == results(run, "last-group-wins")


def test_seeds_change_the_order_of_streams(run):
    codes = {code for code, _ in results(run, "no-event-between-streams")}
    assert codes == {0, 3}
    assert {code for code, _ in results(run, "no-event-between-streams", "fixed")} == {0}


@pytest.mark.parametrize("seed", ["1", "2", "3"])
@pytest.mark.parametrize("name", ["race-write-read", "race-read-write", "race-with-atomic", "barrier-in-branch"])
def test_races_are_found_in_any_order(run, name, seed):
    FAULTS[name].check(run(GFX90A, name, AMDSIM_SEED=seed), GFX90A)
    Clean().check(run(GFX90A, name, "fixed", AMDSIM_SEED=seed), GFX90A)


# ---- the address in a message


def code_object(program, architecture):
    """The ELF file of one architecture in a program: a clang offload bundle holds offset, size and name of each."""
    data = program.read_bytes()
    start = data.index(b"__CLANG_OFFLOAD_BUNDLE__")
    place = start + 24
    (entries,) = struct.unpack_from("<Q", data, place)
    place += 8
    for _ in range(entries):
        offset, size, length = struct.unpack_from("<QQQ", data, place)
        name = data[place + 24:place + 24 + length].decode()
        place += 24 + length
        if name.endswith(architecture):
            return data[start + offset:start + offset + size]
    raise AssertionError(f"no {architecture} in {program}")


@pytest.mark.parametrize("architecture", [GFX90A, GFX1100])
def test_the_address_is_the_one_of_the_disassembly(program, run, architecture, tmp_path):
    address, text = re.search(f"at ({HEX}): (.*)\n$", run(architecture, "not-implemented").stderr).groups()
    (tmp_path / "code.o").write_bytes(code_object(program(architecture), architecture))
    done = subprocess.run(["llvm-objdump-19", "-d", tmp_path / "code.o"], capture_output=True, text=True, check=True)
    assert re.findall(rf"{text}\s+// ([0-9A-F]+):", done.stdout) == [f"{int(address, 16):012X}"]


# ---- the environment


@pytest.mark.parametrize("environment, message", [
    ({"AMDSIM": "gfx942"}, "gfx90a"),  # what the program does hold
    ({"AMDSIM": "gfx906"}, "AMDSIM=gfx906: set it to gfx90a, gfx942 or gfx1100"),
    ({"AMDSIM": "gfx90a:0"}, "AMDSIM=gfx90a:0: set it to"),
    ({"AMDSIM_SEED": "often"}, "AMDSIM_SEED=often is not a number"),
    ({"AMDSIM_THREADS": "-1"}, "AMDSIM_THREADS=-1 is not a number"),
    ({"AMDSIM_MEMORY": "64G"}, "AMDSIM_MEMORY=64G is not a number"),
])
def test_a_wrong_environment_is_explained(run, environment, message):
    done = run(GFX90A, "read-past-end", "fixed", **environment)
    assert done.returncode == 1 and done.stderr.startswith("amdsim: ") and message in done.stderr, done
