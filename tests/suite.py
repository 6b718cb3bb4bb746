#!/usr/bin/env python3
"""Builds and runs the tests: ./run.sh test, once the machine is set up ("./run.sh test -h" says what it takes).

A unit is what is started, timed and reported as one: a GoogleTest program, or a pytest file. Its report is
build/reports/UNIT.xml, its output UNIT.log. The last line is "N passed, N failed, N skipped".
"""
import argparse
import difflib
import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

import count_results

ROOT = Path(__file__).resolve().parent.parent
REPORTS, PASSED = Path("build/reports"), Path("tests/amdsim/passed.txt")
FULL = "only in ./run.sh test --full"

# The main job, of which --quick runs these.
QUICK = [f"test_greedy_tokens::{case}" for case in (
    "test_tiny_32_prompts_at_least_64_tokens_each", "test_7m", "test_few_requests_for_many_devices",
    "test_blank_and_too_long_prompts_get_an_empty_line_and_a_warning")]

# These build what others use, or for another back end: nothing else runs beside them.
ALONE = {"test_parity_tool", "test_run_sh"}

# What of a program runs without --full. The simulated card is slow, at -O0 more so; each kernel and layout is run there.
THINNED = {
    "amdsim-*-O0-forward_test": ("GoldenTest.AgreesWithTransformers", {"GETP_TEST_POSITIONS": "8"}),
    "amdsim-*-O0-attention_test": ("-*SpansEnd*:*ARowDepends*:*EveryEdge*:*RowsAreIndependent*", {}),
    "amdsim-*-O0-matmul_test": ("-*EveryShape*:*RowsAreIndependent*:*Mxfp4GivesTheBits*", {}),
    "amdsim-hipcc-gfx90a-O3-forward_test": ("-*ExactWeights*/1:*ASequence*:*TheLast*:*AnEarlier*", {}),
    "amdsim-clang-*-forward_test": ("GoldenTest.AgreesWithTransformers:ForwardTest.ARowsLogitsDoNotDependOnItsBatch", {}),
    "sanitized-forward_test": ("-*ExactWeights*:*PutOff*:*ASequence*:*ALarge*:*TheLast*:*AnEarlier*:*Layers*:*Rounding/1:*Rounding/3",
                               {"GETP_TEST_POSITIONS": "8"}),
    "sanitized-matmul_test": ("-*seed0*:*EveryShape*:*RowsAreIndependent*", {}),
    "sanitized-*": ("-*seed0*:Time.*", {}),
}


class Unit:
    searched = False  # are its cases found by their names alone?
    forbidden = None  # what its output must not hold, as a regular expression

    def __init__(self, name, source, targets):
        self.name, self.source, self.targets = name, source, targets
        self.names = {name}
        self.chosen = []  # cases, as GoogleTest or pytest takes them; none: all
        self.environment = {}

    def is_called(self, pattern):
        return any(matches(name, pattern) for name in self.names)


class Program(Unit):
    """A GoogleTest program, the first of its targets."""

    def command(self):
        return [self.targets[0], f"--gtest_output=xml:{REPORTS}/{self.name}.xml", f"--gtest_filter={':'.join(self.chosen) or '*'}"]

    def cases_called(self, pattern):
        plain = re.sub(r"^\w+/|/\w+$", "", pattern)  # Lanes/Suite.Case/wave64seed0
        found = []
        for suite, case in re.findall(r"^TEST(?:_[FP])?\((\w+),\s*(\w+)\)", self.source.read_text(), re.M):
            if any(matches(name, plain) for name in (suite, case, f"{suite}.{case}")):
                found += [f"{suite}.{case}", f"*/{suite}.{case}/*"] if plain == pattern else [pattern]
        return found


class PytestFile(Unit):
    searched = True

    def command(self):
        return [sys.executable, "-m", "pytest", "-v", "--color=no", "-p", "no:cacheprovider",
                f"--junitxml={REPORTS}/{self.name}.xml", *([f"{self.source}::{case}" for case in self.chosen] or [self.source])]

    def cases_called(self, pattern):
        plain, bracket, parameters = pattern.partition("[")
        return [case + bracket + parameters for case in re.findall(r"^def (test_\w+)", self.source.read_text(), re.M)
                if matches(case, plain)]


def matches(name, pattern):
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def end(message):
    sys.exit(f"run.sh: test: {message}")


# ---- what there is


def make(*arguments, **options):
    command = ["make", "--no-print-directory", f"-j{os.cpu_count()}", *arguments]
    return subprocess.run(command, text=True, **options)


def listed(variable, *arguments):
    """The words of a variable of make's."""
    done = make("-s", f"print-{variable}", *arguments, stdout=subprocess.PIPE)
    return done.stdout.split() if done.returncode == 0 else end(f"make knows no {variable}")


def programs(prefix, *arguments):
    """The test programs of one back end, or sanitized."""
    for path in listed("TEST_PROGRAMS", *arguments):
        source = Path("tests", Path(path).name + ".cpp")
        yield Program(prefix + source.stem, source, [path])


def host_programs():
    for unit in programs("", "GPU=host"):
        unit.names |= {unit.source.name, str(unit.source)}
        unit.searched = True
        yield unit


SANITIZED = ["GPU=host", "SANITIZE=address,undefined"]


def sanitized_programs():
    for unit in programs("sanitized-", *SANITIZED):
        unit.forbidden = r"Sanitizer: |runtime error: "
        # Newer compilers keep frames apart from the stack by default, where a fiber must hand them over at each switch. That
        # is slow: the test of the fibers themselves does it, with every compiler.
        apart = int(unit.source.stem == "host_backend_test")
        unit.environment = {"GETP_HOST_SEED": "7", "ASAN_OPTIONS": f"detect_stack_use_after_return={apart}"}
        yield unit


def amdsim_programs(variable, folder):
    """What is built for the simulated device: a unit for each architecture in a program."""
    for path in map(Path, listed(variable, "GPU=host")):
        compiler, architectures, level = path.parent.name.split("-")
        for architecture in architectures.split("+"):
            name = f"amdsim-{compiler}-{architecture}-{level}-{path.name}"
            unit = Program(name, Path(folder, f"{path.name}.cpp"), [str(path), "amdsim"])
            unit.searched = is_of_the_simulator(unit)
            # Two devices for runtime_test. programs_test has packed structs, whose words lie anywhere: ROCm sets up cards to allow it.
            unit.environment = {"LD_LIBRARY_PATH": "build/amdsim", "AMDSIM": f"{architecture}:2",
                                "AMDSIM_UNALIGNED": "1" if path.name == "programs_test" else ""}
            yield unit


def pytest_files(can_simulate):
    for source in sorted(Path("tests").glob("test_*.py")):
        targets = [] if "amd" in source.stem and not can_simulate else [f"ready-{source.stem}"]
        unit = PytestFile(source.stem, source, targets)
        unit.names |= {source.name, str(source)}
        yield unit


# ---- which of it


def select(units, names):
    """Leaves of each unit what the names match."""
    selected = {}
    for name in names:
        found = False
        for unit in units:
            of, _, case = name.rpartition("::")
            if unit.is_called(name):
                cases, found = ["*"], True
            elif unit.is_called(of) if of else unit.searched:
                cases = unit.cases_called(case)
                found = found or bool(cases)
            else:
                continue
            if cases:
                selected.setdefault(unit, []).extend(cases)
        if not found:
            known = {name for unit in units for name in unit.names}
            near = difflib.get_close_matches(name, known, 1, 0.7)
            end(f"no test program, pytest file or case is called '{name}'" + (f"; did you mean {near[0]}?" if near else ""))
    for unit, cases in selected.items():
        unit.chosen = [] if "*" in cases else cases
    return list(selected)


def thin(units):
    """Leaves out what is slow; returns what to say of it."""
    said = []
    for unit in units:
        for pattern, (cases, environment) in THINNED.items():
            if matches(unit.name, pattern):
                unit.chosen = [cases]
                unit.environment.update(environment)
                said += ["--skipped", f"{unit.name} but for {cases}", FULL]
                break
    return said


# ---- the simulator's own tests run where something of it has changed, and with --full


def is_of_the_simulator(unit):
    return unit.source.parent.name == "amdsim" or unit.name == "test_amdsim_faults"


def simulator():
    """Its sources and tests as one hash, and the versions of its compilers. (The CPU that it is built for is not in here: what
    a compiler gets wrong for another one is left to --full.)"""
    files = [path for path in sorted(Path("tests/amdsim").rglob("*")) if path.suffix in (".cpp", ".hpp", ".inc", ".map", ".mk")]
    total = hashlib.sha256()
    for path in [*files, Path("tests/test_amdsim_faults.py"), Path("tools/clang_hip.sh")]:
        total.update(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    lines = ["The simulator's own tests passed with this; tests/suite.py writes it when they do.", f"sources: {total.hexdigest()}"]
    for compiler in ("g++", "clang++-19", "hipcc"):
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
        lines.append(f"{compiler}: {version.splitlines()[0]}")
    return "\n".join(lines) + "\n"


# ---- running


def cpu_seconds(usage=None):
    """Of one process that has ended, or of all so far, with those that they had started."""
    usage = usage or resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def since(start, cpu):
    return f"{time.monotonic() - start:.0f} s, {cpu:.0f} s of CPU"


def build(label, units, arguments):
    """What the units need; returns the units that cannot be run, and what count_results is to say of it."""
    targets = sorted({target for unit in units for target in unit.targets})
    if not targets:
        return [], []
    log, start, cpu = REPORTS / f"make-{label}.log", time.monotonic(), cpu_seconds()
    with log.open("w") as output:
        status = make("-k", *arguments, *targets, stdout=output, stderr=subprocess.STDOUT).returncode
    print(f"test: make for {label}: exit code {status}, {since(start, cpu_seconds() - cpu)}", flush=True)
    if status == 0:
        return [], []
    errors = [line for line in log.read_text(errors="replace").splitlines() if re.search(r"[Ee]rror|\*\*\*", line)]
    print("\n".join(errors[:40]), flush=True)
    # An older program may be there, and must not pass for this one.
    broken = [unit for unit in units if isinstance(unit, Program) and make("-q", *arguments, *unit.targets, stderr=subprocess.DEVNULL).returncode]
    return broken, ["--failed", f"make for {label}", f"see {log}", *(word for unit in broken for word in ("--failed", unit.name, "not built"))]


# GoogleTest and pytest name a case before it runs, so an output that stays as it is means one that takes long.
RUNNING = r"^\[ RUN      \] (\S+)|^(tests/\S+::.*?) *$"
ROUTINE = r"\[ RUN |\[       OK|\[---|tests/\S+::.* (PASSED|SKIPPED)"


running = set()  # process groups


def run(unit, limit):
    """Runs a unit, and ends it when a case takes more than `limit` seconds. Returns whether it passed, and what
    count_results is to say of it."""
    log, start = REPORTS / f"{unit.name}.log", time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(unit.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                   env={**os.environ, **unit.environment}, start_new_session=True)
    running.add(process.pid)
    size, grown, hangs = 0, start, False
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        time.sleep(0.05)
        if log.stat().st_size != size:
            size, grown = log.stat().st_size, time.monotonic()
        elif time.monotonic() - grown > limit and not hangs:
            hangs = True
            os.killpg(process.pid, signal.SIGKILL)
    running.discard(process.pid)
    process.returncode = status = os.waitstatus_to_exitcode(ended[1])
    text = log.read_text(errors="replace")
    if isinstance(unit, PytestFile) and status == 5:  # all of the file was skipped
        status = 0
    said, result = f"exit code {status}", [f"{REPORTS}/{unit.name}.xml:{status}"]
    if hangs:
        cases = re.findall(RUNNING, text, re.M)
        said = f"ended after {limit} s without an end of {''.join(cases[-1]) if cases else 'what came before its first case'}"
        result = ["--failed", unit.name, said]
    elif unit.forbidden and (found := re.search(unit.forbidden, text)):
        status, result = 1, [*result, "--failed", unit.name, f"{found[0]!r} in {log}"]
    told = [f"test: {unit.name}: {said}, {since(start, cpu_seconds(ended[2]))}"]
    if status != 0:
        told += [line for line in text.splitlines() if not re.match(ROUTINE, line)][-60:]
    print("\n".join(told), flush=True)
    return status == 0, result


# ---- the whole


class Arguments(argparse.ArgumentParser):
    def error(self, message):
        end(f"{message}; see ./run.sh test -h")


def seconds(text):
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds")
    return int(text)


def main():
    parser = Arguments(add_help=False, allow_abbrev=False)
    for flag in ("--full", "--quick", "--gpu"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-t", "--timeout", type=seconds, default=1800)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.quick and (options.full or options.names):
        end("--quick goes without --full and names; see ./run.sh test -h")
    for number in (signal.SIGINT, signal.SIGTERM):  # so that what runs is ended too
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    os.chdir(ROOT)
    os.environ.pop("GETP_CPU", None)  # the device is what is tested
    os.environ.update({f"GETP_TEST_{name.upper()}": "1" for name in ("full", "gpu") if getattr(options, name)})
    missing = os.environ.get("GETP_NO_AMDSIM")  # what the simulated device lacks here

    groups = {"host": (["GPU=host"], list(host_programs()))}
    gpu = None
    if options.gpu:
        gpu = make("-s", "backend", stdout=subprocess.PIPE).stdout.split()[0]
        if gpu == "host":
            end("--gpu: no GPU with its compiler (hipcc or nvcc) here; ./run.sh test needs none")
        groups[gpu] = [f"GPU={gpu}"], list(programs(f"{gpu}-", f"GPU={gpu}"))
    groups["sanitizers"] = SANITIZED, list(sanitized_programs())
    groups["amdsim"] = ["GPU=host"], [] if missing else [*amdsim_programs("AMDSIM_GPU_TESTS", "tests"),
                                                         *amdsim_programs("AMDSIM_OWN_TESTS", "tests/amdsim")]
    files = list(pytest_files(can_simulate=not missing))
    groups["pytest"] = ["GPU=host"], [unit for unit in files if unit.name not in ALONE]
    groups["alone"] = ["GPU=host"], [unit for unit in files if unit.name in ALONE]
    units = [unit for _, group in groups.values() for unit in group]
    simulators = [unit for unit in units if is_of_the_simulator(unit)]
    for unit in simulators:
        unit.names.add("simulator")

    results, chosen = [], units
    if options.quick:
        chosen = select(units, [*(unit.name for label in ("host", gpu) if label for unit in groups[label][1]), *QUICK])
    elif options.names:
        chosen = select(units, options.names)
    elif not options.full:
        results += thin(units)
        if not missing and PASSED.is_file() and PASSED.read_text() == simulator():
            chosen = [unit for unit in units if unit not in simulators]
            for unit in simulators:
                results += ["--skipped", unit.name, f"simulator, tests and compilers are as when they passed ({PASSED}); {FULL}"]
    if missing and not (options.quick or options.names):
        results += ["--skipped", "test programs on the simulated AMD device", f"not to be had here: {missing}"]

    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    start, passed = time.monotonic(), set()
    for label, (arguments, group) in groups.items():
        group = [unit for unit in group if unit in chosen]
        broken, result = build(label, group, arguments)
        results += result
        group = [unit for unit in group if unit not in broken]
        pool = ThreadPoolExecutor(1 if label == "alone" else os.cpu_count())
        try:
            for unit, (ok, result) in zip(group, pool.map(lambda unit: run(unit, options.timeout), group)):
                results += result
                if ok and not unit.chosen:
                    passed.add(unit)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for group in list(running):
                os.killpg(group, signal.SIGKILL)
            raise
    if simulators and not missing and passed.issuperset(simulators):
        PASSED.write_text(simulator())
    print(f"test: all of it: {since(start, cpu_seconds())}")
    return count_results.main(results)


if __name__ == "__main__":
    sys.exit(main())
