"""Stands in for core.tasks where the command line itself is tested: real writers and corpora, a trivial encoder.

A recording's frames are its bytes. Content that begins with ``bad`` is refused, ``bug`` breaks, ``slow`` takes long.
"""

import hashlib
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import EmbeddingInfo, EmbedResult, EmbedSettings, OnProgress, OutputSettings, Progress
from core.clock import FrameClock
from core.embed.corpus import CorpusSummary, is_done, list_inputs, run_corpus, settings_fingerprint
from core.embed.writers import check_target, write_embeddings
from core.errors import DataError

CALLS: list[tuple[EmbedSettings, OutputSettings]] = []


@dataclass(frozen=True)
class ModelEntry:
    name: str
    where: str
    path: Path | None = None
    architecture: str = "wav2vec2"
    n_layers: int | None = 4
    dim: int | None = 64
    sampling_rate: int | None = 16000
    size_mb: float | None = 9.6
    note: str = ""


def list_models() -> list[ModelEntry]:
    return [
        ModelEntry("small", "bundled", Path("/x")),
        ModelEntry("hub/one", "hub", None, "wavlm", None, None, None, None),
    ]


def list_heads() -> list:
    return []


def embed(source: Path, settings: EmbedSettings, output: OutputSettings, on_progress: OnProgress) -> EmbedResult:
    CALLS.append((settings, output))
    base = output.base or source.stem
    check_target(output, base)
    if not source.is_file():
        raise DataError(f"{source} does not exist.\nName a file that does.")
    content = source.read_bytes()
    if content.startswith(b"bad"):
        raise DataError(f"{source} is bad.")
    if content.startswith(b"bug"):
        raise ZeroDivisionError("a bug")
    fingerprint = settings_fingerprint(settings, output.formats, "fake")
    metadata = {
        "input_sha256": hashlib.sha256(content).hexdigest(),
        "settings_fingerprint": fingerprint,
        "odd": float("nan"),
    }
    info = EmbeddingInfo(FrameClock(320, 400, 16000), (12,), len(content), 1, metadata)

    def blocks():
        warnings.warn("a third party's storm", stacklevel=1)
        for index, byte in enumerate(content):
            on_progress(Progress("embed", index, len(content)))
            if content.startswith(b"slow"):
                time.sleep(60 / len(content))
            yield np.full((1, 1, 1), byte, np.float32)
        on_progress(Progress("embed", len(content), len(content)))

    files, problems = write_embeddings(blocks(), info, output, base, on_progress)
    return EmbedResult(source, files, info, problems)


def embed_many(
    sources: Sequence[Path], settings: EmbedSettings, output: OutputSettings, on_progress: OnProgress
) -> CorpusSummary:
    def done(item):
        return is_done(item.source, item.output(output), settings_fingerprint(settings, output.formats, "fake"))

    def embed_one(item):
        return embed(item.source, item.settings(settings), item.output(output), on_progress)

    return run_corpus(list_inputs(sources), embed_one, output, done, on_progress)
