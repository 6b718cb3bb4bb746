"""tools/requirements.txt: the same packages, at one version each, for every Python that is said to do."""
import ast
import os
import re
import subprocess
import sys

import pytest

from conftest import ROOT

VERSIONS = [(3, minor) for minor in range(9, 15)]
REQUIREMENTS = ROOT / "tools/requirements.txt"


def pins(version):
    """name -> version, of the lines whose markers say that they are for this Python."""
    found = {}
    for line in REQUIREMENTS.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, pin, marker = re.fullmatch(r"([\w-]+)==([\d.]+)(?:; (.*))?", line).groups()
        bounds = re.findall(r'python_version (<|>=) "3\.(\d+)"', marker or "")
        assert len(bounds) == (marker or "").count("python_version"), line
        if all((version < (3, int(minor))) == (relation == "<") for relation, minor in bounds):
            assert name not in found, f"{name} twice for Python {version}"
            found[name] = pin
    return found


def test_every_python_has_every_package():
    names = {line.partition("=")[0] for line in REQUIREMENTS.read_text().splitlines() if line[0] != "#"}
    for version in VERSIONS:
        # Python 3.14 has the Unicode version of unicodedata2 16.0.0 itself.
        assert set(pins(version)) == names - ({"unicodedata2"} if version >= (3, 14) else set()), version


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: "%d.%d" % version)
@pytest.mark.skipif(os.environ.get("GETP_TEST_FULL") != "1", reason="only in ./run.sh test --full")
def test_the_pins_can_be_had(version, tmp_path):
    """Built for that Python, with all that they need; nothing is downloaded but what says so."""
    chosen = tmp_path / "requirements.txt"  # pip reads markers for the Python that it runs on
    chosen.write_text("".join(f"{name}=={pin}\n" for name, pin in pins(version).items()))
    done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--only-binary=:all:",
                           "--python-version", "%d.%d" % version, "--target", tmp_path / "target", "--retries", "1", "--timeout", "20",
                           "-r", chosen], capture_output=True, text=True)
    if done.returncode and "from versions: none" in done.stderr:
        pytest.skip(f"no package index: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", VERSIONS[:1])
def test_the_tools_are_written_for_the_oldest(version):
    for path in [*ROOT.glob("tools/*.py"), *ROOT.glob("tests/*.py")]:
        ast.parse(path.read_text(encoding="utf-8"), path.name, feature_version=version)


def test_an_environment_of_another_python_is_made_anew(tmp_path):
    """As after an upgrade of the distribution: the link leads to a newer Python, or nowhere."""
    script = f'ROOT=$1; eval "$(sed -n "/^has_venv()/,/^}}/p" "{ROOT}/run.sh")"; has_venv'

    def is_there():
        return subprocess.run(["bash", "-c", script, "-", tmp_path]).returncode == 0

    venv = tmp_path / "build/venv"
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/requirements.txt").write_text("a==1\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    assert not is_there()
    (venv / "installed.txt").write_text("a==1\n")
    assert is_there()
    library = next(venv.glob("lib/python*"))
    library.rename(library.with_name("python3.1"))
    assert not is_there()
    library.with_name("python3.1").rename(library)
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to(tmp_path / "gone")
    assert not is_there()
