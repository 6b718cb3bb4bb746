"""run.sh: help, set-up, install; tests/count_results.py; bench; and, in the full run, the demo."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, built
from test_amdsim import needs_amdsim, what_amdsim_lacks

COMMANDS = "demo test build run parity bench decode install clean help".split()


def run_sh(*arguments, script=ROOT / "run.sh", **options):
    return subprocess.run([script, *map(str, arguments)], capture_output=True, text=True, errors="replace", **options)


def copy_front_door(folder):
    """run.sh and what it calls for every command."""
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "run.sh", folder)
    shutil.copy(ROOT / "tools/gpu.sh", folder / "tools")


def refused(done, message):
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("run.sh: ") and done.stderr.count("\n") == 1
    assert message in done.stderr


# ---- help and arguments


def test_help_lists_every_command():
    for arguments in (), ("help",), ("-h",), ("--help",):
        done = run_sh(*arguments)
        assert done.returncode == 0 and done.stderr == ""
        for command in COMMANDS:
            assert re.search(rf"^  {command}\b", done.stdout, re.MULTILINE), command


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_does(command):
    for flag in "-h", "--help":
        done = run_sh(command, flag)
        assert done.returncode == 0 and done.stderr == ""
        name = "COMMAND" if command == "help" else command
        assert done.stdout.startswith(f"usage: ./run.sh {name}") and done.stdout.count("\n") >= 2


@pytest.mark.parametrize("arguments, message", [
    (["frobnicate"], "unknown command 'frobnicate'"),
    (["demo", "--fast"], "unknown argument '--fast'"),
    (["demo", "--shape"], "--shape needs a value"),
    (["demo", "--shape", "20b"], "--shape is 7m or tiny"),
    (["demo", "--gpu", "intel"], "amd, nvidia or host"),
    (["demo", "--amd", "--gpu", "host"], "without --gpu"),
    (["test", "--what"], "unrecognized arguments: --what"),
    (["test", "--quick", "matmul_test"], "--quick goes without --full and names"),
    (["test", "-t", "0"], "'0' is no number of seconds"),
    (["test", "--timeout"], "--timeout: expected one argument"),
    (["test", "no_test"], "no test program, pytest file or case is called 'no_test'"),
    (["test", "matmul_tes"], "did you mean matmul_test?"),
    (["parity"], "which model"),
    (["parity", "no-such.bin"], "no model file"),
    (["parity", "--steps"], "--steps needs a value"),
    (["parity", "--what", "m.bin"], "unknown argument '--what'"),
    (["bench", "no-such.bin"], "no model file"),
    (["bench", "--json"], "--json needs a file"),
    (["bench", "--what"], "unknown argument '--what'"),
    (["bench", "run.sh", "m.bin"], "one model at a time"),
    (["bench", "run.sh", "--shape", "7m"], "--shape is instead of a model"),
    (["bench", "--shape", "13b"], "--shape is tiny, 7m, 20b or 120b"),
    (["bench", "--shape"], "--shape is tiny, 7m, 20b or 120b"),
    (["install"], "needs one directory"),
    (["clean", "all"], "takes no arguments"),
])
def test_bad_arguments_get_one_line(arguments, message):
    refused(run_sh(*arguments), message)


# ---- set-up, with a PATH that holds only what the script itself uses, and stand-ins for apt-get, make and id


@pytest.fixture
def bare_machine(tmp_path):
    """run.sh in a project of its own on a machine without g++ and make; returns run(user id) -> finished process."""
    bin_folder, project = tmp_path / "bin", tmp_path / "project"
    bin_folder.mkdir()
    project.mkdir()
    copy_front_door(project)
    for tool in "bash dirname env nproc chmod touch".split():
        (bin_folder / tool).symlink_to(shutil.which(tool))
    log = tmp_path / "apt.log"

    def stand_in(name, body):
        (bin_folder / name).write_text(f"#!{shutil.which('bash')}\n{body}\n")
        (bin_folder / name).chmod(0o755)

    stand_in("apt-get", f'''echo "$*" >> {log}
for package in "$@"; do
  case $package in g++ | make) printf '#!{shutil.which("bash")}\\necho "$0 $*"\\n' > {bin_folder}/$package; chmod +x {bin_folder}/$package ;; esac
done''')

    def run(user, *arguments):
        stand_in("id", f"echo {user}")
        return run_sh(*arguments, script=project / "run.sh", env={"PATH": str(bin_folder)})

    run.log = log
    return run


def test_without_root_the_command_to_run_is_printed(bare_machine):
    done = bare_machine(1000, "build")
    refused(done, "sudo apt-get install -y --no-install-recommends g++ make")
    assert not bare_machine.log.exists()


def test_root_installs_what_is_missing_and_says_so(bare_machine):
    done = bare_machine(0, "build", "runfast")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("set-up: installing Debian packages: g++ make")
    update, install = bare_machine.log.read_text().splitlines()
    assert update == "-q update"
    assert install.split()[:5] == ["-q", "install", "-y", "--no-install-recommends", "g++"]
    assert "make -C" in done.stdout and done.stdout.rstrip().endswith("runfast")
    again = bare_machine(0, "build", "runfast")
    assert "set-up" not in again.stdout and len(bare_machine.log.read_text().splitlines()) == 2


# ---- install


@pytest.fixture
def project(tmp_path):
    """A copy of what install reads, so that a test may change it."""
    folder = tmp_path / "project"
    (folder / "getp-csrc").mkdir(parents=True)
    copy_front_door(folder)
    (folder / "getp-csrc/getp_run.cpp").write_text("// ours\n")
    (folder / "hip/kernels").mkdir(parents=True)
    (folder / "hip/hip_utils.h").write_text("// utilities\n")
    (folder / "hip/kernels/a.hip").write_text("// a kernel\n")
    return folder


@pytest.fixture(params=["getp-csrc/getp_eval.cpp", "getp_eval.cpp"])
def harness(request, tmp_path):
    """A harness checkout, with getp_eval.cpp in either of the two places."""
    folder = tmp_path / "a harness"
    (folder / "getp-csrc").mkdir(parents=True)
    for name in "run.cpp", "tokenizer.cpp", "Makefile", request.param:
        (folder / name).write_text(f"// theirs: {name}\n")
    (folder / "getp-csrc/getp_run.cpp").write_text("// theirs\n")
    return folder


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def install(project, folder, **options):
    return run_sh("install", folder, script=project / "run.sh", **options)


def test_install_copies_the_patch_set_and_nothing_else(project, harness):
    before = snapshot(harness)
    done = install(project, harness)
    assert done.returncode == 0, done.stderr
    assert "make runfast" in done.stdout and "-m getp" in done.stdout
    after = snapshot(harness)
    assert after.pop("getp-csrc/getp_run.cpp") == b"// ours\n"
    assert after.pop("getp-csrc/getp_run.cpp.orig") == b"// theirs\n"
    assert after.pop("hip/hip_utils.h") == b"// utilities\n"
    assert after.pop("hip/kernels/a.hip") == b"// a kernel\n"
    assert b"  hip/kernels/a.hip\n" in after.pop("hip/.getp-hip")
    del before["getp-csrc/getp_run.cpp"]
    assert after == before


def test_second_install_updates_and_keeps_the_first_backup(project, harness):
    assert install(project, harness).returncode == 0
    first = snapshot(harness)
    assert install(project, harness).returncode == 0
    assert snapshot(harness) == first
    (project / "getp-csrc/getp_run.cpp").write_text("// ours, newer\n")
    (project / "hip/kernels/a.hip").rename(project / "hip/kernels/b.hip")
    assert install(project, harness).returncode == 0
    after = snapshot(harness)
    assert after["getp-csrc/getp_run.cpp"] == b"// ours, newer\n"
    assert after["getp-csrc/getp_run.cpp.orig"] == b"// theirs\n"
    assert "hip/kernels/b.hip" in after and "hip/kernels/a.hip" not in after


def test_an_earlier_version_of_ours_is_no_original(project, harness):
    (harness / "getp-csrc/getp_run.cpp").unlink()
    assert install(project, harness).returncode == 0
    (project / "getp-csrc/getp_run.cpp").write_text("// ours, newer\n")
    assert install(project, harness).returncode == 0
    assert "getp-csrc/getp_run.cpp.orig" not in snapshot(harness)


def test_work_done_on_an_installed_file_is_kept(project, harness):
    assert install(project, harness).returncode == 0
    (harness / "getp-csrc/getp_run.cpp").write_text("// my work\n")
    assert install(project, harness).returncode == 0
    after = snapshot(harness)
    assert after["getp-csrc/getp_run.cpp"] == b"// ours\n"
    assert after["getp-csrc/getp_run.cpp.orig"] == b"// theirs\n"
    assert after["getp-csrc/getp_run.cpp.orig.1"] == b"// my work\n"


@pytest.mark.parametrize("name, text", [("kernels/a.hip", "// tuned\n"), ("kernels/mine.hip", "// new\n")])
def test_work_done_in_the_installed_hip_is_not_touched(project, harness, name, text):
    assert install(project, harness).returncode == 0
    (harness / "hip" / name).write_text(text)
    (project / "hip/kernels/a.hip").write_text("// ours, newer\n")
    before = snapshot(harness)
    refused(install(project, harness), "is not as an install from here left it")
    assert snapshot(harness) == before


def test_a_hip_folder_copied_by_hand_is_ours(project, harness):
    shutil.copytree(project / "hip", harness / "hip")
    assert install(project, harness).returncode == 0


def test_relative_directory(project, harness):
    assert install(project, harness.name, cwd=harness.parent).returncode == 0
    assert (harness / "hip/hip_utils.h").exists()


def test_install_refuses_and_changes_nothing(project, harness, tmp_path):
    def check(message, folder=harness):
        before = snapshot(tmp_path)
        refused(install(project, folder), message)
        assert snapshot(tmp_path) == before

    check("no directory", tmp_path / "nowhere")
    check("no directory", harness / "run.cpp")
    (harness / "hip").mkdir()
    (harness / "hip/kernel.cpp").write_text("// somebody's work\n")
    check("is not as an install from here left it")
    shutil.rmtree(harness / "hip")
    for evaluation in harness.rglob("getp_eval.cpp"):
        evaluation.unlink()
    check("no getp_eval.cpp")
    (harness / "run.cpp").unlink()
    check("no run.cpp")
    for name in "run.cpp", "getp_eval.cpp":
        (project / name).write_text("// ours\n")
    check("this project itself", project)
    (tmp_path / "link").symlink_to(project)
    check("this project itself", tmp_path / "link")


# ---- counting


GTEST = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="5" failures="1" disabled="1" errors="0" name="AllTests"><testsuite name="Rope" tests="5">
<testcase name="Small" status="run" result="completed" classname="Rope" />
<testcase name="Large" status="run" result="completed" classname="Rope" />
<testcase name="Gpu" status="run" result="skipped" classname="Rope"><skipped message="rope_test.cpp:9&#x0A;no GPU"/></testcase>
<testcase name="DISABLED_Old" status="notrun" result="suppressed" classname="Rope" />
<testcase name="Wrong" status="run" result="completed" classname="Rope">
<failure message="rope_test.cpp:12&#x0A;1 against 2" type=""></failure><failure message="again" type=""></failure></testcase>
</testsuite></testsuites>"""
PYTEST = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4">
<testcase classname="tests.test_a" name="test_good" /><testcase classname="tests.test_a" name="test_bad"><failure message="no">text</failure></testcase>
<testcase classname="tests.test_a" name="test_skip"><skipped type="pytest.skip" message="no tiktoken">text</skipped></testcase>
<testcase classname="" name="tests.test_b"><error message="collection failure">text</error></testcase></testsuite></testsuites>"""
GOOD = """<testsuites tests="1"><testsuite name="A" tests="1"><testcase name="b" status="run" classname="A"/></testsuite></testsuites>"""


def count(*arguments):
    done = subprocess.run([sys.executable, ROOT / "tests/count_results.py", *map(str, arguments)], capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def test_counts_come_from_the_reports(tmp_path):
    (tmp_path / "rope_test.xml").write_text(GTEST)
    (tmp_path / "pytest.xml").write_text(PYTEST)
    code, lines = count(f"{tmp_path}/rope_test.xml:1", f"{tmp_path}/pytest.xml:1")
    assert code == 1 and lines[-1] == "3 passed, 3 failed, 3 skipped"
    assert "skipped: Rope.Gpu: rope_test.cpp:9 | no GPU" in lines
    assert "skipped: tests.test_a.test_skip: no tiktoken" in lines
    assert "failed: Rope.Wrong: rope_test.cpp:12 | 1 against 2" in lines


def test_all_passed_is_exit_code_0(tmp_path):
    (tmp_path / "a.xml").write_text(GOOD)
    assert count(f"{tmp_path}/a.xml:0") == (0, ["1 passed, 0 failed, 0 skipped"])


def test_what_left_no_report_counts_as_failed(tmp_path):
    (tmp_path / "good.xml").write_text(GOOD)
    (tmp_path / "broken.xml").write_text(GOOD[:-30])
    (tmp_path / "empty.xml").write_text('<testsuites tests="0"/>')
    good = f"{tmp_path}/good.xml:0"
    for bad in ("absent.xml:139", "broken.xml:139", "empty.xml:0"):  # a crash, a crash while writing, no test at all
        code, lines = count(good, f"{tmp_path}/{bad}")
        assert code == 1 and lines[-1] == "1 passed, 1 failed, 0 skipped", bad
    code, lines = count(f"{tmp_path}/good.xml:1")  # passes its tests, then fails at exit, as with a leak
    assert code == 1 and lines[-1] == "1 passed, 1 failed, 0 skipped"
    assert count("--skipped", "a card", "there is none", good) == (
        0, ["skipped: a card: there is none", "1 passed, 0 failed, 1 skipped"])
    code, lines = count("--failed", "make tests", "it is broken", good)
    assert code == 1 and "failed: make tests: it is broken" in lines and lines[-1] == "1 passed, 1 failed, 0 skipped"
    assert count()[0] == 1


# ---- ./run.sh test on a small project: two GoogleTest programs, two pytest files


SMALL_MAKEFILE = """
TEST_PROGRAMS = $(if $(SANITIZE),,build/tests/a_test build/tests/b_test)
build/tests/%: tests/%.cpp
	mkdir -p build/tests && g++ -o $@ $< -lgtest_main -lgtest
ready-%: ;
print-%: ; @echo $($*)
"""


@pytest.fixture(scope="module")
def small_suite(tmp_path_factory):
    """suite(*arguments, file=text ...) -> finished process, its last line; suite.built() -> the programs that are there"""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "tests").mkdir()
    copy_front_door(folder)
    for name in "suite.py", "count_results.py":
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    (folder / "Makefile").write_text(SMALL_MAKEFILE)

    def write(name, text):
        path = folder / "tests" / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)

    def suite(*arguments, a_test="TEST(A, First) {}\nTEST(A, Second) {}", test_a="def test_one(): pass\ndef test_two(): pass"):
        write("a_test.cpp", f"#include <gtest/gtest.h>\n#include <unistd.h>\n{a_test}\n")
        write("b_test.cpp", "#include <gtest/gtest.h>\nTEST(B, Third) {}\n")
        write("test_a.py", f"import time\n{test_a}\n")
        write("test_b.py", "def test_three(): pass\n")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GETP_")}
        done = run_sh("test", *arguments, script=folder / "run.sh", env=environment)
        return done, "".join(done.stdout.splitlines()[-1:])

    suite.folder = folder
    suite.built = lambda: {path.name for path in (folder / "build/tests").glob("*")}
    return suite


def test_a_name_builds_only_what_it_needs(small_suite):
    for name, built in ("test_b", set()), ("b_test", {"b_test"}), ("A.First", {"a_test", "b_test"}):
        done, last = small_suite(name)
        assert last == "1 passed, 0 failed, 0 skipped", done.stdout + done.stderr
        assert small_suite.built() == built


@pytest.mark.parametrize("files, passed, failed", [
    ({}, 6, 0),
    ({"a_test": "TEST(A, B) { __builtin_trap(); }"}, 4, 1),
    ({"a_test": "TEST(A, B) { what; }"}, 4, 2),  # make, and the program that is not there
    ({"test_a": "def test_one():\n    assert False"}, 4, 1),
])
def test_test_ends_with_the_count_line(small_suite, files, passed, failed):
    done, last = small_suite(**files)
    assert last == f"{passed} passed, {failed} failed, {int(what_amdsim_lacks() != '')} skipped", done.stdout + done.stderr
    assert done.returncode == (failed > 0)


def test_what_hangs_is_named(small_suite):
    started = time.monotonic()
    done, last = small_suite("-t", 2, "a_test", "test_a", "b_test", a_test="TEST(A, First) {}\nTEST(A, Second) { sleep(60); }",
                             test_a="def test_one(): pass\ndef test_two():\n    time.sleep(60)")
    assert last == "1 passed, 2 failed, 0 skipped" and time.monotonic() - started < 30
    assert "failed: a_test: ended after 2 s without an end of A.Second" in done.stdout
    assert "failed: test_a: ended after 2 s without an end of tests/test_a.py::test_two" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_runs(small_suite, number):
    """The test writes its child's number, and waits for it."""
    small_suite("b_test", test_a="import subprocess, pathlib\ndef test_one():\n    child = subprocess.Popen(['sleep', '60'])\n"
                                 "    pathlib.Path('build/child').write_text(f'{child.pid}\\n')\n    child.wait()")
    child = small_suite.folder / "build/child"
    suite = subprocess.Popen([small_suite.folder / "run.sh", "test", "test_a"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while not (child.exists() and child.read_text().endswith("\n")):
        assert suite.poll() is None
        time.sleep(0.1)
    suite.send_signal(number)
    assert b"Traceback" not in suite.communicate()[0] and suite.returncode == 128 + number
    state = Path(f"/proc/{child.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"
    child.unlink()


@pytest.mark.parametrize("names, passed", [
    (["a_test"], 2), (["A"], 2), (["A.Second"], 1), (["Third"], 1), (["a_test::A.F*"], 1), (["tests/a_test.cpp"], 2),
    (["test_a"], 2), (["test_a.py::test_two"], 1), (["tests/test_b.py"], 1), (["test_t*"], 2), (["A.First", "test_b"], 2),
])
def test_names_choose_what_runs(small_suite, names, passed):
    done, last = small_suite(*names)
    assert last == f"{passed} passed, 0 failed, 0 skipped", done.stdout + done.stderr


@pytest.mark.parametrize("names", [["c_test"], ["a_test", "A.Fourth"], ["test_a::test_three"], ["b_test::A.First"]])
def test_names_that_match_nothing_are_refused(small_suite, names):
    done, _ = small_suite(*names)
    refused(done, f"no test program, pytest file or case is called '{names[-1]}'")


def test_gpu_tests_want_a_gpu():
    environment = {**os.environ, "GPU": "host"}
    done = run_sh("test", "--gpu", env=environment)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "no GPU" in done.stderr


# ---- bench


def test_bench_prints_tables_and_writes_json(tiny, tmp_path):
    def bench(**variables):
        file = tmp_path / "figures.json"
        done = run_sh("bench", tiny.model, "--json", file, env={**os.environ, "GPU": "host", "GETP_BATCH": "40", **variables})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, json.loads(file.read_text())

    printed, figures = bench()
    assert (figures["backend"], figures["terms"], figures["steps"], figures["first_position"]) == ("host", 2, 8, 80)
    assert [result["requests"] for result in figures["results"]] == [1, 32, 40], "1, 32, 512 that do not fit, all"
    matrices = {"qkv": 4 * 96 * (6 + 2 * 2) * 32, "attention projection": 4 * 6 * 32 * 96, "router": 4 * 96 * 8,
                "mlp1": 4 * 4 * 96 * 2 * 96, "mlp2": 4 * 4 * 96 * 96, "unembedding": 96 * 512}
    for result in figures["results"]:
        factor = 2 * 2 * result["requests"]  # a multiplication and an addition, two terms
        products = {kernel["operation"].split(" (")[0]: kernel["tflops"] * kernel["ms_per_step"] * 1e9 / factor
                    for kernel in result["kernels"] if "tflops" in kernel}
        assert products == pytest.approx(matrices, rel=1e-3)
        assert result["product_tflops"] * result["ms_per_step"] * 1e9 == pytest.approx(factor * sum(matrices.values()), rel=1e-3)
        assert result["tokens_per_second"] == pytest.approx(1e3 * result["requests"] / result["ms_per_step"], rel=1e-3)
        assert re.search(rf"^ +{result['requests']} .* {result['tokens_hash']}$", printed, re.MULTILINE)
        assert f"\n{result['requests']} requests: " in printed
        for kernel in result["kernels"]:
            assert f"  {kernel['operation']}\n" in printed and re.fullmatch(r"[a-z0-9_ ]+( \([a-z_]+\))?", kernel["operation"])
    assert figures["model"] == str(tiny.model)
    _, again = bench(GETP_HOST_WAVE="32", GETP_HOST_SEED="3")
    assert [r["tokens_hash"] for r in again["results"]] == [r["tokens_hash"] for r in figures["results"]]
    assert bench(GETP_FAST="1")[1]["terms"] == 1


@pytest.mark.parametrize("arguments, message", [
    ([], "which model"),
    (["--batch", "1,,2"], "--batch '': expected a number"),
    (["--batch", "-1"], "--batch '-1': expected a number"),
    (["--steps", "0"], "--steps '0': expected a number from 1"),
    (["--steps", "8x"], "--steps '8x': expected a number"),
    (["--kernels", "2"], "--kernels '2': expected a number from 0 to 1"),
    (["--position", "155", "--steps", "8"], "the model's sequences have 160 positions"),
    (["--cpu-steps", "161"], "the model's sequences have 160 positions"),
    (["--json"], "--json needs a value"),
    (["--what", "1"], "unknown argument '--what'"),
    (["other.bin"], "one model at a time"),
    (["--shape", "tiny"], "--shape is instead of a model"),
    (["--form", "fp16"], "--form goes with --kernel"),
])
def test_bench_refuses_bad_options_in_one_line(tiny, arguments, message):
    done = subprocess.run([built("build/bench", "GPU=host"), *([tiny.model] if arguments else []), *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("bench: ") and done.stderr.count("\n") == 1 and message in done.stderr


@pytest.mark.parametrize("arguments, message", [
    (["--shape", "13b"], "unknown shape '13b'"),
    (["--shape", ""], "--shape needs a value"),
    (["--shape", "tiny", "--cpu-steps", "1"], "--cpu-steps needs a model file"),
    (["--shape", "tiny", "--position", "160"], "the model's sequences have 160 positions"),
    (["--kernel", "rope", "--shape", "tiny", "--form", "mxfp4"], "rope has no weights"),
    (["--kernel", "mlp1", "--shape", "tiny", "--form", "bf16"], "--form is mxfp4 or fp16"),
])
def test_bench_without_a_file_refuses_bad_options_in_one_line(arguments, message):
    done = subprocess.run([built("build/bench", "GPU=host"), *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("bench: ") and done.stderr.count("\n") == 1 and message in done.stderr


def test_bench_without_a_file_is_a_model_of_equal_layers(make_model_tool, tmp_path):
    """The weights of one layer for all, as make_model --mxfp4 writes them for the first: the tokens of such a file."""
    subprocess.run([make_model_tool, "tiny", "--mxfp4", "-o", tmp_path / "tiny.bin"], check=True)
    data, hidden, experts, inner, layers, vocab = (tmp_path / "tiny.bin").read_bytes(), 96, 8, 96, 4, 512
    attention, qkv = 6 * 32, 10 * 32
    counts = [(vocab * hidden, 0), (vocab * hidden, 0), (hidden, 1), (hidden, 1), (hidden, 0), (qkv * hidden, 1), (qkv, 1),
              (hidden * attention, 1), (hidden, 1), (6, 1), (experts * hidden, 1), (experts, 1),
              (experts * 2 * inner * hidden, 1), (experts * 2 * inner, 1), (experts * hidden * inner, 1), (experts * hidden, 1)]
    equal, at = data[:60], 60
    for count, of_layers in counts:
        equal += data[at:at + 4 * count] * (layers if of_layers else 1)
        at += 4 * count * (layers if of_layers else 1)
    assert at == len(data) == len(equal) and equal != data
    (tmp_path / "equal.bin").write_bytes(equal)
    results = []
    for weights in (["--shape", "tiny"], [tmp_path / "equal.bin"]):
        done = run_sh("bench", *weights, "--json", tmp_path / "out.json", env={**os.environ, "GPU": "host", "GETP_BATCH": "5"})
        assert done.returncode == 0, done.stdout + done.stderr
        assert "(experts in MXFP4)" in done.stderr
        loaded = re.search(r"weights loaded: (.*) GB", done.stderr).group(1)
        figures = json.loads((tmp_path / "out.json").read_text())
        results.append((figures["first_position"], [(r["requests"], r["bytes_per_step"], r["tokens_hash"]) for r in figures["results"]]))
        assert loaded == ("0.001" if weights[0] == "--shape" else "0.005"), "one layer, or four"
    assert results[0] == results[1] and results[0][0] == 80
    done = run_sh("bench", env={**os.environ, "GPU": "host", "GETP_BATCH": "1"})
    assert done.returncode == 0 and "bench: random weights of shape tiny\n" in done.stdout, done.stdout + done.stderr


KERNELS = ("embedding rmsnorm rmsnorm_experts qkv rope attention attention_window split w_o router topk expert_tiles mlp1 "
           "swiglu mlp2 unembedding argmax").split()


@pytest.fixture(scope="module")
def bench(tiny):
    """Runs build/bench; the shape is tiny's, by its header alone."""
    subprocess.run(["make", "-s", "build/bench", "GPU=host"], cwd=ROOT, check=True)
    header = tiny.model.parent / "header.bin"
    header.write_bytes(tiny.model.read_bytes()[:60])

    def run(*arguments, shape=header):
        return subprocess.run([ROOT / "build/bench", *map(str, arguments), shape], capture_output=True, text=True)

    return run


def test_the_kernels_are_listed(bench):
    listed = bench("--kernel", "help")
    assert listed.returncode == 0 and [line.split()[0] for line in listed.stdout.splitlines()] == KERNELS
    unknown = bench("--kernel", "relu")
    assert unknown.returncode == 1 and unknown.stdout == "" and unknown.stderr.count("\n") == 1
    assert unknown.stderr.startswith("bench: no kernel 'relu'; there are " + ", ".join(KERNELS))


PRODUCTS = ("qkv", "w_o", "router", "mlp1", "mlp2", "unembedding")


@pytest.mark.parametrize("name, form", [*((name, None) for name in KERNELS), *((name, "fp16") for name in PRODUCTS[3:5]),
                                        ("qkv", "mxfp4"), ("router", "mxfp4")])
def test_one_kernel(bench, name, form, tmp_path):
    """Bytes and operations against what tiny's shape says, for five rows at position 80."""
    rows, hidden, attention, kv, experts, chosen, inner, vocab, window, seen = 5, 96, 192, 64, 8, 4, 96, 512, 24, 81
    done = bench("--kernel", name, "--rows", rows, "--position", seen - 1, "--steps", 3, "--json", tmp_path / "out.json",
                 *(["--form", form] if form else []))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    figures = json.loads((tmp_path / "out.json").read_text())
    assert (figures["kernel"], figures["backend"], figures["rows"], figures["position"]) == (name, "host", rows, seen - 1)
    assert (figures["launches"], figures["buffers"]) == (3, 3) and figures["launched"]
    assert figures["copy_bytes_per_second"] > 0 and figures["ms"] >= figures["least_ms"] > 0 and figures["bytes"] > 0
    assert figures["bytes_per_second"] == pytest.approx(figures["bytes"] / figures["ms"] * 1e3, rel=1e-3)
    assert figures["tflops"] == pytest.approx(figures["flops"] / figures["ms"] / 1e9, rel=1e-3)

    matrices = {"qkv": (hidden, attention + 2 * kv), "w_o": (attention, hidden), "router": (hidden, experts),
                "mlp1": (hidden, 2 * inner), "mlp2": (inner, hidden), "unembedding": (hidden, vocab)}
    form = form or ("mxfp4" if name.startswith("mlp") else "fp16")
    assert figures["form"] == (form.upper() if name in PRODUCTS else "")
    assert (f", weights in {form.upper()}, 5 rows" in done.stdout) == (name in PRODUCTS)
    floats = {"embedding": 1.5 * hidden, "rmsnorm": 5 * hidden, "rmsnorm_experts": (4 + chosen) * hidden,
              "rope": 2 * (attention + 2 * kv), "attention": 2 * seen * kv + 2 * attention,
              "attention_window": 2 * window * kv + 2 * attention, "split": 2 * attention, "topk": experts + 2 * chosen,
              "expert_tiles": 2 * chosen, "swiglu": 3 * chosen * inner, "argmax": vocab}
    if name in matrices:
        n, d = matrices[name]
        outputs = rows * (chosen if name.startswith("mlp") else 1)
        inputs = outputs if name == "mlp2" else rows
        of_weights = figures["bytes"] - 4 * inputs * n - 4 * outputs * d  # two terms of two bytes; sums in FP32
        strips = (d + 15) // 16
        # MXFP4: 16 rows of four steps of 32, codes and scales in 1,088 bytes
        of_one = strips * (1088 * ((n // 32 + 3) // 4) if form == "mxfp4" else 2 * 16 * n) + 4 * d
        used = of_weights / of_one
        assert used == pytest.approx(round(used)) and 1 <= round(used) <= (experts if name.startswith("mlp") else 1)
        assert figures["flops"] == 2 * 2 * outputs * n * d
    else:
        assert figures["bytes"] == 4 * rows * floats[name]
        assert figures["flops"] == {"attention": 4 * rows * seen * attention,
                                    "attention_window": 4 * rows * window * attention}.get(name, 0)
    row = next(line for line in done.stdout.splitlines() if re.match(r" +[\d.]+ +[\d.]+ ", line)).split()
    assert float(row[0]) == pytest.approx(figures["ms"], abs=1e-4) and len(row) == (7 if figures["flops"] else 5)


@pytest.mark.parametrize("arguments, message", [
    (["--kernel", "rope", "--rows", "0"], "--rows '0': expected a number from 1 to 32768"),
    (["--kernel", "rope", "--batch", "2"], "do not go with --kernel"),
    (["--kernel", "rope", "--cpu-steps", "2"], "do not go with --kernel"),
    (["--rows", "2"], "--rows goes with --kernel"),
    (["--kernel", "attention", "--position", "160"], "the model's sequences have 160 positions"),
])
def test_one_kernel_refuses_bad_options_in_one_line(bench, arguments, message):
    done = bench(*arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("bench: ") and done.stderr.count("\n") == 1 and message in done.stderr


def test_one_kernel_by_the_front_door(tiny, tmp_path):
    environment = {**os.environ, "GPU": "host"}
    done = run_sh("bench", tiny.model, "--kernel", "rope", "--rows", "2", "--steps", "3", env=environment)
    assert done.returncode == 0 and "rope (rope), 2 rows at position 80" in done.stdout, done.stdout + done.stderr
    (tmp_path / "short.bin").write_bytes(b"1234")
    done = run_sh("bench", "--kernel=rope", tmp_path / "short.bin", env=environment)
    assert done.returncode == 1 and "less than its 60-byte header" in done.stderr
    done = run_sh("bench", tmp_path / "short.bin", env=environment)
    assert done.returncode == 1 and "less than its 60-byte header" in done.stderr
    (tmp_path / "zeros.bin").write_bytes(bytes(1000))
    done = run_sh("bench", tmp_path / "zeros.bin", env=environment)
    assert done.returncode == 1 and "its header says vocab_size = 0" in done.stderr


# ---- the demo itself


@pytest.mark.parametrize(
    "shape",
    ["tiny", pytest.param("7m", marks=pytest.mark.skipif(os.environ.get("GETP_TEST_FULL") != "1",
                                                         reason="only in ./run.sh test --full"))],
)
def test_demo_matches_the_reference(shape):
    done = run_sh("demo", "--shape", shape, "--gpu", "host", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(experts in MXFP4)" in done.stderr
    assert "demo: 32 of 32 requests match the CPU reference token for token" in done.stdout


@needs_amdsim
def test_demo_on_the_simulated_amd_device():
    before = (ROOT / "run").read_bytes() if (ROOT / "run").exists() else None
    done = run_sh("demo", "--amd", "--shape", "tiny", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo: LD_LIBRARY_PATH=build/amdsim AMDSIM=gfx90a build/run_amd build/demo/model.bin" in done.stdout
    assert "device 0: AMD Instinct MI250 (one GCD) (amd back end)" in done.stderr
    assert "demo: 8 of 8 requests match the CPU reference token for token" in done.stdout
    assert before == ((ROOT / "run").read_bytes() if (ROOT / "run").exists() else None), "./run stays as it was"


# export, eval: the tools behind them have tests of their own ----------------------------------------------------------


@pytest.fixture(scope="module")
def graded(program, make_model_tool, tmp_path_factory):
    """A tiny model with its tokenizer, the output of its first eight prompts, and the input."""
    folder = tmp_path_factory.mktemp("graded")
    subprocess.run([make_model_tool, "tiny", "-o", folder / "model.bin", "-z", folder / "tokenizer.bin", "--seed", "1"],
                   check=True, capture_output=True)
    prompts = (ROOT / "data/input.txt").read_text(encoding="utf-8").splitlines()[1:9]
    (folder / "input.txt").write_text("\n".join(["8", *prompts]) + "\n", encoding="utf-8")
    subprocess.run([program, "model.bin", "-z", "tokenizer.bin", "-m", "getp", "-i", "input.txt", "-o",
                    "output.txt", "-n", "32"], cwd=folder, check=True, capture_output=True)
    return folder


def test_eval_has_one_help():
    done = run_sh("eval", "-h")
    tool = subprocess.run([sys.executable, ROOT / "tools/evaluate.py", "-h"], capture_output=True, text=True)
    assert done.returncode == tool.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("usage: ./run.sh eval OUTPUT REFERENCES") and done.stdout.split() == tool.stdout.split()


BUILT = ["--program", ROOT / "build/tests/run"]


def evaluated(folder, *arguments):
    return subprocess.run([ROOT / "run.sh", "eval", *arguments], cwd=folder, capture_output=True, text=True)


def test_eval_against_the_reference_in_any_order(graded):
    """Built for it, or a program that is there."""
    pytest.importorskip("nltk")
    for arguments in (["--self", "model.bin", "output.txt", "--first", "3", "--json", "a.json"],
                      ["--json", "a.json", "--first", "3", "output.txt", *BUILT, "--self", "model.bin"]):
        done = evaluated(graded, *arguments, "-i", "input.txt", "-n", "32")
        assert done.returncode == 0, done.stderr
        assert "3 requests, 3 fully equal" in done.stdout
        (graded / "a.json").unlink()


def test_two_evals_at_once(graded):
    """Of different lengths; the first output lacks its last line end, and no --first stands for all of fewer than four."""
    pytest.importorskip("nltk")
    (graded / "two.txt").write_text("\n".join(["2", *(graded / "input.txt").read_text().splitlines()[1:3]]))
    (graded / "of-two.txt").write_text("\n".join((graded / "output.txt").read_text().splitlines()[:2]))
    arguments = [["of-two.txt", "-i", "two.txt"], ["output.txt", "-i", "input.txt"]]
    running = [subprocess.Popen([ROOT / "run.sh", "eval", "--self", "model.bin", *each, *BUILT, "-n", "32"], cwd=graded,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in arguments]
    for process, expected in zip(running, ["2 requests, 2 fully equal", "4 requests, 4 fully equal"]):
        out, error = process.communicate()
        assert process.returncode == 0 and expected in out, out + error
    assert not list((ROOT / "build").glob("eval.*"))


@pytest.mark.parametrize("arguments, expected", [
    (["--self", "model.bin"], "one output"),
    (["--self", "model.bin", "absent.txt"], "absent.txt"),
    (["--self", "model.bin", "short.txt", *BUILT], "nothing is scored"),
    (["--self", "model.bin", "output.txt", *BUILT, "-i", "bad.txt"], "bad.txt: line 1 must be the number of requests"),
    (["--self", "absent.bin", "output.txt"], "absent.bin"),
    (["--self", "model.bin", "output.txt", "--thresholds", "absent.json"], "absent.json"),
    (["--self", "model.bin", "output.txt", "--json", "nowhere/out.json"], "nowhere"),
    (["--self", "model.bin", "output.txt", "-z", "absent.tok"], "absent.tok"),
    (["--self", "model.bin", "output.txt", "--first", "9"], "--first 9"),
    (["--self", "model.bin", "output.txt", "--first", "x"], "--first: 'x'"),
    (["output.txt", "references.txt", "-n", "3"], "only with --self"),
    (["output.txt"], "references"),
    (["--first"], "--first: expected one argument"),
    (["-q"], "-q"),
])
def test_eval_says_what_is_wrong_before_the_reference(graded, arguments, expected):
    pytest.importorskip("nltk")
    (graded / "short.txt").write_text("1\n2\n")
    (graded / "bad.txt").write_text("eight\n")
    done = evaluated(graded, *(["-i", "input.txt"] if "--self" in arguments else []), *arguments)
    assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_export_by_the_front_door(tmp_path):
    pytest.importorskip("ml_dtypes")
    for snapshot, code in ((ROOT / "tests/golden/mxfp4", 0), (tmp_path, 1)):
        done = subprocess.run([ROOT / "run.sh", "export", snapshot, "-o", tmp_path / "model.bin"], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    assert (tmp_path / "model.bin").stat().st_size > 60 and done.stderr.startswith("error: ")
