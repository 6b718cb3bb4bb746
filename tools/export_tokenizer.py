#!/usr/bin/env python3
"""Writes tokenizer.bin, the vocabulary of o200k_harmony (gpt-oss), for read_tokenizer of tokenizer.hpp.

The merge ranks come from the Python package tiktoken, which downloads them once; or, offline, with --snapshot from the
tokenizer.json of a model's snapshot, or with --ranks from a copy of OpenAI's o200k_base.tiktoken. All give the same file,
but for the special tokens that a snapshot of a fine-tuned model names otherwise, and the size of its vocabulary.
"""
import argparse
import base64
import contextlib
import hashlib
import os
import struct
import sys
from pathlib import Path

from files import Fault, json_object, one_line, output_file

RANKS_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
FIRST_SPECIAL, VOCAB_SIZE = 199998, 201088
SPECIAL_SCORE = -1e30
LONGEST_TOKEN = 1 << 16  # of read_tokenizer, in bytes
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
    sys.exit(f"error: {Fault(message)}")


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


def byte_letters():
    """The letter that tokenizer.json has for each byte: printable ones stand for themselves, the others in ascending order
    for 256 and up (byte-level BPE of GPT-2, as the library tokenizers has it)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def tokens_of_snapshot(snapshot):
    """The ordinary tokens by rank, and the text of all special ones by id: harmony's, or what the snapshot calls them."""
    path = snapshot / "tokenizer.json" if snapshot.is_dir() else snapshot
    tokenizer = json_object(path)
    try:
        vocabulary = {text: int(token) for text, token in tokenizer["model"]["vocab"].items()}
        added = {int(each["id"]): each["content"].encode() for each in tokenizer["added_tokens"]}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        fail(f"{path}: not a tokenizer.json ({type(error).__name__}: {first_line(error)}); download it again")
    letters = byte_letters()
    tokens = [None] * FIRST_SPECIAL
    for text, token in vocabulary.items():
        if token >= FIRST_SPECIAL and (token in added or special_text(token) == text):
            continue
        if not 0 <= token < FIRST_SPECIAL or tokens[token] is not None or not set(text) <= letters.keys():
            fail(f"{path}: token {token}, {text!r}: not the tokenizer of gpt-oss")
        tokens[token] = bytes(letters[letter] for letter in text)
    if None in tokens:
        fail(f"{path}: token {tokens.index(None)} is missing: not the tokenizer of gpt-oss")
    ranks = "".join(f"{base64.b64encode(text).decode()} {rank}\n" for rank, text in enumerate(tokens)).encode()
    digest = hashlib.sha256(ranks).hexdigest()
    if digest != RANKS_SHA256:
        fail(f"{path}: its ranks are not those of o200k_base (sha256 {digest}, not {RANKS_SHA256}); download it again")

    size = vocab_size(snapshot / "config.json") if snapshot.is_dir() else VOCAB_SIZE
    return tokens, special_tokens(path, tokens, added, size)


def special_tokens(path, tokens, added, size):
    """The text of each id from FIRST_SPECIAL to size - 1: that of the added tokens, {id: text}, else harmony's."""
    special = {token: special_text(token).encode() for token in range(FIRST_SPECIAL, size)}
    for token, text in added.items():
        if FIRST_SPECIAL <= token < size and 0 < len(text) <= LONGEST_TOKEN and 0 not in text:
            if (token, text) != (200018, b"<|endofprompt|>"):  # its name in o200k_base
                special[token] = text
        elif not 0 <= token < FIRST_SPECIAL or text != tokens[token]:
            fail(f"{path}: added token {token} is {text.decode()!r}: to the tokenizer of this model can be added ids from "
                 f"{FIRST_SPECIAL} to {size - 1}, whose text has 1 to {LONGEST_TOKEN} bytes and no NUL")
    first = {}
    for token, text in special.items():
        if first.setdefault(text, token) != token:
            fail(f"{path}: added tokens {first[text]} and {token} are both {text.decode()!r}; rename one")
    return special


def vocab_size(path):
    """Of the model, if its config.json is there: its embedding may have been cut to, or grown by, what was added."""
    if not path.exists():
        return VOCAB_SIZE
    size = json_object(path).get("vocab_size")
    if type(size) is not int or not FIRST_SPECIAL <= size <= 1 << 24:
        fail(f"{path}: vocab_size is {size!r}, not a whole number from {FIRST_SPECIAL} to {1 << 24}")
    return size


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


def write_tokenizer(path, ordinary, special):
    records = [(float(rank), b"<0x00>" if text == b"\0" else text) for rank, text in enumerate(ordinary)]
    records += [(SPECIAL_SCORE, text) for _, text in sorted(special.items())]
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(struct.pack("<i", max(len(text) for _, text in records)))
            for score, text in records:
                file.write(struct.pack("<fi", score, len(text)) + text)
        os.replace(partial, path)
    except OSError as error:
        fail(f"{path}: cannot write the tokenizer: {error.strerror}; choose another file with -o")
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="tokenizer.bin to write")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--snapshot", type=Path, metavar="FOLDER",
                        help="folder with tokenizer.json, instead of the package tiktoken")
    source.add_argument("--ranks", type=Path, metavar="FILE",
                        help="o200k_base.tiktoken, instead of the package tiktoken")
    arguments = parser.parse_args()
    inputs = arguments.snapshot.glob("*") if arguments.snapshot else []
    special = {token: special_text(token).encode() for token in range(FIRST_SPECIAL, VOCAB_SIZE)}
    try:
        output = output_file(arguments.output, arguments.ranks, arguments.snapshot, *inputs)
        if arguments.snapshot:
            ordinary, special = tokens_of_snapshot(arguments.snapshot)
        else:
            ordinary = tokens_of_file(arguments.ranks) if arguments.ranks else tokens_of_tiktoken()
    except Fault as fault:
        fail(fault)
    write_tokenizer(output, ordinary, special)
    print(f"{arguments.output}: {len(ordinary) + len(special)} tokens of o200k_harmony")
    for token, text in special.items():
        if text != special_text(token).encode():
            print(one_line(f"  {token} is {text.decode()} instead of {special_text(token)}"))


if __name__ == "__main__":
    main()
