"""decode: token ids back to text."""
import struct
import subprocess

import pytest

from conftest import built


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """decode, and tokenizer.bin: the bytes at their values, 256 = "word", 257 = the first two bytes of a Chinese
    character, 258 = <|return|>."""
    folder = tmp_path_factory.mktemp("decode")
    (folder / "decode").symlink_to(built("decode"))
    texts = [b"<0x00>"] + [bytes([byte]) for byte in range(1, 256)] + [b"word", b"\xe4\xb8", b"<|return|>"]
    records = b"".join(struct.pack("<fi", -1e30 if text == b"<|return|>" else rank, len(text)) + text
                       for rank, text in enumerate(texts))
    (folder / "tokenizer.bin").write_bytes(struct.pack("<i", 10) + records)
    return folder


def decode(folder, *arguments, data=b""):
    return subprocess.run([folder / "decode", *map(str, arguments)], cwd=folder, input=data, capture_output=True)


def text_of(folder, data, *arguments):
    done = decode(folder, *arguments, data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def assert_refused(done, *parts):
    message = done.stderr.decode()
    assert done.returncode == 1
    assert message.startswith("error: ") and message.count("\n") == 1
    for part in parts:
        assert part in message


def test_all_lines(folder):
    assert text_of(folder, b"256 32 256\n\n97 258\n") == b"word word\n\na<|return|>\n"
    assert text_of(folder, b"") == b""
    assert text_of(folder, b"97\r\n 98  99\t100 \r\n101") == b"a\nbcd\ne\n"


def test_a_character_of_several_tokens(folder):
    assert text_of(folder, b"257 173\n") == "\u4e2d\n".encode()


def test_one_line(folder, tmp_path):
    path = tmp_path / "output.txt"
    path.write_text("97\n\n98 99\n100\n")
    for number, text in enumerate([b"a", b"", b"bc", b"d"], 1):
        assert text_of(folder, b"", "-n", number, path) == text + b"\n"
    assert_refused(decode(folder, "-n", 5, path), str(path), "no line 5", "4")


def test_a_range_of_lines(folder):
    data = b"97\n\n98 99\n100\n"
    assert text_of(folder, data, "-n", "2-3") == b"\nbc\n"
    assert text_of(folder, data, "-n", "1-4") == b"a\n\nbc\nd\n"
    assert text_of(folder, data, "-n", "4-4") == b"d\n"
    done = decode(folder, "-n", "3-5", data=data)  # what there is comes first
    assert_refused(done, "no line 5", "4")
    assert done.stdout == b"bc\nd\n"


def test_file_tokenizer_and_standard_input(folder, tmp_path):
    path = tmp_path / "output.txt"
    path.write_text("97\n")
    assert text_of(folder, b"", "-z", folder / "tokenizer.bin", path) == b"a\n"
    assert text_of(folder, b"98\n", "-") == b"b\n"
    assert text_of(folder, b"98\n") == b"b\n"


def test_other_lines_may_be_bad(folder):
    data = b"97\nbad\n98\n"
    assert text_of(folder, data, "-n", 3) == b"b\n"
    done = decode(folder, data=data)
    assert_refused(done, "line 2, column 1", "'bad'")
    assert done.stdout == b"a\n"


def test_every_byte(folder):
    data = " ".join(map(str, range(256))).encode() + b"\n"
    assert text_of(folder, data, "-r") == bytes(range(256)) + b"\n"
    printable = "".join(map(chr, [9, 10, *range(0x20, 0x7F)]))
    assert text_of(folder, data).decode() == printable + "\ufffd" * 128 + "\n"


@pytest.mark.parametrize("text, shown", [
    (b"a\x1b[2Jb\rc\x7f\0", "a[2Jbc"),
    (b"\xc2\x9b31m\xc2\x80\xc2\x9f\xc2\xa0", "31m\xa0"),  # C1, a token each byte, and the first that is none
    ("\u202aa\u202e\u2066b\u2069\u200f\u05d0".encode(), "ab\u200f\u05d0"),
    (b"\x9b2J", "\ufffd2J"),
    (b"a\xf0\x9f\x98", "a\ufffd"),
    (b"\xe2\x80\x1b\xae", "\ufffd\ufffd"),
])
def test_what_reaches_a_terminal(folder, text, shown):
    """Of one line, and not of the one after it; -r gives the bytes."""
    data = " ".join(map(str, text)).encode() + b"\n174 97\n"
    assert text_of(folder, data).decode() == shown + "\n\ufffda\n"
    assert text_of(folder, data, "-r") == text + b"\n\xaea\n"


def test_errors_quote_no_controls(folder):
    assert_refused(decode(folder, data=b"97 \x1b]0;x\x07\xc2\x9b2J\xff\n"), "']0;x2J\ufffd' is not a token id")


@pytest.mark.parametrize("word, complaint", [
    ("x", "'x' is not a token id"),
    ("-1", "'-1' is not a token id"),
    ("1.5", "'1.5' is not a token id"),
    ("1,2", "'1,2' is not a token id"),
    ("259", "token id 259 is above 258"),
    ("99999999999", "token id 99999999999 is above 258"),
    ("4294967297", "token id 4294967297 is above 258"),
    ("18446744073709551617", "token id 18446744073709551617 is above 258"),
])
def test_bad_ids_name_line_and_column(folder, tmp_path, word, complaint):
    path = tmp_path / "ids.txt"
    path.write_text(f"97 98\n97  {word} 98\n")
    assert_refused(decode(folder, path), f"{path}: line 2, column 5: ", complaint)


@pytest.mark.parametrize("arguments, parts", [
    (["absent.txt"], ["absent.txt", "No such file"]),
    (["."], [".: cannot read the token ids", "Is a directory"]),
    (["-z", "absent.bin"], ["absent.bin", "export-tokenizer"]),
    (["-z", "decode"], ["decode: not a tokenizer"]),
    (["-z"], ["-z needs a value"]),
    (["-n"], ["-n needs a value"]),
    (["-n", "0"], ["-n needs a line number", "'0'"]),
    (["-n", "-2"], ["'-2'"]),
    (["-n", "2x"], ["'2x'"]),
    (["-n", ""], ["''"]),
    (["-n", "99999999999999999999"], ["'99999999999999999999'"]),
    (["-n", "3-2"], ["'3-2'"]),
    (["-n", "2-"], ["'2-'"]),
    (["-n", "2--3"], ["'2--3'"]),
    (["-n", "2-3-4"], ["'2-3-4'"]),
    (["-q"], ["unknown argument '-q'", "decode -h"]),
    (["a", "b"], ["'a' and 'b'"]),
])
def test_bad_arguments(folder, arguments, parts):
    assert_refused(decode(folder, *arguments), *parts)


def test_help(folder):
    assert text_of(folder, b"", "-h").startswith(b"usage: decode ")


def test_full_disk(folder):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([folder / "decode"], cwd=folder, input=b"97\n", stdout=full, stderr=subprocess.PIPE)
    assert_refused(done, "cannot write the text", "No space left")
