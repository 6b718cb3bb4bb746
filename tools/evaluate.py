#!/usr/bin/env python3
"""Compares a submission, an output.txt of token ids, with references, another one, request by request.

    evaluate.py SUBMISSION REFERENCES [-z tokenizer.bin] [--first N --requests M] [--check] [--thresholds FILE] [--json FILE]
                [--bert-model FOLDER]

Both files must hold the same number of requests. --first N compares the first N of a submission of --requests M with
references that are N. --check looks at everything but the references and scores nothing. Exit code 1 if a mean misses its threshold, 2 on a fault.

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
import ctypes
import json
import math
import multiprocessing
import os
import signal
import statistics
import struct
import sys
from array import array
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from files import Fault, json_object, output_file

STOP_TOKENS = {199999, 200002}


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


def evaluate(submission_path, references_path, tokens=None, bert_model=None, first=None, requests=None):
    """A dictionary of metrics for each request, or each of the `first` of `requests`."""
    submission, texts = read_submission(submission_path, tokens, first, requests)
    references, reference_texts = read_requests(references_path, tokens)
    if len(submission) != len(references):
        raise Fault(f"{submission_path} has {len(submission)} requests, {references_path} {len(references)}: nothing is scored")
    pairs = list(zip(texts, reference_texts)) if tokens else [None] * len(submission)
    results = list(tqdm(each_metrics(submission, references, pairs), total=len(submission), desc="evaluate",
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


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage=__doc__.split("\n\n")[1].strip())
    parser.add_argument("submission", type=Path)
    parser.add_argument("references", type=Path)
    parser.add_argument("-z", dest="tokenizer", type=Path, metavar="FILE", help="tokenizer.bin, for what compares texts")
    parser.add_argument("--first", type=positive, metavar="N", help="compare the first N requests alone")
    parser.add_argument("--requests", type=positive, metavar="M", help="with --first: what the submission must hold")
    parser.add_argument("--check", action="store_true", help="look at everything but the references, score nothing")
    parser.add_argument("--thresholds", type=Path, metavar="FILE", help="means to reach, as JSON")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also writes all figures there, request by request")
    parser.add_argument("--bert-model", type=Path, metavar="FOLDER", help="a model for BERTScore")
    options = parser.parse_args()
    if bool(options.first) != bool(options.requests):
        parser.error("--first and --requests go together")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        bounds = read_thresholds(options.thresholds) if options.thresholds else {}
        if options.json:
            if not options.json.parent.is_dir():
                raise Fault(f"{options.json}: no such folder")
            output_file(options.json, options.submission, options.references, options.tokenizer, options.thresholds)
        if options.bert_model and not options.tokenizer:
            raise Fault("--bert-model compares texts: give the tokenizer with -z")
        check_names(bounds, options.thresholds, list(metrics([], [], ("", "") if options.tokenizer else None)) +
                    ["bert"] * bool(options.bert_model))
        tokens = read_tokenizer(options.tokenizer) if options.tokenizer else None
        if options.check:
            read_submission(options.submission, tokens, options.first, options.requests)
            return 0
        results = evaluate(options.submission, options.references, tokens, options.bert_model, options.first, options.requests)
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
    except Fault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or 'the results'}: {error.strerror}", file=sys.stderr)
        return 2
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
