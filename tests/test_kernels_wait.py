"""A kernel that does not wait for the one before it would be a race on cards that launch early (platform.h)."""

import re
from pathlib import Path

import pytest

KERNELS = sorted((Path(__file__).resolve().parent.parent / "hip" / "kernels").glob("*"))


def bodies(source):
    """Name and body of each kernel of a file."""
    text = re.sub(r"//.*", "", source)
    for kernel in re.finditer(r"__global__ void\s+(?:__launch_bounds__\((?:[^()]|\([^()]*\))*\)\s*)?(\w+)\(", text):
        begin = text.index("{", kernel.end())
        depth, end = 1, begin + 1
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        yield kernel[1], text[begin:end]


# Waits before it knows its matrix, or after it has asked for weights that it knows.
EITHER = ("if (!a.matrix_known) GETP_AFTER_PREVIOUS();", "if (a.matrix_known) GETP_AFTER_PREVIOUS();")


def waits_first(body):
    """No way out is taken before the wait, and no condition guards it."""
    if all(body.count(wait) == 1 for wait in EITHER) and body.index(EITHER[0]) < body.index(EITHER[1]):
        body = body.replace(EITHER[0], "").replace(EITHER[1], "GETP_AFTER_PREVIOUS();")
    before, wait, _ = body.partition("GETP_AFTER_PREVIOUS();")
    return (bool(wait) and "return;" not in before and before.count("{") - before.count("}") == 1
            and before.rstrip()[-1] in "{};")


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.name)
def test_every_kernel_waits(path):
    for name, body in bodies(path.read_text()):
        assert waits_first(body), f"{name} does not begin with GETP_AFTER_PREVIOUS()"


def test_every_kernel_is_looked_at():
    assert sum(path.read_text().count("__global__") for path in KERNELS) == sum(
        len(list(bodies(path.read_text()))) for path in KERNELS) >= 16


def test_a_kernel_that_does_not_wait_is_found():
    for body in (EITHER[0], EITHER[1], EITHER[0] + "if (i > n) return;" + EITHER[1], "int i = 0;",
                 "if (i > n) return; GETP_AFTER_PREVIOUS();", "if (i) { GETP_AFTER_PREVIOUS(); }"):
        ((name, found),) = bodies("__global__ void kernel(int *out) { %s }" % body)
        assert name == "kernel" and not waits_first(found), body
