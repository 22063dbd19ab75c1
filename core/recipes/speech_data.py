"""Where the recipes find their speech: archives or unpacked folders of the corpora named in the model cards."""

import csv
import tarfile
from pathlib import Path

from core.errors import InputError
from core.training.corpus import Source


def find_archive(data: Path, work: Path, name: str) -> Path:
    """Folder of the archive ``name``: unpacked in ``data`` already, or ``data/name.tar*`` unpacked into ``work``."""
    for root in (data, work / "unpacked"):
        if (root / name).is_dir():
            return _only_child(root / name)
    archives = sorted(data.glob(f"{name}.tar*"))
    if not archives:
        raise InputError(f"{data} has neither a folder {name} nor {name}.tar*; give --data the folder with both.")
    partial = work / "unpacked" / f"{name}.partial"
    with tarfile.open(archives[0]) as archive:
        archive.extractall(partial, filter="data")
    return _only_child(partial.rename(partial.with_suffix("")))


def emodb_sources(folder: Path) -> list[Source]:
    """EmoDB (Burkhardt et al. 2005, CC0): acted emotions in German, by speaker."""
    return [
        Source(folder / "flac16k" / row["file"], "emodb", row["speaker"]) for row in read_rows(folder / "labels.csv")
    ]


def librispeech_sources(folder: Path, pattern: str) -> list[Source]:
    """LibriSpeech (Panayotov et al. 2015, CC BY 4.0): read English; the speaker is the first part of a file's name."""
    return [Source(path, "librispeech", path.stem.split("-")[0]) for path in sorted(folder.glob(pattern))]


def librivox_sources(folder: Path) -> list[Source]:
    """LibriVox, "Les fleurs du mal" (public domain): read French, by reader."""
    rows = [row for row in read_rows(folder / "sections.csv") if row["file"]]
    return [Source(folder / Path(row["file"]).with_suffix(".opus").name, "librivox", row["reader"]) for row in rows]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _only_child(folder: Path) -> Path:
    """The folder inside, where an archive wraps its content in one of its own."""
    children = [child for child in folder.iterdir() if child.is_dir()]
    return children[0] if len(children) == 1 and not any(child.is_file() for child in folder.iterdir()) else folder
