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
  meteor         METEOR of the texts' words by nltk: exact and stemmed matches, no synonyms; needs -z
  bert           BERTScore's F1 of the texts; needs -z, the package bert-score and a model's folder
  distinct-1, -2 different tokens, or pairs of neighbours, by all of the submission's
  repetition     share of the submission's 4-grams that were there before
  length         tokens of the submission by those of the reference

Thresholds: a JSON object of lowest means, and highest as [lowest, highest]: {"equal": 0.99, "length": [0.9, 1.1]}.
"""

import argparse
import contextlib
import ctypes
import json
import math
import multiprocessing
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
from array import array
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from files import Fault, json_object, output_file

ROOT = Path(__file__).resolve().parent.parent
STOP_TOKENS = {199999, 200002}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def read_ids(path):
    requests = []
    try:
        with open(path, encoding="ascii") as file:
            for number, line in enumerate(file, 1):
                words = line.split()
                if not all(word.isdigit() and len(word) < 10 for word in words):
                    raise Fault(f"{path}: line {number}: not token ids; give the output file of run -m getp")
                requests.append(array("i", map(int, words)))
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Fault(f"{path}: not token ids; give the output file of run -m getp") from None
    if not requests:
        raise Fault(f"{path}: no requests")
    return requests


def read_tokenizer(path):
    """Bytes of each token of a tokenizer.bin (its format: tokenizer.hpp)."""
    try:
        data, tokens, at = Path(path).read_bytes(), [], 4
        if len(data) < 12:
            raise struct.error("cut off")
        while at < len(data):
            _, length = struct.unpack_from("<fi", data, at)
            if not 0 <= length <= len(data) - at - 8:
                raise struct.error("cut off")
            tokens.append(data[at + 8:at + 8 + length])
            at += 8 + length
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}") from None
    except struct.error:
        raise Fault(f"{path}: cut off, or no tokenizer.bin") from None
    return [b"\0" if token == b"<0x00>" else token for token in tokens]


def text_of(ids, tokens, place):
    if ids and max(ids) >= len(tokens):
        raise Fault(f"{place}: token id {max(ids)} is above {len(tokens) - 1}, the last of this tokenizer")
    return b"".join(tokens[token] for token in ids if token not in STOP_TOKENS).decode("utf-8", "replace")


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


class NoSynonyms:
    """What nltk's METEOR asks of WordNet, without its data."""

    def synsets(self, _):
        return []


def meteor(submission, reference):
    from nltk.translate.meteor_score import single_meteor_score

    if not reference.split() or not submission.split():
        return float(reference.split() == submission.split())
    return single_meteor_score(reference.split(), submission.split(), wordnet=NoSynonyms())


def bert_scores(submissions, references, folder):
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
    try:
        scorer = BERTScorer(model_type=str(folder), num_layers=layers)
        # Longer texts are cut; a tokenizer that names no length would cut nothing.
        scorer._tokenizer.model_max_length = min(scorer._tokenizer.model_max_length, positions)
        return scorer.score(submissions, references)[2].tolist()
    except Exception as error:  # a damaged or foreign model fails anywhere in it
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Fault(f"{folder}: BERTScore fails with this model: {reason}") from None


def metrics(submission, reference, texts):
    same = prefix_length(submission, reference)
    result = {"prefix": share(same, len(reference), float(not submission)), "prefix_tokens": same,
              "equal": float(submission == reference), "f1": f1(submission, reference)}
    if texts:
        result["meteor"] = meteor(*texts)
    result.update({"distinct-1": distinct(submission, 1), "distinct-2": distinct(submission, 2),
                   "repetition": repetition(submission), "tokens": len(submission),
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


def read_requests(path, tokens):
    """The ids and the text of each request; no tokens, no text."""
    ids = read_ids(path)
    return ids, [text_of(each, tokens, f"{path}: line {i}") for i, each in enumerate(ids, 1)] if tokens else [None] * len(ids)


def read_submission(path, tokens, first, requests):
    """The same of all, or of the `first` of `requests`."""
    ids, texts = read_requests(path, tokens)
    if first and len(ids) != requests:
        raise Fault(f"{path} has {len(ids)} requests, not {requests}: nothing is scored")
    return ids[:first], texts[:first]


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


def read_prompts(path):
    """The lines of a getp input after its first, and their number, which that one says."""
    try:
        count, *prompts = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; name the input with -i") from None
    if not count.strip().isdigit() or len(count) > 12 or int(count) == 0:
        raise Fault(f"{path}: its first line is not the number of requests")
    if len(prompts) < int(count):
        raise Fault(f"{path}: {int(count)} requests, says its first line, but there are {len(prompts)}")
    return prompts, int(count)


def run_child(command, end_by, **options):
    """Its exit code and what it wrote to stderr; one that is interrupted ends with all that it has started."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          errors="replace", start_new_session=True, **options) as child:
        try:
            _, printed = child.communicate()
        except KeyboardInterrupt:
            os.killpg(child.pid, end_by)
            child.wait()
            raise
    return child.returncode, printed


def make_references(options, prompts, tokens):
    """The ids and texts of what the CPU reference generates for the prompts."""
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
                    raise Fault(f"the CPU reference cannot be built: ./run.sh build failed:\n{printed.rstrip()}")
            (folder / "input.txt").write_bytes(b"\n".join([b"%d" % len(prompts), *prompts, b""]))
            print(f"eval: the first {len(prompts)} requests of {options.input} on the CPU reference", flush=True)
            # The flag, not GETP_CPU: a program that does not know it refuses.
            status, printed = run_child([program, options.model, "-z", options.tokenizer, "-m", "getp", "--cpu", "-i",
                                         folder / "input.txt", "-o", folder / "references.txt", "-n", str(options.steps)],
                                        signal.SIGKILL)
            if status:
                raise Fault(f"the CPU reference failed: {(printed.strip() or f'exit code {status}').splitlines()[-1]}")
            sys.stderr.write(printed)
            return read_requests(folder / "references.txt", tokens)
    except KeyboardInterrupt:
        interrupted()
    finally:
        for number in SIGNALS:
            signal.signal(number, interrupted)


# ---- command line ----------------------------------------------------------------------------------------------------------


def whole(text, least=0):
    if not text.isdecimal() or not least <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} on")
    return int(text)


def positive(text):
    return whole(text, 1)


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
    parser.add_argument("-n", dest="steps", type=whole, metavar="STEPS",
                        help="with --self: what OUTPUT was made with (default 1024, as for ./run; 0: all positions)")
    parser.add_argument("--first", type=positive, metavar="N", help="with --self: only the first N requests (default 4)")
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
    tokens = read_tokenizer(options.tokenizer) if options.tokenizer else None
    if options.model:
        prompts, requests = read_prompts(options.input)
        first = options.first or min(requests, 4)
        if first > requests:
            raise Fault(f"--first {first} of the {requests} requests of {options.input}")
        for file in filter(None, (options.model, options.program)):
            if not file.is_file():
                raise Fault(f"{file}: no such file")
        submission = read_submission(submission_path, tokens, first, requests)
        references = make_references(options, prompts[:first], tokens)
    else:
        submission = read_requests(submission_path, tokens)
        references = read_requests(references_path[0], tokens)
    if len(submission[0]) != len(references[0]):
        raise Fault(f"{submission_path} has {len(submission[0])} requests, "
                    f"{references_path[0] if references_path else 'the CPU reference'} {len(references[0])}: nothing is scored")
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
