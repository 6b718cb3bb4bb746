"""Where the project may lie: a path with blanks and quotes, a clone by a git that writes CRLF, a folder that cannot be written.

What is built by a stand-in for g++ is a script that prints its arguments.
"""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conftest import ROOT

# A compiler that wants its sources to be there, and its output to be one word.
COMPILER = r"""#!/bin/sh
out=
for word; do
  case $previous in -o) out=$word ;; esac
  case $word in *.cpp) [ -f "$word" ] || { echo "no source $word" >&2; exit 1; } ;; esac
  previous=$word
done
[ -n "$out" ] && [ "$out" != /dev/null ] || exit 0
printf '#!/bin/sh\necho "built, with: $*"\n' > "$out" && chmod +x "$out"
"""
USER = 65534  # nobody; to root nothing is read-only


def copy_of_the_project(folder):
    """What git has of it, without the large test data."""
    shutil.copytree(ROOT, folder, ignore=lambda path, names: {name for name in names if name in {"build", ".git", "golden", "__pycache__"}
                                                              or (Path(path) == ROOT and name in {"run", "decode", "tokenizer.bin"})})
    return folder


def call(*command, cwd=None, **options):
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, errors="replace", **options)


@pytest.fixture
def stand_in(tmp_path_factory):
    """An environment in which g++ is the stand-in, readable by all."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "bin").mkdir(mode=0o755)
    (folder / "bin/g++").write_text(COMPILER)
    (folder / "bin/g++").chmod(0o755)
    yield {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", "GPU": "host", "HOME": "/nonexistent"}
    shutil.rmtree(folder)


# ---- a path of any characters


PATHS = ["a path", "it's (#1) & é", "[x]* \"quoted\"; ~"]


@pytest.mark.parametrize("name", PATHS)
def test_any_path(stand_in, tmp_path, name):
    project = copy_of_the_project(tmp_path / name / "the project")
    (project / "build").mkdir()
    (project / "model.bin").write_bytes(bytes(60))

    def command(*arguments, printed="built, with: "):
        done = call(*arguments, cwd=tmp_path, env=stand_in)
        assert done.returncode == 0 and printed in done.stdout, done.stdout + done.stderr

    run_sh = project / "run.sh"
    command(run_sh, "build", printed="run.cpp tokenizer.cpp")
    command(run_sh, "run", "the model")
    for out in "out/run", tmp_path / name / "another folder" / "the run":
        command(run_sh, "build", "runfast", f"OUT={out}", printed="run.cpp tokenizer.cpp")
        assert (project / out).stat().st_mode & 0o100
    command("make", "-C", project, "help", f"OUT={project}/run", printed=f"-> {project}/run")
    command(run_sh, "decode", "the file")
    command(run_sh, "parity", project / "model.bin")
    command(run_sh, "bench", "--kernel", "help")
    command(run_sh, "clean", printed="")
    assert not (project / "run").exists() and not (project / "build").exists()


# ---- line ends


def text_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    if not shutil.which("git"):
        pytest.skip("needs git")
    folder = copy_of_the_project(tmp_path_factory.mktemp("repository") / "project")
    shutil.copytree(ROOT / "tests/golden/mxfp4", folder / "tests/golden/mxfp4")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    for arguments in ["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e@e", "commit", "-qm", "all"]:
        subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True)
    return folder, environment


@pytest.mark.parametrize("options", [["core.autocrlf=true"], ["core.eol=crlf"], ["core.autocrlf=true", "core.eol=crlf"]])
def test_a_clone_has_the_same_bytes_whatever_line_ends_git_is_set_to(repository, tmp_path, options):
    folder, environment = repository
    options = [word for option in options for word in ("-c", option)]
    clone, archive = tmp_path / "clone", tmp_path / "archive"
    subprocess.run(["git", "clone", "-q", *options, folder, clone], env=environment, check=True)
    assert text_of(clone) == text_of(folder)
    archive.mkdir()
    tar = subprocess.run(["git", *options, "archive", "HEAD"], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x"], cwd=archive, input=tar, check=True)
    assert text_of(archive) == text_of(folder)


def test_the_patch_set_compiles_with_crlf(tmp_path):
    """As a harness checkout of that setting has it, once its owner has committed it there."""
    project = copy_of_the_project(tmp_path / "project")
    for path in project.rglob("*"):
        if path.suffix in {".cpp", ".hpp", ".h", ".hip", ".inc"}:
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    done = call("g++", "--std=c++17", "-fsyntax-only", "run.cpp", "tokenizer.cpp", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")


# ---- a folder that cannot be written


@pytest.fixture
def locked(stand_in):
    """A checkout of another user's, or read-only; locked(arguments) runs a command there."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    project, outside = copy_of_the_project(folder / "project"), folder / "outside"
    outside.mkdir()
    as_root = os.geteuid() == 0
    if as_root:
        os.chown(outside, USER, USER)

    def lock(*paths, by=os.geteuid(), mode="a-w"):
        for path in paths or [project]:
            subprocess.run(["chmod", "-R", "go=rX" if as_root else mode, path], check=True)
            if as_root and by:
                subprocess.run(["chown", "-R", str(by), path], check=True)

    def run(*arguments, **variables):
        return call(*arguments, cwd=outside, env={**stand_in, **variables}, **({"user": USER, "group": USER} if as_root else {}))

    lock()
    run.project, run.outside, run.lock = project, outside, lock
    run.unlock = lambda: lock(mode="u+w")
    yield run
    run.unlock()
    shutil.rmtree(folder)


def refused(done, folder):
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1, done.stdout + done.stderr
    assert done.stderr.startswith(f"run.sh: cannot write into '{folder}', which belongs to ") and "OUT=/a/path/run" in done.stderr


@pytest.mark.parametrize("command", [
    "build", "demo", "demo --amd", "test", "test --quick", "clean", "decode", "parity MODEL", "bench", "bench --kernel help",
    "run MODEL", "export . -o m.bin", "export-tokenizer -o t.bin", "eval a b", "build OUT=build/run"])
def test_what_writes_into_the_checkout_says_why_not(locked, command):
    (locked.outside / "model").write_bytes(bytes(60))
    refused(locked(locked.project / "run.sh", *command.replace("MODEL", "model").split()), locked.project)
    assert not (locked.project / "build").exists()


def test_what_does_not_works(locked):
    run_sh, out = locked.project / "run.sh", locked.outside / "a program"
    for command in [[run_sh, "help"], [run_sh, "demo", "-h"], [run_sh, "build", f"OUT={out}"], [out], ["make", "-C", locked.project, f"OUT={out}"]]:
        done = locked(*command)
        assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    harness = locked.outside / "harness"
    harness.mkdir()
    for name in "run.cpp", "getp_eval.cpp":
        (harness / name).write_text("")
    harness.chmod(0o777)
    done = locked(run_sh, "install", harness)
    assert done.returncode == 0 and (harness / "hip/gpt_oss.hpp").exists(), done.stderr


def test_what_its_owner_has_built_works(locked, stand_in):
    """run, decode, parity and bench of a checkout that its owner has built for all."""
    run_sh = locked.project / "run.sh"
    locked.unlock()
    for command in ["build"], ["decode"], ["bench", "--kernel", "help"], ["parity", run_sh]:
        assert call(run_sh, *command, env=stand_in).returncode == 0
    locked.lock()
    for command in ["run", "model"], ["decode"], ["bench", "--kernel", "help"], ["parity", run_sh]:
        done = locked(run_sh, *command)
        assert done.returncode == 0 and "built, with:" in done.stdout, done.stderr


@pytest.mark.parametrize("folder", ["build", "build/tests", "data"])
def test_a_folder_that_sudo_left(locked, folder):
    """The checkout is one's own, but for one folder in it."""
    locked.unlock()
    (locked.project / folder).mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        locked.lock(by=USER)
        subprocess.run(["chown", "-R", "0", locked.project / folder], check=True)
    else:
        (locked.project / folder).chmod(0o555)
    done = locked(locked.project / "run.sh", "demo")
    refused(done, f"{locked.project}/{folder}".replace("tests", "tests/"))


def test_install_into_a_harness_that_cannot_be_written(locked):
    harness = locked.project.parent / "harness"
    for path in "hip", "getp-csrc":
        (harness / path).mkdir(parents=True)
    (harness / "hip").rmdir()
    for name in "run.cpp", "getp_eval.cpp":
        (harness / name).write_text("")
    locked.lock(harness)
    done = locked(locked.project / "run.sh", "install", harness)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and f"install: cannot write into '{harness}'" in done.stderr
    assert not list((harness / "getp-csrc").iterdir())


def test_references_are_made_where_there_is_room(tmp_path):
    """eval --self builds its program beside what it writes: in build, or where temporary files go."""
    sys.path.insert(0, str(ROOT / "tools"))
    import evaluate
    commands = []

    def child(command, *_, **__):
        commands.append(list(map(str, command)))
        return 1, "no compiler"

    from types import SimpleNamespace
    options = SimpleNamespace(program=None, input="input.txt", model="m", tokenizer="t", steps=1)
    for folder, built_in in (tmp_path / "absent", Path(tempfile.gettempdir())), (tmp_path, tmp_path / "build"):
        (tmp_path / "build").mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluate, "ROOT", folder)
            patch.setattr(evaluate, "run_child", child)
            with pytest.raises(evaluate.Fault, match="cannot be built"):
                evaluate.make_references(options, [b"x"], 1, 1)
        out = commands[-1][-1].partition("OUT=")[2]
        assert Path(os.path.normpath(folder / out)).parent.parent == built_in and "$" not in out
        assert not list(built_in.glob("eval.*"))
