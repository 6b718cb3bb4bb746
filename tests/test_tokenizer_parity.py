"""tokenizer.cpp against tiktoken, id for id, on random texts; and the tools that feed it: the vocabulary's export and the
table of Unicode classes. Needs o200k_base.tiktoken in the folder GETP_VOCAB (default: ../shared/vocab).
At least 110,000 texts; GETP_TEST_FULL=1 compares six times as many."""
import base64
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import built

tiktoken = pytest.importorskip("tiktoken", reason="needs the Python package tiktoken: pip install -r tools/requirements.txt")
import regex  # comes with tiktoken

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import export_tokenizer  # noqa: E402
RANKS = Path(os.environ.get("GETP_VOCAB", ROOT / "../shared/vocab")) / "o200k_base.tiktoken"
needs_ranks = pytest.mark.skipif(not RANKS.is_file(), reason=f"needs o200k_base.tiktoken in {RANKS.parent}: set GETP_VOCAB")
TIKTOKEN_CACHE_NAME = "fb374d419588a4632f3f557e76b4b70aebbca790"  # how tiktoken's cache names that file
TEXTS = 660_000 if os.environ.get("GETP_TEST_FULL") == "1" else 110_000

CHARACTERS = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF]  # all but NUL, which ends a C string
POOLS = {}  # by general category
for character in CHARACTERS:
    POOLS.setdefault(unicodedata.category(character), []).append(character)
# Starts of stretches of 64 letters of one script each, spread over the Basic Multilingual Plane.
SCRIPTS = [c for c in range(0x40, 0xFFC0, 0x40) if not 0xD7C0 <= c < 0xF900]
SOURCES = [text for path in sorted(ROOT.glob("*.cpp")) + sorted(ROOT.glob("tools/*.py")) + [Path(__file__)]
           for text in [path.read_text()]]
ORDINARY = [f"t{rank}".encode() for rank in range(199998)]
SPECIALS = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|reserved_200013|>"]


def any_character(rng, n):
    return "".join(rng.choice(CHARACTERS) for _ in range(rng.randrange(n)))


def classes(rng, n):
    """A few general categories mixed: all the ways in which the pattern's classes can meet."""
    pools = [POOLS[name] for name in rng.sample(sorted(POOLS), rng.randint(1, 4))]
    pools += rng.sample([[" "], ["\r", "\n"], ["/"], ["'"], ["'s", "\u2019s", "'LL"], ["\u0301"], ["a"], ["A"], ["7"]], 2)
    return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(n)))


def contractions(rng, n):
    def one():
        ending = rng.choice(["s", "t", "re", "ve", "m", "ll", "d", "\u017f", "r", "v", "l", "x", "lL", "\u017fs"])
        word = rng.choice(["I", "we", "THEY", "it", "don", "O", "x\u0301", "\u4e2d", "\u01c5", "\u02b0", "9", "", " ", "?", "\u00df"])
        return word + rng.choice("'''\u2019`") + "".join(rng.choice([c, c.upper()]) for c in ending)
    return "".join(one() + rng.choice(["", " ", "ly", "S", "'", "\n", "1", "\u0301"]) for _ in range(rng.randrange(n // 4)))


def white_space(rng, n):
    spaces = [" ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u200b", "\u3000"]
    few = rng.sample(spaces, rng.randint(1, 4))
    return "".join(rng.choice(few) * rng.randint(1, 6) + rng.choice(["", "", "a", "B", "5", ".", "/", "\u0301", "\u4e2d"])
                   for _ in range(rng.randrange(n // 2)))


def numbers(rng, n):
    digits = rng.choice([list("0123456789"), POOLS["Nd"], POOLS["No"] + POOLS["Nl"]])
    return "".join(rng.choice(digits) if rng.random() < 0.9 else rng.choice(".,- eE%xabc") for _ in range(rng.randrange(n)))


def emoji(rng, n):
    parts = ["\u200d", "\ufe0f", "\u20e3", "#", "1", " ", "\U0001f1e9", "\U0001f1ea", "\U0001f3fd", "\u2764", "\n"]
    return "".join(chr(rng.randrange(0x1F300, 0x1FB00)) if rng.random() < 0.6 else rng.choice(parts)
                   for _ in range(rng.randrange(n)))


def script(rng, n):
    first = rng.choice(SCRIPTS)
    return "".join(chr(first + rng.randrange(64)) if rng.random() < 0.85 else rng.choice("   ,.\n") for _ in range(rng.randrange(n)))


def ascii_text(rng, n):
    return "".join(chr(rng.randrange(1, 128)) for _ in range(rng.randrange(n)))


def source_code(rng, n):
    text = rng.choice(SOURCES)
    start = rng.randrange(len(text))
    return text[start:start + rng.randrange(8 * n)].replace("\n", rng.choice(["\n", "\n", "\r\n"]))


def specials(rng, n):
    return "".join(rng.choice([rng.choice(SPECIALS), "user", " ", "\n", "<|", "|>"]) for _ in range(rng.randrange(n // 4)))


def cased_words(rng, n):
    """Upper, lower, title case and letters without case next to each other, with marks."""
    return "".join(rng.choice(["a", "B", "\u01c5", "\u02b0", "\u4e2d", "\u0301", "\u00e9", "\u0416", "\u05d0", " ", "-"])
                   for _ in range(rng.randrange(n)))


KINDS = [any_character, classes, contractions, white_space, numbers, emoji, script, ascii_text, source_code, specials,
         cased_words]


@pytest.fixture(scope="session")
def encoding(tmp_path_factory):
    if not RANKS.is_file():
        pytest.skip(f"needs o200k_base.tiktoken in {RANKS.parent}: set GETP_VOCAB to its folder")
    cache = tmp_path_factory.mktemp("tiktoken")
    shutil.copy(RANKS, cache / TIKTOKEN_CACHE_NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        yield tiktoken.get_encoding("o200k_harmony")


@pytest.fixture(scope="session")
def tokenizer_bin(encoding, tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.bin"
    subprocess.run([sys.executable, ROOT / "tools/export_tokenizer.py", "-o", path, "--ranks", RANKS], check=True)
    return path


@pytest.fixture(scope="session")
def ids_of(tokenizer_bin, tmp_path_factory):
    """ids_of(texts): the ids that tokenizer.cpp gives each text, str or bytes, having decoded them to the same bytes."""
    folder = tmp_path_factory.mktemp("program")
    program, texts_file = folder / "print_ids", folder / "texts"
    subprocess.run(["g++", "--std=c++17", "-O3", ROOT / "tests/print_ids.cpp", ROOT / "tokenizer.cpp", "-o", program], check=True)

    def call(texts):
        texts_file.write_bytes(b"\0".join(text if isinstance(text, bytes) else text.encode() for text in texts))
        done = subprocess.run([program, tokenizer_bin, texts_file], stdout=subprocess.PIPE, check=True)
        return [list(map(int, line.split())) for line in done.stdout.decode().split("\n")[:-1]]

    return call


def assert_equal(ids_of, encoding, texts):
    ours = ids_of(texts)
    assert len(ours) == len(texts)
    for text, ids in zip(texts, ours):
        expected = encoding.encode_ordinary(text)
        assert ids == expected, f"{text!a}: {encoding.decode_tokens_bytes(ids)} instead of {encoding.decode_tokens_bytes(expected)}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_same_ids_as_tiktoken(ids_of, encoding, kind):
    rng = random.Random(kind.__name__)
    count = -(-TEXTS // len(KINDS))
    assert_equal(ids_of, encoding, [kind(rng, 40) for _ in range(count)])


def not_utf8(rng, n):
    """Pieces of UTF-8, stray bytes, overlong forms, surrogates, and what lies beyond U+10FFFF."""
    parts = [b"a", b"B", b" ", b"  ", b"7", b".", b"/", b"\n", b"'s", b"the", "\u4e2d".encode(), "\U0001f600".encode(),
             b"\xff", b"\xfe", b"\x80", b"\xbf", b"\xc0\xaf", b"\xc1", b"\xc3", b"\xe4\xb8", b"\xe0\x80\xaf", b"\xf0\x9f\x98",
             b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\xf8\x88\x80\x80\x80"]
    return b"".join(rng.choice(parts) if rng.random() < 0.8 else bytes([rng.randrange(1, 256)]) for _ in range(rng.randrange(n)))


def test_bytes_that_are_not_utf8(ids_of, encoding):
    """A byte that is no part of well-formed UTF-8 is a symbol of its own. tiktoken takes text only: its pattern and its merges
    see such a byte as a lone surrogate, neither letter nor digit nor space."""
    rng = random.Random(3)
    texts = [not_utf8(rng, 40) for _ in range(TEXTS // 11)]
    assert sum(b"\xff" in text for text in texts) > len(texts) / 10
    pattern = regex.compile(encoding._pat_str)
    ours = ids_of(texts)
    assert len(ours) == len(texts)
    for text, ids in zip(texts, ours):
        expected = []
        for piece in pattern.findall(text.decode(errors="surrogateescape")):
            expected += encoding._core_bpe.encode_single_piece(piece.encode(errors="surrogateescape"))
        assert ids == expected, f"{text}: {encoding.decode_tokens_bytes(ids)} instead of {encoding.decode_tokens_bytes(expected)}"


def test_every_character(ids_of, encoding):
    """Every code point by itself, within a word and after a space; a hundred of them share a text, apart by digits."""
    def chunks(parts):
        return ["9".join(parts[i:i + 100]) for i in range(0, len(parts), 100)]
    for pattern in "{}", "a{}A{}", " {}'s":
        assert_equal(ids_of, encoding, chunks([pattern.replace("{}", character) for character in CHARACTERS]))


def test_long_texts(ids_of, encoding):
    rng = random.Random(1)
    letters = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(50_000))
    han = "".join(chr(rng.randrange(0x4E00, 0x9FA6)) for _ in range(20_000))
    texts = ["a" * 50_000, letters, letters.upper(), han, "7" * 50_000, "!" * 50_000, "\u0301" * 20_000, "\n" * 50_000,
             " " * 50_000, " " * 50_000 + "x", "A" * 50_000 + "b", "\u4e2d" + "A" * 50_000, "".join(SOURCES)]
    assert_equal(ids_of, encoding, texts)


@pytest.mark.parametrize("kind", ["one letter", "one word", "mixed", "spaces"])
def test_a_megabyte_takes_under_two_seconds(ids_of, kind):
    """The whole program, start and vocabulary included; of the processor's time, so that other work does not matter."""
    rng = random.Random(2)
    text = {"one letter": "a" * 1_000_000, "spaces": " " * 1_000_000,
            "one word": "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000)),
            "mixed": ("".join(SOURCES) * (1_000_000 // len("".join(SOURCES)) + 1))[:1_000_000]}[kind]
    def processor_time():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
    start = processor_time()
    ids_of([text])
    assert 0 < processor_time() - start < 2


def test_export_is_the_same_from_tiktoken(encoding, tokenizer_bin, tmp_path):
    path = tmp_path / "tokenizer.bin"
    done = subprocess.run([sys.executable, ROOT / "tools/export_tokenizer.py", "-o", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_bytes() == tokenizer_bin.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["tokenizer.bin"]


def tokenizer_json(ranks):
    """What a snapshot's tokenizer.json holds of the vocabulary: bytes as letters, special tokens up to 200018."""
    letter_of, next_letter = {}, 256
    for byte in range(256):
        visible = 33 <= byte <= 126 or byte >= 161 and byte != 173
        letter_of[byte] = chr(byte if visible else next_letter)
        next_letter += not visible
    vocabulary = {"".join(letter_of[byte] for byte in base64.b64decode(text)): int(rank)
                  for text, rank in map(bytes.split, ranks.splitlines())}
    names = {199998: "<|startoftext|>", 199999: "<|endoftext|>", 200002: "<|return|>", 200003: "<|constrain|>",
             200005: "<|channel|>", 200006: "<|start|>", 200007: "<|end|>", 200008: "<|message|>", 200012: "<|call|>",
             200018: "<|endofprompt|>"}
    added = [{"id": token, "content": names.get(token, f"<|reserved_{token}|>")} for token in range(199998, 200019)]
    return {"model": {"type": "BPE", "vocab": vocabulary, "merges": []}, "added_tokens": added}


@needs_ranks
def test_export_is_the_same_from_a_snapshot(tokenizer_bin, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json(RANKS.read_bytes())))
    subprocess.run([sys.executable, ROOT / "tools/export_tokenizer.py", "-o", tmp_path / "t.bin", "--snapshot", tmp_path],
                   check=True)
    assert (tmp_path / "t.bin").read_bytes() == tokenizer_bin.read_bytes()


def lose_a_token(tokenizer):
    tokenizer["model"]["vocab"].pop(next(text for text, rank in tokenizer["model"]["vocab"].items() if rank == 1000))


def swap_two_tokens(tokenizer):
    vocabulary = tokenizer["model"]["vocab"]
    first, second = (next(text for text, rank in vocabulary.items() if rank == wanted) for wanted in (1000, 1001))
    vocabulary[first], vocabulary[second] = 1001, 1000


def run_export(tmp_path, tokenizer, config=None):
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    return subprocess.run([sys.executable, ROOT / "tools/export_tokenizer.py", "--snapshot", ".", "-o", "t.bin"], cwd=tmp_path,
                          capture_output=True, text=True)


def rename(token, text):
    return lambda tokenizer: tokenizer["added_tokens"][token - 199998].update(content=text)


def add(token, text):
    return lambda tokenizer: tokenizer["added_tokens"].append({"id": token, "content": text})


@needs_ranks
@pytest.mark.parametrize("size", [None, 200020, 201152])  # of the model, if config.json is there: as released, cut, grown
def test_special_tokens_are_the_files(tokenizer_bin, tmp_path, size):
    changed = {200013: "<|refusal|>", 200019: "<think>", **({201100: "\u601d\u8003"} if size == 201152 else {})}
    tokenizer = tokenizer_json(RANKS.read_bytes())
    rename(200013, "<|refusal|>")(tokenizer)
    tokenizer["model"]["vocab"]["<|refusal|>"] = 200013  # some have special tokens there, too
    for token in changed.keys() - {200013}:
        add(token, changed[token])(tokenizer)
    done = run_export(tmp_path, tokenizer, {"vocab_size": size} if size else None)
    assert (done.returncode, done.stderr) == (0, "")
    ours, expected = (records(path.read_bytes()) for path in (tmp_path / "t.bin", tokenizer_bin))
    score = expected[-1][0]
    expected += [(score, b"<|reserved_%d|>" % token) for token in range(len(expected), size or 0)]
    for token, text in changed.items():
        expected[token] = (score, text.encode())
    assert ours == expected[:size]
    assert all(f"{token} is {text}" in done.stdout for token, text in changed.items())

    (tmp_path / "ids").write_text("200013 200019 200014\n")
    done = subprocess.run([built("decode"), "-z", tmp_path / "t.bin", tmp_path / "ids"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "<|refusal|><think><|reserved_200014|>\n")


def records(data):
    found, at = [], 4
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        found.append((score, data[at + 8:at + 8 + length]))
        at += 8 + length
    return found


@pytest.mark.parametrize("added, changed", [
    ({}, {}),
    ({200018: "<|endofprompt|>"}, {}),  # its name in o200k_base: all sources give one file
    ({199998: "<s>", 201087: "\u601d\u8003"}, {199998: "<s>", 201087: "\u601d\u8003"}),
    ({200002: "<|end|>", 200007: "<|return|>"}, {200002: "<|end|>", 200007: "<|return|>"}),
    ({5: "t5"}, {}),  # an ordinary token that is marked as added
], ids=str)
def test_special_texts(added, changed):
    special = export_tokenizer.special_tokens("t.json", ORDINARY, {token: text.encode() for token, text in added.items()}, 201088)
    assert list(special) == list(range(199998, 201088))
    for token, text in special.items():
        assert text.decode() == changed.get(token, export_tokenizer.special_text(token))


@pytest.mark.parametrize("token, text, named", [
    (201088, "<think>", "201088"), (5, "<think>", "5"), (-1, "<think>", "-1"), (-1, "t199997", "-1"),
    (200019, "<|end|>", "200007 and 200019"), (200019, "<|reserved_200500|>", "200019 and 200500"),
    (200019, "", "200019"), (200019, "x" * 65537, "200019"), (200019, "a\0b", "200019")])
def test_special_texts_that_cannot_be(token, text, named):
    with pytest.raises(SystemExit, match=f"error: t.json: .*{named}"):
        export_tokenizer.special_tokens("t.json", ORDINARY, {token: text.encode()}, 201088)


@needs_ranks
@pytest.mark.parametrize("damage, named", [
    (lose_a_token, "token 1000 is missing"),
    (swap_two_tokens, "sha256"),
    (add(200019, "<|end|>"), "200019"),
    (add(200019, "\ud800"), "not a tokenizer.json"),
    (lambda tokenizer: tokenizer["model"]["vocab"].update({"xyzzy": 200019}), "200019"),  # with a rank of its own
    (lambda tokenizer: tokenizer["model"]["vocab"].update({" plain space": 5}), "token 5"),
    (lambda tokenizer: tokenizer.pop("model"), "not a tokenizer.json"),
])
def test_export_of_another_tokenizer(tmp_path, damage, named):
    tokenizer = tokenizer_json(RANKS.read_bytes())
    damage(tokenizer)
    done = run_export(tmp_path, tokenizer)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert named in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize("options, named", [
    (["--ranks", __file__, "-o", "t.bin"], "sha256"),
    (["--ranks", "absent.tiktoken", "-o", "t.bin"], "absent.tiktoken"),
    (["--ranks", str(RANKS), "-o", "absent/t.bin"], "absent/t.bin"),
])
def test_export_errors(encoding, tmp_path, options, named):
    done = subprocess.run([sys.executable, ROOT / "tools/export_tokenizer.py", *options], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and named in done.stderr
    assert not list(tmp_path.iterdir())


def test_export_without_network(tmp_path):
    environment = {**os.environ, "TIKTOKEN_CACHE_DIR": str(tmp_path / "empty"), "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, ROOT / "tools/export_tokenizer.py", "-o", "t.bin"], cwd=tmp_path,
                          capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: tiktoken cannot download") and done.stderr.count("\n") == 1


def test_unicode_classes_are_tiktokens():
    done = subprocess.run([sys.executable, ROOT / "tools/make_unicode_classes.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unicode_classes_check_finds_a_wrong_class(tmp_path):
    table, wrong = (ROOT / "unicode_classes.inc").read_text(), tmp_path / "wrong.inc"
    assert "{0x5B, kOther}" in table
    wrong.write_text(table.replace("{0x5B, kOther}", "{0x5C, kOther}"))  # takes [ for an upper-case letter
    done = subprocess.run([sys.executable, ROOT / "tools/make_unicode_classes.py", "--check", "-o", wrong],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "U+005B" in done.stderr


def test_unicode_classes_table_is_what_the_tool_writes(tmp_path):
    if unicodedata.unidata_version != "16.0.0":  # the table's; Python 3.14's own
        pytest.importorskip("unicodedata2")
    again = tmp_path / "again.inc"
    subprocess.run([sys.executable, ROOT / "tools/make_unicode_classes.py", "-o", again], check=True)
    assert again.read_text() == (ROOT / "unicode_classes.inc").read_text()
