"""What several programs read is read in one way: inputs, numbers, token ids. Each table is tried on every one of them."""
import os
import subprocess
import sys

import pytest

from conftest import CPU, ROOT, built

sys.path.insert(0, str(ROOT / "tools"))
pytest.importorskip("tqdm")
import evaluate  # noqa: E402
from files import Fault, whole_number  # noqa: E402

BOM = b"\xef\xbb\xbf"
INPUTS = {  # an input file: its prompts; none: it is refused
    "plain": (b"2\na b\nc\n", [b"a b", b"c"]),
    "no last line end": (b"2\na\nc", [b"a", b"c"]),
    "byte order mark": (BOM + b"2\na\nc\n", [b"a", b"c"]),
    "two of them": (BOM + BOM + b"1\na\n", None),
    "one within": (b"1\n" + BOM + b"a\n", [BOM + b"a"]),
    "UTF-16": ("\ufeff1\na\n".encode("utf-16-le"), None),
    "leading zero": (b"02\na\nc\n", [b"a", b"c"]),
    "many zeros": (b"0" * 5000 + b"1\na\n", [b"a"]),
    "blanks around the count": (b" \t1 \t\na\n", [b"a"]),
    "a form feed": (b"1\f\na\n", None),
    "a vertical tab": (b"\v1\na\n", None),
    "a no-break space": (b"1\xc2\xa0\na\n", None),
    "Arabic digits": ("\u0661\na\n".encode(), None),
    "CRLF": (b"2\r\na\r\nc\r\n", [b"a", b"c"]),
    "CRLF and a byte order mark": (BOM + b"2\r\na\r\nc", [b"a", b"c"]),
    "CR that ends a prompt": (b"2\na\r\r\nc\r\r\r\n", [b"a\r", b"c\r\r"]),
    "CR alone": (b"1\ra\r", None),
    "CR before the count": (b"\r1\na\n", [b"a"]),
    "empty": (b"", None),
    "a mark alone": (BOM, None),
    "an empty line": (b"\n", None),
    "blank first line": (b"\n1\na\n", None),
    "no count": (b"a\nb\n", None),
    "a comma": (b"1,000\na\n", None),
    "zero": (b"0\n", None),
    "a sign": (b"+1\na\n", None),
    "too large": (b"3\na\nc\n", None),
    "too large by a last line end": (b"2\na\n", None),
    "beyond an int": (b"2147483648\na\n", None),
    "beyond 64 bits": (b"18446744073709551617\na\n", None),
    "lines to spare": (b"1\na\nc\nd\n", [b"a"]),
    "blank prompts": (b"3\n\n \n\n", [b"", b" ", b""]),
    "an empty line to spare": (b"1\na\n\n", [b"a"]),
    "a NUL byte": (b"1\na\0b\n", None),
    "a NUL byte beyond": (b"1\na\n\0\n", [b"a"]),
    "no UTF-8": (b"1\n\xff\xc2\n", [b"\xff\xc2"]),
    "other line separators": ("1\na\u2028b\x85c\x1cd\n".encode(), ["a\u2028b\x85c\x1cd".encode()]),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs(run, program, tiny, tmp_path, name):
    """getp, and eval --self."""
    content, prompts = INPUTS[name]
    (tmp_path / "input.txt").write_bytes(content)
    getp = run(tiny.model, "-z", tiny.tokenizer, "-m", "getp", "-i", "input.txt", "-o", "output.txt", "-n", "1", cwd=tmp_path,
               env={**os.environ, **CPU, "OMP_NUM_THREADS": "1"})
    if prompts is None:
        with pytest.raises(Fault) as fault:
            evaluate.read_prompts(program, tiny.model, tmp_path / "input.txt", tmp_path)
        assert getp.returncode == 1 and fault.value.args[0].endswith(getp.stderr.decode().removeprefix("error: ").rstrip("\n"))
        return
    assert getp.returncode == 0 and (tmp_path / "output.txt").read_bytes().count(b"\n") == len(prompts)
    for path in "input.txt", "requests.txt":  # the second is what the first reading left
        (tmp_path / path).rename(tmp_path / "read.txt")
        assert evaluate.read_prompts(program, tiny.model, tmp_path / "read.txt", tmp_path) == prompts


NUMBERS = {"7": 7, "07": 7, "0" * 30 + "7": 7, "12": 12, "18446744073709551614": 2**64 - 2}
NO_NUMBERS = ["", " 7", "7 ", "\t7", "7\n", "+7", "-7", "--7", "7.0", "7e0", "0x7", "7_0", "1,000", "7x", "\u0667", "\uff17", "\u00b2",
              "18446744073709551616", "1" * 5000]


@pytest.fixture(scope="module")
def number_readers(program, make_model_tool, tmp_path_factory):
    """By name: takes a text, says whether it is a number to it."""
    folder = tmp_path_factory.mktemp("numbers")
    (folder / "input.txt").write_text("1\na\n")
    subprocess.run([make_model_tool, "tiny", "-o", folder / "model.bin", "-z", folder / "tokenizer.bin"], check=True)

    def accepts(*command, **variables):
        done = subprocess.run(command, cwd=folder, capture_output=True, env={**os.environ, **variables})
        assert done.returncode == 0 or done.stderr, command
        return done.returncode == 0

    getp = [program, "model.bin", "-i", "input.txt", "-o", "output.txt", "-m"]
    return {
        "run -n": lambda text: accepts(*getp, "requests", "-n", text),
        "run -s": lambda text: accepts(*getp, "requests", "-s", text),
        "environment": lambda text: accepts(*getp, "getp", "-n", "1", GETP_HOST_SEED=text or " "),  # an empty one does not count
        "make_model --seed": lambda text: accepts(make_model_tool, "tiny", "-o", "other.bin", "--seed", text),
        "eval -n": lambda text: whole_number(text, 0, 2**64 - 1) is not None,
    }


@pytest.mark.parametrize("text", [*NUMBERS, *NO_NUMBERS], ids=lambda text: ascii(text[:30]))
def test_numbers(number_readers, text):
    """Of a command line and of the environment, in C++ and in Python."""
    assert {name: accepts(text) for name, accepts in number_readers.items()} == dict.fromkeys(number_readers, text in NUMBERS)
    assert whole_number(text, 0, 2**64 - 1) == NUMBERS.get(text)


def test_bounds_of_a_number():
    assert [whole_number(text, 1, 16) for text in ("0", "1", "16", "17", "016")] == [None, 1, 16, None, 16]


IDS = {
    b"7 8\n\n9\n": [[7, 8], [], [9]],
    b"7 8": [[7, 8]],
    b"7\r\n8\r\n": [[7], [8]],
    b"7\r8\n": [[7, 8]],
    b" 7\t\t8 \n": [[7, 8]],
    b"007 0000000000000000000008\n": [[7, 8]],
    b"\n": [[]],
    b"\n\n": [[], []],
    b"7 x\n": None,
    b"7,8\n": None,
    b"+7\n": None,
    b"-7\n": None,
    b"7_0\n": None,
    b"7\f8\n": None,
    b"7\v8\n": None,
    b"7\x1c8\n": None,
    b"7\xc2\xa08\n": None,
    b"7\0\n": None,
    BOM + b"7\n": None,
    "\u0667\n".encode(): None,
    b"4294967303\n": None,
    b"99999999999999999999\n": None,
    b"9" * 5000 + b"\n": None,
}


@pytest.mark.parametrize("content", IDS, ids=lambda content: ascii(content[:20])[2:-1])
def test_token_ids(tiny, tmp_path, content):
    """decode, and eval."""
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    decoded = subprocess.run([built("decode"), "-x", "-z", tiny.tokenizer, path], capture_output=True, text=True)
    if IDS[content] is None:
        assert decoded.returncode == 1 and "line 1, column " in decoded.stderr
        with pytest.raises(Fault, match="line 1: not token ids"):
            evaluate.read_ids(path)
        return
    assert decoded.returncode == 0
    assert [len(line.split()) for line in decoded.stdout.splitlines()] == [len(ids) for ids in IDS[content]]
    assert [list(ids) for ids in evaluate.read_ids(path)] == IDS[content]
