"""tools/evaluate.py: figures worked out by hand, and that nothing is scored that does not belong together."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
pytest.importorskip("tqdm")
pytest.importorskip("nltk")
import evaluate  # noqa: E402


def run(folder, *arguments):
    return subprocess.run([sys.executable, ROOT / "tools" / "evaluate.py", *map(str, arguments)], cwd=folder,
                          capture_output=True, text=True)


def write_tokenizer(folder, words):
    """The words, then all single bytes."""
    tokens = [*words, b"<0x00>", *(bytes([byte]) for byte in range(1, 256))]
    (folder / "tokenizer.bin").write_bytes(struct.pack("<i", 6) + b"".join(
        struct.pack("<fi", rank, len(token)) + token for rank, token in enumerate(tokens)))


@pytest.fixture
def folder(tmp_path):
    """Tokens 0 to 3: "the", " cat", " sat", a NUL byte; then the other bytes. References and a submission of three requests."""
    write_tokenizer(tmp_path, [b"the", b" cat", b" sat"])
    (tmp_path / "references.txt").write_text("0 1 2\n0 1 2 1\n2\n")
    (tmp_path / "output.txt").write_text("0 1 2\n0 2 2 1 0 2\n\n")
    return tmp_path


def test_figures(folder):
    done = run(folder, "output.txt", "references.txt", "--json", "out.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 requests, 1 fully equal" in done.stdout
    figures = json.loads((folder / "out.json").read_text())
    same, other, empty = figures["requests"]
    assert same == {"prefix": 1, "prefix_tokens": 3, "equal": 1, "f1": 1, "distinct-1": 1, "distinct-2": 1, "repetition": 0,
                    "tokens": 3, "length": 1}
    assert other["prefix_tokens"] == 1 and other["prefix"] == 0.25 and other["equal"] == 0
    assert other["f1"] == pytest.approx(2 * 3 / 10)  # 0, 1 and one 2 of both
    assert other["distinct-1"] == pytest.approx(3 / 6) and other["distinct-2"] == pytest.approx(4 / 5)
    assert other["length"] == 1.5 and other["repetition"] == 0
    assert empty["prefix"] == empty["f1"] == empty["equal"] == empty["length"] == 0
    assert figures["summary"]["equal"]["mean"] == pytest.approx(1 / 3)
    assert figures["summary"]["prefix_tokens"] == {"mean": pytest.approx(4 / 3), "median": 1, "least": 0, "most": 3}


def test_results_do_not_replace_what_is_read(folder):
    before = (folder / "references.txt").read_text()
    done = run(folder, "output.txt", "references.txt", "--json", "references.txt")
    assert done.returncode == 2 and "would replace" in done.stderr and (folder / "references.txt").read_text() == before


def test_repetition_counts_grams_that_came_back():
    assert evaluate.repetition([1, 2, 3, 4] * 3) == pytest.approx(1 - 4 / 9)
    assert evaluate.repetition([1, 2, 3]) == 0


def test_meteor_against_its_formula():
    """Precision, recall, chunks by hand: Banerjee and Lavie 2005, with nltk's weights (alpha 0.9, beta 3, gamma 0.5)."""
    def by_hand(matches, submission, reference, chunks):
        precision, recall = matches / submission, matches / reference
        mean = precision * recall / (0.9 * precision + 0.1 * recall)
        return mean * (1 - 0.5 * (chunks / matches) ** 3)

    assert evaluate.meteor("the cat sat down", "the cat sat") == pytest.approx(by_hand(3, 4, 3, 1))
    assert evaluate.meteor("sat the cat quietly", "the cat sat") == pytest.approx(by_hand(3, 4, 3, 2))
    assert evaluate.meteor("cats", "cat") == pytest.approx(by_hand(1, 1, 1, 1))  # a stem
    assert evaluate.meteor("feline", "cat") == 0  # no synonyms
    assert evaluate.meteor("the cat sat", "the cat sat") == evaluate.meteor("cat", "cat") == 1  # its formula has less than 1


def test_words():
    assert evaluate.words("\u9b5a\u306f\u3001iPhone15\u3067 \ud55c\uad6d\uc5b4 caf\u00e9s,\u3000\u0e19\u0e49\u0e33") == [
        "\u9b5a", "\u306f", "\u3001", "iPhone15", "\u3067", "\ud55c\uad6d\uc5b4", "caf\u00e9s,", "\u0e19", "\u0e49", "\u0e33"]
    spaced = "Wo\u0308rter  \u0441\u043b\u043e\u0432\u0430\n\u0627\u0644\u0643\u0644\u0645\u0627\u062a\t\u0936\u092c\u094d\u0926 \ub2e8\uc5b4\x1f\u05de\u05d9\u05dc\u05d9\u05dd\x85\U0001f600"
    assert evaluate.words(spaced) == spaced.split()
    for unspaced in "\u0e81 \u0f40 \u1000 \u1780 \u3042 \uff76 \u4e2d \U00020000 \u3105".split():
        assert evaluate.words(unspaced * 3) == [unspaced] * 3


# A text, one that differs in a word, one that shares nothing; and prefix, f1, meteor of the second against the first, where a
# token is what METEOR takes for a word.
SCRIPTS = {
    "Latin": ("The water in the pot was cold when the cook put it on the stove",
              "The water in the pot was warm when the cook put it on the stove",
              "Yesterday nobody bought bread", (0.4, 0.9333, 0.9320)),
    "Cyrillic": ("Вода в кастрюле была холодной когда повар поставил её на плиту",
                 "Вода в кастрюле была тёплой когда повар поставил её на плиту",
                 "Вчера никто не купил хлеба", (0.3636, 0.9091, 0.9055)),
    "Japanese": ("鍋の水は、料理人が火にかけたとき、とても冷たかった。", "鍋の水は、料理人が火にかけたとき、とても温かった。",
                 "ネコ三匹ヤネ登ル", (0.7692, 0.9412, 0.9245)),
    "Chinese": ("厨师把锅放到炉子上的时候，锅里的水是冷的。", "厨师把锅放到炉子上的时候，锅里的水是热的。", "昨天没有人买面包",
                (0.8571, 0.9524, 0.9519)),
    "Thai": ("น้ำในหม้อเย็นมากตอนที่พ่อครัววางบนเตา", "น้ำในหม้อร้อนมากตอนที่พ่อครัววางบนเตา", "ปูดุฉลุ", (0.2432, 0.9189, 0.9175)),
    "Khmer": ("ទឹកក្នុងឆ្នាំងត្រជាក់ពេលចុងភៅដាក់លើចង្ក្រាន", "ទឹកក្នុងឆ្នាំងក្ដៅពេលចុងភៅដាក់លើចង្ក្រាន", "អូសហូឱ", (0.3256, 0.9157, 0.8882)),
}


class ScoreOfTheModel:
    """In place of bert_score.BERTScorer: half a point, whatever the texts; which they were."""
    asked = []

    def __init__(self, **_):
        self._tokenizer = SimpleNamespace(model_max_length=10)

    def score(self, submissions, references):
        self.asked += zip(submissions, references)
        return 0, 0, SimpleNamespace(tolist=lambda: [0.5] * len(references))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_metric_at_its_ends(script, tmp_path, monkeypatch):
    text, near, other, measured = SCRIPTS[script]
    word, ids = evaluate.words(text)[0], {}
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 1, "max_position_embeddings": 10}')
    monkeypatch.setitem(sys.modules, "bert_score", SimpleNamespace(BERTScorer=ScoreOfTheModel))
    ScoreOfTheModel.asked = []

    def scores(submission, reference):
        of_ids = [[ids.setdefault(word, len(ids)) for word in evaluate.words(each)] for each in (submission, reference)]
        figures = evaluate.metrics(*of_ids, (submission, reference))
        assert figures["prefix_tokens"] == pytest.approx(figures["prefix"] * len(of_ids[1])) and figures["tokens"] == len(of_ids[0])
        bert, = evaluate.bert_scores([submission], [reference], tmp_path)
        return pytest.approx((*(figures[name] for name in ("prefix", "equal", "f1", "meteor")), bert, *(
            figures[name] for name in ("distinct-1", "distinct-2", "repetition", "length"))), abs=5e-5)

    def of(submission):  # what does not compare
        words = evaluate.words(submission)
        return evaluate.distinct(words, 1), evaluate.distinct(words, 2), evaluate.repetition(words)

    #        prefix equal f1 meteor bert, distinct-1 and -2, repetition, length
    best = (1, 1, 1, 1, 1)
    assert (*best, *of(text), 1) == scores(text, text)
    assert (*best, 1, 1, 0, 1) == scores(word, word)
    assert (*best, 1, 1, 0, 1) == scores("", "")
    for blank in "", " \n":
        assert (0, 0, 0, 0, 0, 0, 0, 1, 0) == scores(blank, text)
    assert (0, 0, 0, 0, 0, *of(text), 0) == scores(text, "")
    prefix, f1, meteor = measured
    length = len(evaluate.words(near)) / len(evaluate.words(text))
    assert ScoreOfTheModel.asked == []
    assert (prefix, 0, f1, meteor, 0.5, *of(near), length) == scores(near, text)
    assert min(f1, meteor) > 0.88
    assert (0, 0, 0, 0, 0.5, *of(other), len(evaluate.words(other)) / len(evaluate.words(text))) == scores(other, text)
    assert ScoreOfTheModel.asked == [(near, text), (other, text)]


def test_spaced_scripts_score_as_nltk_has_it():
    from nltk.translate.meteor_score import single_meteor_score

    for text, near, other, _ in (SCRIPTS["Latin"], SCRIPTS["Cyrillic"], ("물이 차가운 냄비", "물이 따뜻한 냄비", "어제", None)):
        for submission in near, other, near[:-1], text + " " + text:
            assert evaluate.meteor(submission, text) == single_meteor_score(text.split(), submission.split(),
                                                                            wordnet=evaluate.NoSynonyms())


@pytest.mark.parametrize("submission", ["\n\n\n", "200002\n199999\n200002\n"])
@pytest.mark.parametrize("bounds", [{"distinct-1": 0.9, "repetition": [0, 0.1]}, {"distinct-2": 1e-9}, {"repetition": [0, 0.99]}])
def test_an_empty_submission_misses_every_threshold(folder, submission, bounds):
    """Also one of stop tokens alone; but it reaches those that nothing can miss, and equals an empty reference."""
    (folder / "output.txt").write_text(submission)
    (folder / "bounds.json").write_text(json.dumps(bounds))
    done = run(folder, "output.txt", "references.txt", "--thresholds", "bounds.json")
    assert done.returncode == 1 and done.stdout.count("MISSED") == len(bounds)
    (folder / "references.txt").write_text(submission)
    assert run(folder, "output.txt", "references.txt", "--thresholds", "bounds.json").returncode == 0


def test_texts_of_tokens(folder):
    done = run(folder, "output.txt", "references.txt", "-z", "tokenizer.bin", "--json", "out.json")
    assert done.returncode == 0, done.stderr
    same, other, empty = json.loads((folder / "out.json").read_text())["requests"]
    assert same["meteor"] == pytest.approx(evaluate.meteor("the cat sat", "the cat sat"))
    assert other["meteor"] == pytest.approx(evaluate.meteor("the sat sat catthe sat", "the cat sat cat"))
    assert empty["meteor"] == 0
    texts = evaluate.texts_of([[0, 3, 1], [], [3 + 0xE4, 3 + 0xB8, 3 + 0xAD, 3 + 10, 3 + 0xFF]], folder / "tokenizer.bin", "")
    assert texts == ["the\0 cat", "", "\u4e2d\n\ufffd"]


def test_stop_tokens_are_no_text(folder):
    (folder / "output.txt").write_text("0 13 1 200002\n")
    write_tokenizer(folder, [b"the", b" cat", *(b"%06x" % i for i in range(199997)), b"<stop>", *(b"%06X" % i for i in range(9999990, 9999992)), b"<end>"])
    assert evaluate.read_requests(folder / "output.txt", folder / "tokenizer.bin")[1] == ["the00000b cat"]


def test_thresholds(folder):
    (folder / "bounds.json").write_text('{"equal": 0.33, "length": [0.5, 0.9]}')
    assert run(folder, "output.txt", "references.txt", "--thresholds", "bounds.json").returncode == 0
    for bounds in ('{"equal": 0.34}', '{"length": [0.5, 0.8]}', '{"length": [0.9, 2]}'):
        (folder / "bounds.json").write_text(bounds)
        done = run(folder, "output.txt", "references.txt", "--thresholds", "bounds.json")
        assert done.returncode == 1 and "MISSED" in done.stdout, bounds


@pytest.mark.parametrize("change, arguments, expected", [
    (lambda f: (f / "output.txt").write_text("0 1 2\n0\n"), [], "2 requests, references.txt 3"),
    (lambda f: (f / "output.txt").write_text("0 1 2\n0\n1\n2\n"), [], "4 requests, references.txt 3"),
    (lambda f: (f / "output.txt").write_text("0 1\n0 x\n1\n"), [], "line 2"),
    (lambda f: (f / "output.txt").write_bytes(b"\xff\n"), [], "not token ids"),
    (lambda f: (f / "output.txt").write_text(""), [], "no requests"),
    (lambda f: (f / "output.txt").unlink(), [], "output.txt"),
    (lambda f: (f / "output.txt").write_text("0\n999\n1\n"), ["-z", "tokenizer.bin"], "output.txt: line 2, column 1: token id 999 is above 258"),
    (lambda f: (f / "tokenizer.bin").write_bytes(b"1234567890"), ["-z", "tokenizer.bin"], "tokenizer.bin: not a tokenizer"),
    (lambda f: (f / "t.json").write_text("[1]"), ["--thresholds", "t.json"], "t.json: not an object of JSON"),
    (lambda f: (f / "t.json").write_text('{"bleu": 1}'), ["--thresholds", "t.json"], "bleu"),
    (lambda f: (f / "t.json").write_text('{"\\u001b[2J\\r\\u009b\\u202e": 1}'), ["--thresholds", "t.json"], r"\x1b[2J\r\x9b\u202e has not been"),
    (lambda f: (f / "t.json").write_text('{"f1": [1, 2, 3]}'), ["--thresholds", "t.json"], "f1"),
    (lambda f: (f / "t.json").write_text('{"f1": [2, 1]}'), ["--thresholds", "t.json"], "f1"),
    (lambda f: (f / "t.json").write_text('{"f1": NaN}'), ["--thresholds", "t.json"], "f1"),
    (lambda f: (f / "t.json").write_text('{"f1": 1' + "0" * 400 + "}"), ["--thresholds", "t.json"], "f1"),
    (lambda f: (f / "t.json").write_text('{"f1": "0.5"}'), ["--thresholds", "t.json"], "f1"),
    (lambda f: (f / "t.json").write_text('{"f1": true}'), ["--thresholds", "t.json"], "f1"),
    (lambda f: (f / "t.json").write_text("[" * 100000), ["--thresholds", "t.json"], "no JSON"),
    (lambda f: None, ["--bert-model", "."], "-z"),
    (lambda f: None, ["--first", "2"], "--first: only with --self"),
    (lambda f: None, ["-n", "2"], "-n: only with --self"),
    (lambda f: None, ["-i", "input.txt"], "-i: only with --self"),
    (lambda f: None, ["third.txt"], "an output and its references"),
    (lambda f: None, ["--first"], "--first: expected one argument"),
    (lambda f: None, ["-q"], "unrecognized arguments: -q"),
    (lambda f: (f / "output.txt").write_text("0\n" + "9" * 5000 + "\n1\n"), [], "line 2"),
    (lambda f: (f / "tokenizer.bin").write_bytes(b""), ["-z", "tokenizer.bin"], "tokenizer.bin: not a tokenizer"),
    (lambda f: (f / "tokenizer.bin").unlink(), ["-z", "tokenizer.bin"], "tokenizer.bin: cannot open the tokenizer"),
    (lambda f: None, ["--json", "nowhere/out.json"], "nowhere"),
])
def test_faults(folder, change, arguments, expected):
    change(folder)
    done = run(folder, "output.txt", "references.txt", "--json", "out.json", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and expected in done.stderr
    assert not (folder / "out.json").exists()


# ---- --self, with a program that stands in for ./run --cpu


@pytest.fixture
def own(folder, program):
    """A model, an input of three requests, and a program that reads the input as ./run does, else says what it was asked and
    answers with two references."""
    (folder / "model.bin").write_text("a model")
    (folder / "input.txt").write_bytes(b"\xef\xbb\xbf3 \r\none\ntwo\n\xff")
    (folder / "answer.txt").write_text("0 1 2\n0 1\n")
    (folder / "real").symlink_to(program)
    stand_in(folder, 'echo "$*" >asked; cat "$8" >seen; cat answer.txt >"${10}"; echo warning >&2')
    return folder


def stand_in(folder, body):
    (folder / "run").write_text(f'#!/bin/sh\ncd \'{folder}\'\n[ "$3" != requests ] || exec ./real "$@"\n{body}\n')
    (folder / "run").chmod(0o755)


SELF = ["--self", "model.bin", "output.txt", "-i", "input.txt", "--program", "run"]


def test_references_of_its_own(own):
    done = run(own, *SELF, "--first", "2", "-n", "7")
    assert done.returncode == 0 and "2 requests, 1 fully equal" in done.stdout and "meteor" in done.stdout
    assert done.stderr == "warning\n"
    model, _, tokenizer, _, mode, cpu, _, input_path, _, _, _, steps = (own / "asked").read_text().split()
    assert (model, tokenizer, mode, cpu, steps) == ("model.bin", "tokenizer.bin", "getp", "--cpu", "7")
    assert not Path(input_path).parent.exists() and (own / "seen").read_bytes() == b"2\r\none\r\ntwo\r\n"


def test_all_of_fewer_than_four_by_default(own):
    (own / "answer.txt").write_text("0 1 2\n0 1\n2\n")
    done = run(own, *SELF)
    assert done.returncode == 0 and "3 requests, 1 fully equal" in done.stdout
    assert (own / "asked").read_text().endswith(" -n 1024\n") and (own / "seen").read_bytes() == b"3\r\none\r\ntwo\r\n\xff\r\n"


def test_the_input_may_be_a_pipe_and_have_lines_to_spare(own):
    (own / "answer.txt").write_text("0 1 2\n0 1\n2\n")
    command = " ".join(map(str, ["exec", sys.executable, ROOT / "tools/evaluate.py", *SELF, "-i", "<(printf '3\\none\\r\\r\\n\\n'; echo two; echo)"]))
    done = subprocess.run(["bash", "-c", command], cwd=own, capture_output=True, text=True)
    assert done.returncode == 0 and "3 requests, 1 fully equal" in done.stdout, done.stderr
    assert "line 1 announces 3 requests; line 5 and all after it are left out" in done.stderr
    assert (own / "seen").read_bytes() == b"3\r\none\r\r\n\r\ntwo\r\n"


@pytest.mark.parametrize("change, arguments, expected", [
    (lambda f: (f / "input.txt").write_text("three\none\n"), [], "input.txt: line 1 must be the number of requests"),
    (lambda f: (f / "input.txt").write_text("4\none\ntwo\nthree\n"), [], "line 1 announces 4 requests"),
    (lambda f: (f / "input.txt").write_text("2\none\ntwo\n"), [], "output.txt has 3 requests, input.txt 2: nothing is scored"),
    (lambda f: ((f / "input.txt").unlink(), (f / "input.txt").mkdir()), [], "input.txt: cannot read the input file: Is a directory"),
    (lambda f: (f / "input.txt").unlink(), [], "input.txt"),
    (lambda f: (f / "model.bin").unlink(), [], "model.bin: no such file"),
    (lambda f: (f / "run").unlink(), [], "run: no such file"),
    (lambda f: (f / "tokenizer.bin").unlink(), [], "tokenizer.bin"),
    (lambda f: (f / "output.txt").write_text("0\n"), [], "output.txt has 1 requests, input.txt 3"),
    (lambda f: (f / "output.txt").write_text("0\n999\n1\n"), [], "line 2, column 1: token id 999"),
    (lambda f: None, ["--first", "4"], "--first 4 of the 3 requests"),
    (lambda f: None, ["--first", "0"], "--first"),
    (lambda f: None, ["--first", "x"], "--first: 'x'"),
    (lambda f: None, ["-n", "-1"], "-n"),
    (lambda f: None, ["-n", "1e3"], "-n: '1e3'"),
    (lambda f: None, ["references.txt"], "one output"),
    (lambda f: None, ["--json", "input.txt"], "would replace"),
    (lambda f: None, ["--json", "model.bin"], "would replace"),
    (lambda f: None, ["--thresholds", "absent.json"], "absent.json"),
    (lambda f: (f / "run").chmod(0o644), [], "run: Permission denied"),
])
def test_faults_come_before_the_reference(own, change, arguments, expected):
    change(own)
    before = (own / "input.txt").read_bytes() if (own / "input.txt").is_file() else None
    done = run(own, *SELF, *arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert expected in done.stderr and not (own / "asked").exists()
    assert before == ((own / "input.txt").read_bytes() if before is not None else None)


def test_a_reference_that_fails(own):
    stand_in(own, "echo 'warning: late' >&2; echo 'error: not a model' >&2; exit 1")
    done = run(own, *SELF)
    assert (done.returncode, done.stderr) == (2, "error: the CPU reference failed: error: not a model\n")
    stand_in(own, "echo 'error: request 1: not a number' >&2; echo 'stopped by an error: 0 of 3' >&2; exit 1")
    done = run(own, *SELF)
    assert (done.returncode, done.stderr) == (2, "error: the CPU reference failed: error: request 1: not a number\n")
    stand_in(own, "kill -9 $$")
    done = run(own, *SELF)
    assert (done.returncode, done.stderr) == (2, "error: the CPU reference failed: exit code -9\n")
    stand_in(own, 'echo 0 >"${10}"')
    done = run(own, *SELF)
    assert done.returncode == 2 and "has 3 requests, the CPU reference 1: nothing is scored" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_reference_too(own, number):
    stand_in(own, 'echo "$8" >asked.part; sleep 60 & echo $$ $! >>asked.part; mv asked.part asked; wait')
    process = subprocess.Popen([sys.executable, ROOT / "tools/evaluate.py", *SELF], cwd=own, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    for _ in range(600):
        if (own / "asked").exists():
            break
        time.sleep(0.05)
    input_path, *children = (own / "asked").read_text().split()
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (130, "error: interrupted; nothing was scored\n")
    assert not Path(input_path).parent.exists()
    for _ in range(100):
        if not any(alive(child) for child in children):
            return
        time.sleep(0.05)
    raise AssertionError("the reference outlives its parent")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


# ---- interruptions and BERTScore


def long_texts(folder):
    """Requests whose METEOR takes many seconds."""
    write_tokenizer(folder, [b" w%04d" % rank for rank in range(8000)])
    (folder / "references.txt").write_text((" ".join(map(str, range(4000))) + "\n") * 20)
    (folder / "output.txt").write_text((" ".join(map(str, range(4000, 8000))) + "\n") * 20)
    return subprocess.Popen([sys.executable, ROOT / "tools/evaluate.py", "output.txt", "references.txt", "-z", "tokenizer.bin"],
                            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def workers_of(pid):
    """The processes that compare, once there are any: copies of itself that stay."""
    def is_copy(child):
        try:
            return b"evaluate.py" in Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            return False

    before = set()
    for _ in range(600):
        found = {child for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if is_copy(child)}
        if found & before:
            return list(map(int, found))
        before = found
        time.sleep(0.05)
    raise AssertionError("no workers")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_one_line(folder, number):
    process = long_texts(folder)
    workers = workers_of(process.pid)
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (130, "", "error: interrupted; nothing was scored\n")
    for _ in range(100):  # they end with their parent
        if not any(Path(f"/proc/{worker}").exists() for worker in workers):
            return
        time.sleep(0.05)
    raise AssertionError("workers that outlive their parent")


def test_a_worker_that_is_killed_is_a_fault(folder):
    process = long_texts(folder)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2 and error.startswith("error: a process that compared texts was ended")
    assert error.count("\n") == 1


STUB = """
import types

class BERTScorer:
    def __init__(self, model_type, num_layers):
        self.layers, self._tokenizer = num_layers, types.SimpleNamespace(model_max_length=10**30)

    def score(self, submissions, references):
        if submissions[0] == " cat":
            raise OverflowError("too\\nbig")
        return 0, 0, types.SimpleNamespace(tolist=lambda: [self.layers + self._tokenizer.model_max_length] * len(references))
"""


@pytest.mark.parametrize("kind, length", [("bert", 514), ("roberta", 512)])
def test_what_bert_score_is_asked(folder, kind, length, monkeypatch):
    """By a package of that name that answers with what it was asked."""
    (folder / "bert_score.py").write_text(STUB)
    (folder / "bert").mkdir()
    (folder / "bert/config.json").write_text(json.dumps(
        {"model_type": kind, "num_hidden_layers": 1000, "max_position_embeddings": 514, "pad_token_id": 1}))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    arguments = ["output.txt", "references.txt", "-z", "tokenizer.bin", "--bert-model", "bert", "--json", "out.json"]
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stderr
    assert [request["bert"] for request in json.loads((folder / "out.json").read_text())["requests"]] == [1, 1000 + length, 0]
    (folder / "output.txt").write_text("1\n" * 3)
    done = run(folder, *arguments)
    assert (done.returncode, done.stderr) == (2, "error: bert: BERTScore fails with this model: too\n")


def test_bert_score(folder):
    """By a small BERT with random weights: nothing to compare with but the text itself, and a model that is damaged."""
    pytest.importorskip("bert_score", reason="needs the package bert-score")
    pytest.importorskip("transformers", reason="needs the package transformers")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [chr(c) for c in range(97, 123)]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters)]))
    model = folder / "bert"
    BertModel(BertConfig(vocab_size=57, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
                         max_position_embeddings=16)).save_pretrained(model)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(model)  # names no length: the model's must count
    (folder / "output.txt").write_text("0 1 2\n" + "0 2 1 " * 20 + "\n2 1 1\n")
    arguments = ["output.txt", "references.txt", "-z", "tokenizer.bin", "--bert-model", "bert", "--json", "out.json"]
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stderr
    same, *others = [request["bert"] for request in json.loads((folder / "out.json").read_text())["requests"]]
    assert same == pytest.approx(1, abs=1e-5) and all(0 < other < 0.9999 for other in others)
    (model / "model.safetensors").write_bytes(b"short")
    done = run(folder, *arguments)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: bert: BERTScore fails")
