"""A checkpoint folder is there as a whole or not at all; and what every kind of checkpoint writes alike."""

import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core.errors import OutputError


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Hand out a folder under a temporary name beside ``folder``, and rename it at the end.

    An older folder of that name is replaced; where anything fails it stays as it was, and nothing else is left.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield partial
        _put_in_place(partial, folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(
        f"Cannot write the checkpoint {folder}: {reason}. Nothing of it was kept; choose another folder."
    )


def _put_in_place(partial: Path, folder: Path) -> None:
    """Rename; an older folder steps aside first, comes back where that fails, and is removed in the end."""
    partial.chmod(0o755)  # mkdtemp and safetensors keep others out
    for path in partial.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    if not folder.exists():
        partial.rename(folder)
        return
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        partial.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write strict JSON, a line for every key; a number that is none is an error, not a word that JSON lacks."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of those of the packages that are installed."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
