"""What the tools share: how they end on bad input, numbers and JSON that they read, files that they write."""

import argparse
import json
from pathlib import Path


def one_line(text):
    """A message, whatever it quotes of the input: line ends and other controls are escaped, what is very long is cut."""
    text = text if len(text) <= 2000 else f"{text[:1000]} ... {text[-1000:]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Fault(Exception):
    """What is wrong with the input, in one line, whatever it quotes of it."""

    def __str__(self):
        return one_line(super().__str__())


def whole_number(text, least, most):
    """The number that decimal digits make; None if `text` is anything else or lies outside. (As hip/whole_number.hpp has it.)"""
    if not text.isascii() or not text.isdigit() or len(text.lstrip("0")) > len(str(most)):
        return None
    number = int(text.lstrip("0") or "0")
    return number if least <= number <= most else None


def whole(least, most):
    """The type of an argument that is a whole number."""
    def number(text):
        value = whole_number(text, least, most)
        if value is None:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} to {most}")
        return value
    return number


def json_object(path):
    """The object that a file of JSON holds."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Fault(f"{path}: no JSON: {error}") from None
    if not isinstance(value, dict):
        raise Fault(f"{path}: not an object of JSON")
    return value


def output_file(path, *inputs):
    """The file that `path` names, through links: a new one, or a regular one that is none of the inputs (None: none)."""
    try:
        target = Path(path).resolve()
        if target.is_dir():
            raise Fault(f"{path}: a folder; name the file to write")
        if target.exists() and not target.is_file():
            raise Fault(f"{path}: not a regular file; name the file to write")
        if target.exists() and any(each and each.exists() and target.samefile(each) for each in inputs):
            raise Fault(f"{path}: would replace what is read; name another file")
    except (OSError, RuntimeError) as error:
        raise Fault(f"{path}: {getattr(error, 'strerror', error)}") from None
    return target
