"""Where a tool's result goes."""

from pathlib import Path


def output_file(path, *inputs):
    """The file that `path` names, through links: a new one, or a regular one that is none of the inputs. Else ValueError, which
    says what is wrong."""
    try:
        target = Path(path).resolve()
        if target.is_dir():
            raise ValueError(f"{path}: a folder; name the file to write")
        if target.exists() and not target.is_file():
            raise ValueError(f"{path}: not a regular file; name the file to write")
        if any(each.exists() and target.exists() and target.samefile(each) for each in inputs):
            raise ValueError(f"{path}: would replace what is read; name another file")
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: {getattr(error, 'strerror', error)}") from None
    return target
