"""Files that pages hand out: sounds for players, and folders as one zip."""

import os
import shutil
import zipfile
from pathlib import Path

LISTEN_RATE = 16_000
"""Hz of the sound in a player."""

BLOCK_SECONDS = 20
"""How much sound is held in memory at once."""


def write_sound(source: Path, target: Path, start: float | None = None, stop: float | None = None) -> Path:
    """Write a recording, or seconds ``start`` to ``stop`` of it, as 16-bit WAV, mono, for a player; return ``target``.

    Raises:
        StrataError: the recording cannot be read.
    """
    import soundfile

    from core.audio.signal import open_signal

    with (
        open_signal(source, LISTEN_RATE) as signal,
        soundfile.SoundFile(target, "w", LISTEN_RATE, 1, subtype="PCM_16") as file,
    ):
        first = round((start or 0.0) * LISTEN_RATE)
        last = signal.n_samples if stop is None else min(signal.n_samples, round(stop * LISTEN_RATE))
        for begin in range(first, last, BLOCK_SECONDS * LISTEN_RATE):
            file.write(signal.read(begin, min(last, begin + BLOCK_SECONDS * LISTEN_RATE)))
    return target


def packed(folder: Path, name: str = "") -> Path:
    """Put a folder's files into one zip beside it, below ``name`` (by default the folder's), and return the zip."""
    name = name or folder.name
    target = folder.with_name(f"{name}.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(path, Path(name) / path.relative_to(folder))
    return target


def linked(source: Path, target: Path) -> Path:
    """Put a file at another place as well, without a second copy where the disk allows; return ``target``."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
    return target


def linked_folder(source: Path, target: Path) -> Path:
    """Put a folder's own files into a new one, whose name says what they are; return ``target``."""
    target.mkdir()
    for path in source.iterdir():
        if path.is_file():
            linked(path, target / path.name)
    return target
