"""tools/evaluate.py: figures worked out by hand, and that nothing is scored that does not belong together."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
pytest.importorskip("tqdm")
pytest.importorskip("nltk")
import evaluate  # noqa: E402


def run(folder, *arguments):
    return subprocess.run([sys.executable, ROOT / "tools" / "evaluate.py", *map(str, arguments)], cwd=folder,
                          capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path):
    """Tokens 0 to 3: "the", " cat", " sat", a NUL byte. References and a submission of three requests."""
    words = [b"the", b" cat", b" sat", b"<0x00>"]
    (tmp_path / "tokenizer.bin").write_bytes(struct.pack("<i", 6) + b"".join(
        struct.pack("<fi", rank, len(word)) + word for rank, word in enumerate(words)))
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

    assert evaluate.meteor("the cat sat", "the cat sat") == pytest.approx(by_hand(3, 3, 3, 1))
    assert evaluate.meteor("sat the cat quietly", "the cat sat") == pytest.approx(by_hand(3, 4, 3, 2))
    assert evaluate.meteor("cats", "cat") == pytest.approx(by_hand(1, 1, 1, 1))  # a stem
    assert evaluate.meteor("feline", "cat") == 0  # no synonyms
    assert evaluate.meteor("", "") == 1 and evaluate.meteor("", "cat") == 0


def test_texts_of_tokens(folder):
    done = run(folder, "output.txt", "references.txt", "-z", "tokenizer.bin", "--json", "out.json")
    assert done.returncode == 0, done.stderr
    same, other, empty = json.loads((folder / "out.json").read_text())["requests"]
    assert same["meteor"] == pytest.approx(evaluate.meteor("the cat sat", "the cat sat"))
    assert other["meteor"] == pytest.approx(evaluate.meteor("the sat sat catthe sat", "the cat sat cat"))
    assert empty["meteor"] == 0
    assert evaluate.text_of([0, 3, 1, 200002], evaluate.read_tokenizer(folder / "tokenizer.bin") + [b""] * 200000, "") == "the\0 cat"


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
    (lambda f: (f / "output.txt").write_text("0\n9\n1\n"), ["-z", "tokenizer.bin"], "line 2: token id 9"),
    (lambda f: (f / "tokenizer.bin").write_bytes(b"1234567890"), ["-z", "tokenizer.bin"], "no tokenizer.bin"),
    (lambda f: (f / "t.json").write_text("[1]"), ["--thresholds", "t.json"], "t.json: not an object of JSON"),
    (lambda f: (f / "t.json").write_text('{"bleu": 1}'), ["--thresholds", "t.json"], "bleu"),
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
    (lambda f: (f / "tokenizer.bin").write_bytes(b""), ["-z", "tokenizer.bin"], "no tokenizer.bin"),
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
def own(folder):
    """A model, an input of three requests, and a program that says what it was asked and answers with two references."""
    (folder / "model.bin").write_text("a model")
    (folder / "input.txt").write_bytes(b"\xef\xbb\xbf3 \r\none\ntwo\n\xff")
    (folder / "answer.txt").write_text("0 1 2\n0 1\n")
    program(folder, 'echo "$*" >asked; cat "$8" >seen; cat answer.txt >"${10}"; echo warning >&2')
    return folder


def program(folder, body):
    (folder / "run").write_text(f"#!/bin/sh\ncd '{folder}'\n{body}\n")
    (folder / "run").chmod(0o755)


SELF = ["--self", "model.bin", "output.txt", "-i", "input.txt", "--program", "run"]


def test_references_of_its_own(own):
    done = run(own, *SELF, "--first", "2", "-n", "7")
    assert done.returncode == 0 and "2 requests, 1 fully equal" in done.stdout and "meteor" in done.stdout
    assert done.stderr == "warning\n"
    model, _, tokenizer, _, mode, cpu, _, input_path, _, _, _, steps = (own / "asked").read_text().split()
    assert (model, tokenizer, mode, cpu, steps) == ("model.bin", "tokenizer.bin", "getp", "--cpu", "7")
    assert not Path(input_path).parent.exists() and (own / "seen").read_bytes() == b"2\none\ntwo\n"


def test_all_of_fewer_than_four_by_default(own):
    (own / "answer.txt").write_text("0 1 2\n0 1\n2\n")
    done = run(own, *SELF)
    assert done.returncode == 0 and "3 requests, 1 fully equal" in done.stdout
    assert (own / "asked").read_text().endswith(" -n 1024\n") and (own / "seen").read_bytes() == b"3\none\ntwo\n\xff\n"


@pytest.mark.parametrize("change, arguments, expected", [
    (lambda f: (f / "input.txt").write_text("three\none\n"), [], "not the number of requests"),
    (lambda f: (f / "input.txt").write_text("4\none\ntwo\nthree\n"), [], "4 requests, says its first line, but there are 3"),
    (lambda f: (f / "input.txt").unlink(), [], "input.txt"),
    (lambda f: (f / "model.bin").unlink(), [], "model.bin: no such file"),
    (lambda f: (f / "run").unlink(), [], "run: no such file"),
    (lambda f: (f / "tokenizer.bin").unlink(), [], "tokenizer.bin"),
    (lambda f: (f / "output.txt").write_text("0\n"), [], "1 requests, not 3"),
    (lambda f: (f / "output.txt").write_text("0\n9\n1\n"), [], "line 2: token id 9"),
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
    before = (own / "input.txt").read_bytes() if (own / "input.txt").exists() else None
    done = run(own, *SELF, *arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert expected in done.stderr and not (own / "asked").exists()
    assert before == ((own / "input.txt").read_bytes() if before is not None else None)


def test_a_reference_that_fails(own):
    program(own, "echo 'warning: late' >&2; echo 'error: not a model' >&2; exit 1")
    done = run(own, *SELF)
    assert (done.returncode, done.stderr) == (2, "error: the CPU reference failed: error: not a model\n")
    program(own, "echo 'error: request 1: not a number' >&2; echo 'stopped by an error: 0 of 3' >&2; exit 1")
    done = run(own, *SELF)
    assert (done.returncode, done.stderr) == (2, "error: the CPU reference failed: error: request 1: not a number\n")
    program(own, "kill -9 $$")
    done = run(own, *SELF)
    assert (done.returncode, done.stderr) == (2, "error: the CPU reference failed: exit code -9\n")
    program(own, 'echo 0 >"${10}"')
    done = run(own, *SELF)
    assert done.returncode == 2 and "has 3 requests, the CPU reference 1: nothing is scored" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_reference_too(own, number):
    program(own, 'echo "$8" >asked.part; sleep 60 & echo $$ $! >>asked.part; mv asked.part asked; wait')
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
    (folder / "tokenizer.bin").write_bytes(struct.pack("<i", 6) + b"".join(
        struct.pack("<fi", rank, 6) + b" w%04d" % rank for rank in range(8000)))
    (folder / "references.txt").write_text((" ".join(map(str, range(4000))) + "\n") * 20)
    (folder / "output.txt").write_text((" ".join(map(str, range(4000, 8000))) + "\n") * 20)
    return subprocess.Popen([sys.executable, ROOT / "tools/evaluate.py", "output.txt", "references.txt", "-z", "tokenizer.bin"],
                            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def workers_of(pid):
    """The processes that it has started, once there are any."""
    for _ in range(600):
        if found := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return list(map(int, found))
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
        if submissions[0] == "":
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
    assert [request["bert"] for request in json.loads((folder / "out.json").read_text())["requests"]] == [1000 + length] * 3
    (folder / "output.txt").write_text("\n" * 3)
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
