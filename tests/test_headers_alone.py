"""Every file of hip/ compiles as the only include: by g++ on the host, by nvcc and by hipcc where they are installed.

A file that is not for every back end has one of the words of ONLY_FOR in its path.
"""
import os
import re
import shutil
import subprocess

import pytest

from conftest import ROOT

FULL = os.environ.get("GETP_TEST_FULL") == "1"
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "hip").rglob("*") if path.suffix in (".h", ".hpp", ".hip"))
ONLY_FOR = {"amd": ["amd"], "nvidia|mma_sync|wgmma|warpgroup|async": ["nvidia"], "gpu": ["amd", "nvidia"], "host": ["host"]}
COMPILERS = {  # the front end, as far as a compiler lets one ask for that alone
    "host": ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-x", "c++"],
    "nvidia": ["nvcc", "-std=c++17", "-ptx", "-arch=sm_90a", "-o", os.devnull, "-x", "cu"],
    "amd": ["hipcc", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused-command-line-argument",
            "--offload-arch=gfx90a", "-x", "hip"],
}


def back_ends_of(path):
    return next((back_ends for words, back_ends in ONLY_FOR.items() if re.search(rf"[/_.]({words})", str(path))),
                list(COMPILERS))


def errors(back_end, header, folder):
    """What the compiler says of a file that includes `header` and nothing else."""
    source = folder / "alone.cpp"
    source.write_text(f'#include "{header}"\n')
    done = subprocess.run([*COMPILERS[back_end], source], cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr[:3000] or f"exit code {done.returncode}"


def cases():
    for path in FILES:
        back_ends = back_ends_of(path)
        for back_end in back_ends:
            # The host's compiler reads all that it can; the others what it cannot, and three that include the most.
            by_default = back_end == "host" or "host" not in back_ends or path.name in ("platform.h", "matmul.hip", "forward.hpp")
            compiler = COMPILERS[back_end][0]
            marks = [pytest.mark.skipif(not shutil.which(compiler), reason=f"{compiler} is not installed"),
                     pytest.mark.skipif(not FULL and not by_default, reason="only in ./run.sh test --full")]
            yield pytest.param(back_end, path, id=f"{back_end}-{path}", marks=marks)


@pytest.mark.parametrize("back_end, path", cases())
def test_compiles_as_the_only_include(back_end, path, tmp_path):
    assert not errors(back_end, ROOT / path, tmp_path)


@pytest.mark.parametrize("back_end", COMPILERS)
def test_a_header_that_leans_on_another_is_found(back_end, tmp_path):
    if not shutil.which(COMPILERS[back_end][0]):
        pytest.skip(f"{COMPILERS[back_end][0]} is not installed")
    header = tmp_path / "leaning.hpp"
    header.write_text("#pragma once\ninline std::vector<int> none() { return {}; }\n")
    assert "vector" in errors(back_end, header, tmp_path)
    header.write_text("#pragma once\n#include <vector>\ninline std::vector<int> none() { return {}; }\n")
    assert not errors(back_end, header, tmp_path)
