"""The files of a corpus: which recordings a folder holds, and where those are that a list names."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from core.embed.inputs import CorpusItem, list_inputs
from core.emotion.archives import is_junk
from core.errors import InputError


@dataclass(frozen=True)
class Place:
    """Where a corpus lies.

    Attributes:
        folder: The folder that was given, or the one that a list lies in.
        whole: Whether the whole folder is the corpus, so that a file may be looked for anywhere below it.
        confined: Whether files outside the folder are refused, as for what came over a network.
    """

    folder: Path
    whole: bool
    confined: bool = False

    @cached_property
    def _names(self) -> dict[str, list[Path]]:
        """Recordings below the folder, by file name and by stem."""
        names = defaultdict(list)
        for item in recordings(self.folder) if self.whole else ():
            for key in {_key(item.source.name), _key(item.source.stem)}:
                names[key].append(item.source)
        return names

    @cached_property
    def _folders(self) -> list[Path]:
        """Folders right below this one."""
        inside = (entry for entry in self.folder.iterdir() if not is_junk(entry.name))
        return sorted(entry for entry in inside if entry.is_dir())

    @cached_property
    def _real(self) -> str:
        return os.path.realpath(self.folder)

    def find(self, file: str, roots: Sequence[Path] = ()) -> tuple[Path, str]:
        """Find a file that a list names: below ``roots`` (the folder itself, if none), or by a name that is unique.

        Returns:
            Where it is or should be, and why it cannot be used; empty if nothing is known against it.
        """
        tops = tuple(roots) or (self.folder,)
        if "\0" in file:
            return self.folder / file.replace("\0", ""), f"{file!r} is no file name."
        plain = file if "\\" not in file else file.replace("\\", "/")
        for top in tops:
            for name in dict.fromkeys((file, plain)):
                if _is_file(top / name):
                    return self._checked(top / name)
        below = [folder / plain for folder in self._folders if _is_file(folder / plain)]
        return self._choose(plain, below or self._by_name(plain), tops[0] / plain)

    def _by_name(self, file: str) -> list[Path]:
        """Files of that name anywhere below, or of that stem if there is none; the longest common path wins."""
        wanted = PurePosixPath(file)
        same = self._names.get(_key(wanted.name)) or self._names.get(_key(wanted.stem)) or []
        alike = [_common_parts(wanted, path) for path in same]
        return [path for path, parts in zip(same, alike, strict=True) if parts == max(alike)]

    def _choose(self, file: str, found: list[Path], expected: Path) -> tuple[Path, str]:
        if len(found) == 1:
            return self._checked(found[0])
        if not found:
            outside = self.confined and not self._holds(expected)
            return expected, f"{file} lies outside the corpus." if outside else f"{expected} does not exist."
        first, second = (path.relative_to(self.folder).as_posix() for path in found[:2])
        return expected, f"{file} is there more than once: {first}, {second}. Write the path in the list."

    def _checked(self, path: Path) -> tuple[Path, str]:
        if self.confined and not self._holds(path):
            return path, f"{path.name} lies outside the corpus."
        return path, problem_of(path)

    def _holds(self, path: Path) -> bool:
        real = os.path.realpath(path)
        return real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)


def recordings(folder: Path) -> list[CorpusItem]:
    """List the recordings below a folder, without what macOS leaves beside them; empty if there is none."""
    try:
        items = list_inputs([folder])
    except InputError:
        return []
    top = items[0].source.parents if items else ()
    root = next((parent for parent in top if os.path.realpath(parent) == os.path.realpath(folder)), None)
    return [item for item in items if root is None or not is_junk(item.source.relative_to(root).as_posix())]


def problem_of(path: Path) -> str:
    """Say why a file cannot be read, as far as that is quickly seen; empty where nothing is known."""
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        return f"{path} cannot be looked at: {getattr(error, 'strerror', None) or error}."
    if not path.is_file():
        return f"{path} is no file."
    if size == 0:
        return f"{path} is empty (0 bytes)."
    return "" if os.access(path, os.R_OK) else f"{path} may not be read."


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _key(name: str) -> str:
    """How names are compared: accents spelt one way, without case."""
    return unicodedata.normalize("NFC", name).casefold()


def _common_parts(wanted: PurePosixPath, path: Path) -> int:
    """Count the folders above a file that both paths share, from the file upwards."""
    count = 0
    for one, other in zip(reversed(wanted.parts[:-1]), reversed(path.parts[:-1]), strict=False):
        if _key(one) != _key(other):
            break
        count += 1
    return count
