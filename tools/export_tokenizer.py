#!/usr/bin/env python3
"""Writes tokenizer.bin, the vocabulary of o200k_harmony (gpt-oss), for read_tokenizer of tokenizer.hpp.

The merge ranks come from the Python package tiktoken, which downloads them once, or with --ranks, offline, from a copy
of OpenAI's o200k_base.tiktoken.
"""
import argparse
import base64
import contextlib
import hashlib
import os
import struct
import sys
from pathlib import Path

RANKS_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
FIRST_SPECIAL, VOCAB_SIZE = 199998, 201088
SPECIAL_SCORE = -1e30
HARMONY = {  # openai/harmony, docs/format.md
    199998: "<|startoftext|>",
    199999: "<|endoftext|>",
    200002: "<|return|>",
    200003: "<|constrain|>",
    200005: "<|channel|>",
    200006: "<|start|>",
    200007: "<|end|>",
    200008: "<|message|>",
    200012: "<|call|>",
}


def fail(message):
    sys.exit(f"error: {message}")


def special_text(token):
    return HARMONY.get(token, f"<|reserved_{token}|>")


def tokens_of_file(path):
    """The ordinary tokens by rank, from lines of base64 bytes and rank."""
    try:
        data = path.read_bytes()
    except OSError as error:
        fail(f"{path}: cannot read the ranks: {error.strerror}; give o200k_base.tiktoken with --ranks")
    digest = hashlib.sha256(data).hexdigest()
    if digest != RANKS_SHA256:
        fail(f"{path}: not o200k_base.tiktoken: its sha256 is {digest}, not {RANKS_SHA256}; download it again")
    tokens = [b""] * FIRST_SPECIAL
    for line in data.splitlines():
        text, rank = line.split()
        tokens[int(rank)] = base64.b64decode(text)
    return tokens


def tokens_of_tiktoken():
    try:
        import tiktoken
    except ImportError:
        fail("the Python package tiktoken is missing: pip install -r tools/requirements.txt, or give --ranks")
    try:
        encoding = tiktoken.get_encoding("o200k_harmony")
    except ValueError as error:
        fail(f"tiktoken {tiktoken.__version__} cannot load o200k_harmony ({first_line(error)}): "
             "pip install -r tools/requirements.txt, or give --ranks")
    except Exception as error:  # whatever its HTTP library raises
        fail(f"tiktoken cannot download o200k_base.tiktoken ({first_line(error)}): check the network, or give --ranks")
    if encoding.n_vocab != VOCAB_SIZE:
        fail(f"tiktoken {tiktoken.__version__}: o200k_harmony has {encoding.n_vocab} tokens, not {VOCAB_SIZE}: "
             "pip install -r tools/requirements.txt")
    for token in range(FIRST_SPECIAL, VOCAB_SIZE):
        if encoding.encode_single_token(special_text(token)) != token:
            fail(f"tiktoken {tiktoken.__version__}: {special_text(token)} is not token {token}: "
                 "pip install -r tools/requirements.txt")
    return [encoding.decode_single_token_bytes(token) for token in range(FIRST_SPECIAL)]


def first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def write_tokenizer(path, ordinary):
    records = [(float(rank), b"<0x00>" if text == b"\0" else text) for rank, text in enumerate(ordinary)]
    records += [(SPECIAL_SCORE, special_text(token).encode()) for token in range(FIRST_SPECIAL, VOCAB_SIZE)]
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(struct.pack("<i", max(len(text) for _, text in records)))
            for score, text in records:
                file.write(struct.pack("<fi", score, len(text)) + text)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        fail(f"{path}: cannot write the tokenizer: {error.strerror}; choose another file with -o")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="tokenizer.bin to write")
    parser.add_argument("--ranks", type=Path, metavar="FILE",
                        help="o200k_base.tiktoken, instead of the package tiktoken")
    arguments = parser.parse_args()
    ordinary = tokens_of_file(arguments.ranks) if arguments.ranks else tokens_of_tiktoken()
    write_tokenizer(arguments.output, ordinary)
    print(f"{arguments.output}: {VOCAB_SIZE} tokens of o200k_harmony")


if __name__ == "__main__":
    main()
