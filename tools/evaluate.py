#!/usr/bin/env python3
"""Compares a submission, an output.txt of token ids, with references, another one, request by request.

    ./run.sh eval OUTPUT REFERENCES [-z tokenizer.bin] [--thresholds FILE] [--json FILE] [--bert-model FOLDER]
    ./run.sh eval --self MODEL OUTPUT [-i input.txt] [-n STEPS] [--first N] [-z tokenizer.bin] [--thresholds FILE] ...

Both files must hold the same number of requests. --self makes the references with the CPU reference (./run --cpu, built
for it): a token of gpt-oss-20b reads 14 GB of weights, so give a small N, and the -n of OUTPUT small too.
Exit code 1 if a mean misses its threshold, 2 on a fault.

  prefix         tokens before the first that differs, as a share of the reference's (1: all of them)
  equal          1 where the request is token for token the reference
  f1             F1 of the tokens as a bag (SQuAD's, on token ids)
  meteor         METEOR of the texts' words by nltk: exact and stemmed matches, no synonyms; needs -z. Where words are written
                 without spaces between them (Chinese, Japanese, Thai, Khmer, ...), each character counts as a word
  bert           BERTScore's F1 of the texts; needs -z, the package bert-score and a model's folder
  distinct-1, -2 different tokens, or pairs of neighbours, by all of the submission's
  repetition     share of the submission's 4-grams that were there before
  length         tokens of the submission by those of the reference

Equal texts score best in all that compare, also two empty ones. An empty submission where the reference has tokens scores worst:
0, a repetition of 1.

Thresholds: a JSON object of lowest means, and highest as [lowest, highest]: {"equal": 0.99, "length": [0.9, 1.1]}.
"""

import argparse
import contextlib
import ctypes
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from array import array
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from files import Fault, json_object, output_file, whole

ROOT = Path(__file__).resolve().parent.parent
STOP_TOKENS = {199999, 200002}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def read_ids(path):
    """The ids of each request: numbers between blanks, a request a line, as decode.cpp takes them."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}") from None
    if not content:
        raise Fault(f"{path}: no requests")
    requests = []
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
        try:
            if line.strip(b"0123456789 \t\r"):
                raise ValueError
            requests.append(array("i", map(int, line.split())))
        except (ValueError, OverflowError):
            raise Fault(f"{path}: line {number}: not token ids; give the output file of run -m getp") from None
    return requests


def texts_of(requests, tokenizer, path):
    """The text of each request of the file at `path`, by ./run.sh decode, which builds what it needs."""
    lines = "".join(" ".join(map(str, ids)) + "\n" for ids in requests)
    done = subprocess.run([ROOT / "run.sh", "decode", "-x", "-z", tokenizer, "-"], input=lines, capture_output=True, text=True)
    if done.returncode:
        raise Fault((last_line(done.stderr) or f"decode: exit code {done.returncode}").replace("standard input", str(path), 1))
    return [bytes.fromhex("".join(bytes_ for id_, bytes_ in zip(ids, line.split()) if id_ not in STOP_TOKENS)).decode("utf-8", "replace")
            for ids, line in zip(requests, done.stdout.split("\n"))]


def last_line(printed):
    """What a program that has failed said at the end."""
    return (printed.strip().splitlines() or [""])[-1].removeprefix("error: ")


# ---- metrics of one request ----------------------------------------------------------------------------------------------


def share(part, whole, empty=1.0):
    return part / whole if whole else empty


def prefix_length(submission, reference):
    for i, (ours, theirs) in enumerate(zip(submission, reference)):
        if ours != theirs:
            return i
    return min(len(submission), len(reference))


def f1(submission, reference):
    common = sum((Counter(submission) & Counter(reference)).values())
    return share(2 * common, len(submission) + len(reference))


def distinct(ids, n):
    grams = [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]
    return share(len(set(grams)), len(grams))


def repetition(ids, n=4):
    return 1 - distinct(ids, n)


# Blocks of scripts that put no spaces between words: Thai and Lao, Tibetan, Myanmar, Khmer, Tai; ideographs with their radicals
# and punctuation, kana, bopomofo (not Hangul, whose words are spaced).
UNSPACED = ("\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"
            "\u2e80-\u2fdf\u3001-\u312f\u3190-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
            "\U0001aff0-\U0001b16f\U00020000-\U0003ffff")
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def words(text):
    """What spaces part, and each character of a script that has none."""
    return WORD.findall(text)


def of_blank_or_equal(submission, reference):
    """What metrics of texts have in common: 1 for the same words or none on either side, 0 for none on one; else None."""
    ours, theirs = words(submission), words(reference)
    return float(ours == theirs) if ours == theirs or not (ours and theirs) else None


class NoSynonyms:
    """What nltk's METEOR asks of WordNet, without its data."""

    def synsets(self, _):
        return []


def meteor(submission, reference):
    from nltk.translate.meteor_score import single_meteor_score

    known = of_blank_or_equal(submission, reference)  # METEOR itself gives equal texts of n words 1 - 0.5 / n^3
    return single_meteor_score(words(reference), words(submission), wordnet=NoSynonyms()) if known is None else known


def bert_scores(submissions, references, folder):
    """BERTScore of each pair; the package itself gives two blank texts 0, and equal ones not quite 1."""
    try:
        from bert_score import BERTScorer
    except ImportError:
        raise Fault("--bert-model needs the Python package bert-score: pip install bert-score") from None
    if not Path(folder).is_dir():
        raise Fault(f"{folder}: no folder of a model for BERTScore")
    try:
        config = json.loads((Path(folder) / "config.json").read_text())
        layers, positions = int(config["num_hidden_layers"]), int(config["max_position_embeddings"])
        if config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):  # positions begin after that of the padding
            positions -= int(config["pad_token_id"]) + 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Fault(f"{folder}: config.json does not say num_hidden_layers and max_position_embeddings: {error!r}") from None
    scores = list(map(of_blank_or_equal, submissions, references))
    rest = [i for i, score in enumerate(scores) if score is None]
    try:
        scorer = BERTScorer(model_type=str(folder), num_layers=layers)
        # Longer texts are cut; a tokenizer that names no length would cut nothing.
        scorer._tokenizer.model_max_length = min(scorer._tokenizer.model_max_length, positions)
        if rest:
            measured = scorer.score([submissions[i] for i in rest], [references[i] for i in rest])[2].tolist()
            for i, score in zip(rest, measured):
                scores[i] = score
    except Exception as error:  # a damaged or foreign model fails anywhere in it
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Fault(f"{folder}: BERTScore fails with this model: {reason}") from None
    return scores


def metrics(submission, reference, texts):
    """Those of one request. A stop token alone is no text: what has nothing else where the reference has is neither varied nor
    free of repetition."""
    lacking = STOP_TOKENS.issuperset(submission) and not STOP_TOKENS.issuperset(reference)
    same = prefix_length(submission, reference)
    result = {"prefix": share(same, len(reference), float(not submission)), "prefix_tokens": same,
              "equal": float(submission == reference), "f1": f1(submission, reference)}
    if texts:
        result["meteor"] = meteor(*texts)
    result.update({"distinct-1": 0.0 if lacking else distinct(submission, 1),
                   "distinct-2": 0.0 if lacking else distinct(submission, 2),
                   "repetition": 1.0 if lacking else repetition(submission), "tokens": len(submission),
                   "length": share(len(submission), len(reference), float(not submission))})
    return result


def interrupted(*_):
    """Ends the program wherever it is; an exception could get lost in a callback."""
    os.write(2, b"error: interrupted; nothing was scored\n")
    os._exit(130)


def begin_worker(parent, *requests):
    """A worker knows all requests by the fork, leaves Ctrl-C to its parent, and does not outlive it."""
    global worker_requests
    worker_requests = requests
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def metrics_of(number):
    return metrics(*(each[number] for each in worker_requests))


def each_metrics(submission, references, texts):
    """Metrics of each request, in order; of texts in several processes: METEOR of two long ones takes half a second."""
    if not texts[0]:
        yield from map(metrics, submission, references, texts)
        return
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(texts)), multiprocessing.get_context("fork"), begin_worker,
                             (os.getpid(), submission, references, texts)) as pool:
        try:
            yield from pool.map(metrics_of, range(len(texts)))
        except BrokenProcessPool:
            raise Fault("a process that compared texts was ended from outside, perhaps for want of memory; try again") from None


# ---- all of them -----------------------------------------------------------------------------------------------------------


def read_requests(path, tokenizer):
    """The ids and the text of each request; no tokenizer, no text."""
    ids = read_ids(path)
    return ids, texts_of(ids, tokenizer, path) if tokenizer else [None] * len(ids)


def check_number(path, number, other, other_number):
    if number != other_number:
        raise Fault(f"{path} has {number} requests, {other} {other_number}: nothing is scored")


def evaluate(submission, references, bert_model=None):
    """A dictionary of metrics for each request, by the ids and texts of both sides."""
    from tqdm import tqdm

    (ids, texts), (reference_ids, reference_texts) = submission, references
    pairs = [each if each[0] is not None else None for each in zip(texts, reference_texts)]
    results = list(tqdm(each_metrics(ids, reference_ids, pairs), total=len(ids), desc="evaluate",
                        disable=not sys.stderr.isatty()))
    if bert_model:
        for result, value in zip(results, bert_scores(texts, reference_texts, bert_model)):
            result["bert"] = value
    return results


def summary(results):
    return {name: {"mean": statistics.fmean(values), "median": statistics.median(values), "least": min(values),
                   "most": max(values)}
            for name in results[0] for values in [[result[name] for result in results]]}


def read_thresholds(path):
    bounds = {}
    for name, bound in json_object(path).items():
        bound = bound if isinstance(bound, list) else [bound, math.inf]
        if len(bound) != 2 or not all(type(value) in (int, float) for value in bound) or not -1e9 < bound[0] < 1e9 or \
                not bound[0] <= bound[1] or 1e9 < bound[1] < math.inf:
            raise Fault(f"{path}: not thresholds, as {{\"equal\": 0.99}}: {name} is neither a number nor [lowest, highest]")
        bounds[name] = bound
    return bounds


def check_names(bounds, path, names):
    unknown = sorted(set(bounds) - set(names))
    if unknown:
        raise Fault(f"{path}: {unknown[0]} has not been measured; there are {', '.join(names)}")


# ---- references by the CPU reference ----------------------------------------------------------------------------------------


def run_child(command, end_by, stdin=subprocess.DEVNULL, **options):
    """Its exit code and what it wrote to stderr; one that is interrupted ends with all that it has started."""
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          errors="replace", start_new_session=True, **options) as child:
        try:
            _, printed = child.communicate()
        except KeyboardInterrupt:
            os.killpg(child.pid, end_by)
            child.wait()
            raise
    return child.returncode, printed


def read_prompts(program, model, path, folder):
    """The prompts of a getp input, as the program itself reads it; `folder` is for what passes between the two."""
    plain = folder / "requests.txt"
    # The input may be a pipe, so the program has all open files.
    status, printed = run_child([program, model, "-m", "requests", "-i", path, "-o", plain], signal.SIGKILL, None, close_fds=False)
    if status:
        raise Fault(last_line(printed) or f"{program}: exit code {status}")
    sys.stderr.write(printed)
    _, *prompts, _ = plain.read_bytes().split(b"\r\n")
    return prompts


def make_references(options, submission, requests, first):
    """The ids and texts of what the CPU reference generates for the first prompts of an input that has `requests` of them, as
    the submission has."""
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as at_end:
            build = ROOT / "build"
            folder = Path(tempfile.mkdtemp(prefix="eval.", dir=build if os.access(build, os.W_OK) else None))
            at_end.callback(shutil.rmtree, folder, ignore_errors=True)
            program = options.program and options.program.resolve()
            if not program:
                program = folder / "run"
                status, printed = run_child([ROOT / "run.sh", "build", f"OUT={os.path.relpath(program, ROOT)}"], signal.SIGTERM,
                                            env={**os.environ, "GPU": "host"})
                if status:
                    sys.stderr.write(printed)
                    raise Fault("the CPU reference cannot be built: ./run.sh build failed, as said above")
            prompts = read_prompts(program, options.model, options.input, folder)
            check_number(submission, requests, options.input, len(prompts))
            (folder / "input.txt").write_bytes(b"\r\n".join([b"%d" % first, *prompts[:first], b""]))
            print(f"eval: the first {first} requests of {options.input} on the CPU reference", flush=True)
            # The flag, not GETP_CPU: a program that does not know it refuses.
            status, printed = run_child([program, options.model, "-z", options.tokenizer, "-m", "getp", "--cpu", "-i",
                                         folder / "input.txt", "-o", folder / "references.txt", "-n", str(options.steps)],
                                        signal.SIGKILL)
            if status:
                lines = printed.strip().splitlines() or [f"exit code {status}"]
                error = next((line for line in lines if line.startswith("error: ")), lines[-1])
                raise Fault(f"the CPU reference failed: {error}")
            sys.stderr.write(printed)
            return read_requests(folder / "references.txt", options.tokenizer)
    except KeyboardInterrupt:
        interrupted()
    finally:
        for number in SIGNALS:
            signal.signal(number, interrupted)


# ---- command line ----------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Fault(f"{message}; see ./run.sh eval -h")


def read_options():
    title, usage, description = __doc__.split("\n\n", 2)
    parser = Parser(usage=usage.strip().replace("\n", "\n   "), description=f"{title}\n{description}",
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="OUTPUT [REFERENCES]", help="token ids, a request a line")
    parser.add_argument("--self", dest="model", type=Path, metavar="MODEL", help="make the references with this model")
    parser.add_argument("-i", dest="input", type=Path, metavar="FILE",
                        help="with --self: what OUTPUT was made from (default data/input.txt)")
    parser.add_argument("-n", dest="steps", type=whole(0, 2**64 - 1), metavar="STEPS",
                        help="with --self: what OUTPUT was made with (default 1024, as for ./run; 0: all positions)")
    parser.add_argument("--first", type=whole(1, 2**31 - 1), metavar="N", help="with --self: only the first N requests (default 4)")
    parser.add_argument("--program", type=Path, metavar="RUN", help="with --self: a ./run that is built already")
    parser.add_argument("-z", dest="tokenizer", type=Path, metavar="FILE",
                        help="tokenizer.bin, for what compares texts (with --self: the one beside the model)")
    parser.add_argument("--thresholds", type=Path, metavar="FILE", help="means to reach, as JSON")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also writes all figures there, request by request")
    parser.add_argument("--bert-model", type=Path, metavar="FOLDER", help="a model for BERTScore")
    options = parser.parse_intermixed_args()
    if options.model:
        if len(options.files) != 1:
            parser.error("with --self give one output")
        options.input = options.input or ROOT / "data/input.txt"
        options.steps = 1024 if options.steps is None else options.steps
        options.tokenizer = options.tokenizer or options.model.parent / "tokenizer.bin"
    else:
        for name, value in (("-i", options.input), ("-n", options.steps), ("--first", options.first),
                            ("--program", options.program)):
            if value is not None:
                parser.error(f"{name}: only with --self")
        if len(options.files) != 2:
            parser.error("give an output and its references")
    if options.bert_model and not options.tokenizer:
        parser.error("--bert-model compares texts: give the tokenizer with -z")
    return options


def compare(options):
    """Looks at all that can be wrong, makes the references if none are given, scores, prints; the names that missed."""
    submission_path, *references_path = options.files
    bounds = read_thresholds(options.thresholds) if options.thresholds else {}
    if options.json:
        if not options.json.parent.is_dir():
            raise Fault(f"{options.json}: no such folder")
        output_file(options.json, *options.files, options.tokenizer, options.thresholds, options.model, options.input,
                    options.program)
    check_names(bounds, options.thresholds, list(metrics([], [], ("", "") if options.tokenizer else None)) +
                ["bert"] * bool(options.bert_model))
    for file in filter(None, (options.model, options.program)):
        if not file.is_file():
            raise Fault(f"{file}: no such file")
    submission = read_requests(submission_path, options.tokenizer)
    if options.model:
        if not options.input.exists():
            raise Fault(f"{options.input}: no such file; name the input with -i")
        requests = len(submission[0])
        first = options.first or min(requests, 4)
        if first > requests:
            raise Fault(f"--first {first} of the {requests} requests of {submission_path}")
        submission = tuple(each[:first] for each in submission)
        references = make_references(options, submission_path, requests, first)
    else:
        references = read_requests(references_path[0], options.tokenizer)
    check_number(submission_path, len(submission[0]), references_path[0] if references_path else "the CPU reference",
                 len(references[0]))
    results = evaluate(submission, references, options.bert_model)
    means = summary(results)
    missed = [name for name, (least, most) in bounds.items() if not least <= means[name]["mean"] <= most]
    print(f"{len(results)} requests, {sum(result['equal'] == 1 for result in results)} fully equal\n")
    print(f"{'':14}{'mean':>10}{'median':>10}{'least':>10}{'most':>10}")
    for name, each in means.items():
        print(f"{name:14}" + "".join(f"{value:10.4g}" for value in each.values()) +
              (f"   {'MISSED' if name in missed else 'reached'}: {bounds[name][0]:g}"
               + (f" to {bounds[name][1]:g}" if bounds[name][1] < float("inf") else "") if name in bounds else ""))
    sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps({"requests": results, "summary": means, "missed": missed}, indent=1) + "\n")
    return missed


def main():
    for number in SIGNALS:
        signal.signal(number, interrupted)
    try:
        return 1 if compare(read_options()) else 0
    except Fault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or 'the results'}: {error.strerror}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
