"""Prepare recordings for pre-training: a folder of standardised segments that are split before they are cut.

Two passes, because z-scores need the statistics of all training recordings. The first brings every recording to the
model's rate and channels, in a hidden sub-folder; the second cuts, standardises and writes. Both do recordings in
parallel, and what is done is kept when the task is stopped.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from core.arrays import OnProgress, ignore_progress
from core.checkpoints.folders import package_versions
from core.errors import DataError, InputError, OutputError, StrataError
from core.meg.crew import Crew, crew_of
from core.meg.layouts import layout
from core.meg.prepared import (
    MANIFEST,
    VERSION,
    WORK,
    Manifest,
    PreparedData,
    RecordingRecord,
    SegmentRecord,
    check_folder,
    find_finished,
    finish,
    open_prepared,
)
from core.meg.preprocess import Moments, statistics_of
from core.meg.reader import find_recordings
from core.meg.segments import (
    PARTS,
    Footprint,
    Source,
    SplitSettings,
    check_apart,
    check_disjoint,
    cut_segments,
    first_of_each,
    original_range,
    shared_subjects,
    short_names,
    split_recordings,
)
from core.meg.stages import (
    Cut,
    Filtered,
    FilterJob,
    IdentifyJob,
    Identity,
    MeasureJob,
    WriteJob,
    filter_recording,
    find_filtered,
    find_written,
    identify,
    measure,
    write_segments,
)
from core.records import to_plain
from core.sensors import MEG_KINDS, ModelInput
from core.tasks.meg.requests import PrepareRequest, PrepareSummary
from core.training.lock import locked

Result = TypeVar("Result")

# Packages whose version can change a value.
_VERSIONED = ("mne", "numpy", "scipy", "soxr")
_VALUE_BYTES = 4
_MOST_NAMED = 10


def prepare_meg(request: PrepareRequest, on_progress: OnProgress = ignore_progress) -> PrepareSummary:
    """Prepare recordings for pre-training.

    Args:
        request: Which, and how.
        on_progress: Told of the stages ``check``, ``filter``, ``measure`` and ``write`` in recordings; where it raises,
            the task ends and keeps what is done.

    Raises:
        DataError: recordings cannot be used; all of them are named, and nothing is left out silently.
        InputError: a setting cannot be used.
        OutputError: the folder holds something else, or the disk is full.
    """
    if request.workers < 0:
        raise InputError(f"Got {request.workers} workers; expected 1 or more, or 0 for one a core.")
    check_folder(request.output_dir)
    split = _split_settings(request)
    found = _find(request)
    workers = min(request.workers or os.cpu_count() or 1, len(found))
    with crew_of(workers, on_progress) as crew:
        identities, notes = _identify(request, found, crew)
        key = _request_key(request, identities)
        finished = None if request.force else find_finished(request.output_dir, key)
        if finished:
            _clear(request)
            return _summary(finished, skipped=len(identities))
        _check_space(request, identities)
        with locked(request.output_dir / WORK):
            ready, skipped = _filter(request, identities, crew)
            manifest = _write(request, _plan(ready, split), crew)
            finish(request.output_dir, replace(manifest, request=key, warnings=(*notes, *manifest.warnings)))
            shutil.rmtree(request.output_dir / WORK, ignore_errors=True)
    return _summary(open_prepared(request.output_dir), skipped)


def _clear(request: PrepareRequest) -> None:
    """Remove what a process that was killed after its last step left, unless another is at work there."""
    work = request.output_dir / WORK
    if work.is_dir():
        with suppress(StrataError), locked(work):
            shutil.rmtree(work, ignore_errors=True)


def _split_settings(request: PrepareRequest) -> SplitSettings:
    rate = request.preparation.sampling_rate
    return SplitSettings(
        request.segment_length, request.split_ratio, request.gap_seconds, rate, request.seed, request.split_by
    )


def _good(results: Sequence[Result | StrataError]) -> list[Result]:
    """The results, if all are; a corpus without some of its recordings would be another corpus."""
    errors = [one for one in results if isinstance(one, StrataError)]
    if len({str(error) for error in errors}) == 1:
        raise errors[0]  # of one recording, or of a setting that suits none
    if errors:
        named = "\n".join(f"- {error}" for error in errors[:_MOST_NAMED])
        more = f"\n- and {len(errors) - _MOST_NAMED} more" if len(errors) > _MOST_NAMED else ""
        raise DataError(
            f"{len(errors)} of {len(results)} recordings cannot be used:\n{named}{more}\nMend them or take them out; "
            "the others are kept for the next call."
        )
    return [one for one in results if not isinstance(one, StrataError)]


def _find(request: PrepareRequest) -> list[Path]:
    """Recordings, without what lies in the output folder."""
    output = request.output_dir.resolve()
    found = find_recordings(request.inputs, request.file_pattern)
    others = [path for path in found if not path.resolve().is_relative_to(output)]
    if not others:
        raise InputError(
            f"All {len(found)} recordings lie in {request.output_dir}, the folder for the result. Name another "
            "--output_dir."
        )
    return others


def _identify(request: PrepareRequest, paths: Sequence[Path], crew: Crew) -> tuple[list[Identity], tuple[str, ...]]:
    """Recordings of different content, in order, and a note for each that is left out."""
    jobs = [IdentifyJob(path, request.preparation, request.numpy_rate) for path in paths]
    identities = _good(crew.do(identify, jobs, "check"))
    kept, notes = first_of_each([one.sha256 for one in identities], [str(one.path) for one in identities])
    return [identities[index] for index in kept], notes


def _request_key(request: PrepareRequest, identities: Sequence[Identity]) -> str:
    """Hash of all that decides the folder's content."""
    decides = [VERSION, to_plain(_split_settings(request)), to_plain(request.preparation), request.numpy_rate]
    names = short_names([one.path for one in identities])
    hashes = [one.sha256 for one in identities]
    return hashlib.sha256(json.dumps([*decides, names, hashes]).encode()).hexdigest()


def _check_space(request: PrepareRequest, identities: Sequence[Identity]) -> None:
    folder = request.output_dir.absolute()
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.is_dir())).free
    # Once filtered, once as segments.
    needed = 2 * _VALUE_BYTES * sum(one.n_values for one in identities)
    if needed > free:
        raise OutputError(
            f"Preparing needs up to {needed / 1e9:.1f} GB in {request.output_dir}; {free / 1e9:.1f} GB are free. Free "
            "some space, or choose another --output_dir."
        )


@dataclass(frozen=True)
class _Ready:
    """A recording after the first pass, and what is to be cut from it."""

    name: str
    job: FilterJob
    done: Filtered
    cuts: tuple[Cut, ...] = ()
    left_out: int = 0

    def source(self) -> Source:
        """What the split has to know."""
        done = self.done
        return Source(self.name, done.n_times, done.spans, done.reach_seconds, done.subject)


def _filter(request: PrepareRequest, identities: Sequence[Identity], crew: Crew) -> tuple[list[_Ready], int]:
    """First pass; returns the recordings and how many of them were done before."""
    work = request.output_dir / WORK
    jobs = [FilterJob(one.path, one.sha256, request.preparation, work, request.numpy_rate) for one in identities]
    known = {job.base: done for job in jobs if (done := find_filtered(job))}
    todo = [job for job in jobs if job.base not in known]
    fresh = _good(crew.do(filter_recording, todo, "filter"))
    known |= {job.base: done for job, done in zip(todo, fresh, strict=True)}
    names = short_names([job.path for job in jobs])
    ready = [_Ready(name, job, known[job.base]) for name, job in zip(names, jobs, strict=True)]
    return ready, len(jobs) - len(todo)


@dataclass(frozen=True)
class _Plan:
    """What is cut from which recording, and sentences about it."""

    recordings: tuple[_Ready, ...]
    warnings: tuple[str, ...]


def _plan(ready: Sequence[_Ready], split: SplitSettings) -> _Plan:
    sources = [one.source() for one in ready]
    stretches = split_recordings(sources, split)
    planned = []
    for number, one in enumerate(ready):
        cuts, left_out = [], 0
        for stretch in (stretch for stretch in stretches if stretch.recording == number):
            found, bad = cut_segments(stretch, one.done.spans, split.segment_length)
            cuts += [Cut(stretch.part, *segment) for segment in found]
            left_out += bad
        planned.append(replace(one, cuts=tuple(cuts), left_out=left_out))
    _assert_disjoint(planned, split.sampling_rate)
    warnings = [*shared_subjects(sources, stretches)]
    if not any(cut.part == "eval" for one in planned for cut in one.cuts):
        warnings.append("Nothing is held out: the split ratio is 1.")
    return _Plan(tuple(planned), tuple(warnings))


def _assert_disjoint(planned: Sequence[_Ready], sampling_rate: int) -> None:
    """On original samples, with what the filter reaches over."""
    footprints = []
    for one in planned:
        check_apart([(cut.start, cut.stop) for cut in one.cuts])
        rate, n_times = one.done.facts["original_sampling_rate"], one.done.facts["original_n_times"]
        reach = int(one.done.reach_seconds * rate)
        for cut in one.cuts:
            start, stop = original_range((cut.start, cut.stop), sampling_rate, rate, n_times)
            footprints.append(Footprint(one.done.sha256, cut.part, start - reach, stop + reach))
    check_disjoint(footprints)


def _write(request: PrepareRequest, plan: _Plan, crew: Crew) -> Manifest:
    """Second pass: statistics of what trains, then the segments."""
    model_input = _model_input(request, plan, crew)
    (request.output_dir / MANIFEST).unlink(missing_ok=True)  # from here on an earlier preparation is no longer whole
    folder = request.output_dir
    jobs = [
        WriteJob(one.job, one.done, number, one.cuts, model_input, folder) for number, one in enumerate(plan.recordings)
    ]
    known = {job.number: found for job in jobs if (found := find_written(job)) is not None}
    todo = [job for job in jobs if job.number not in known]
    fresh = _good(crew.do(write_segments, todo, "write"))
    known |= {job.number: segments for job, segments in zip(todo, fresh, strict=True)}
    segments = [segment for number in range(len(jobs)) for segment in known[number]]
    return _manifest(request, plan, model_input, segments)


def _model_input(request: PrepareRequest, plan: _Plan, crew: Crew) -> ModelInput:
    native = request.preparation.layout == "native"
    jobs = [
        MeasureJob(one.job, one.done, [(cut.start, cut.stop) for cut in one.cuts if cut.part == "train"], native)
        for one in plan.recordings
    ]
    sensors = None if native else layout(request.preparation.layout)
    total = Moments(len(MEG_KINDS) if sensors is None else len(sensors))
    # In the recordings' order, so that rounding is the same however many processes there are.
    for moments in _good(crew.do(measure, jobs, "measure")):
        total.merge(moments)
    simulated = any(one.done.simulated for one in plan.recordings if one.cuts)
    return ModelInput(request.preparation, sensors, statistics_of(total), simulated)


def _manifest(
    request: PrepareRequest, plan: _Plan, model_input: ModelInput, segments: Sequence[SegmentRecord]
) -> Manifest:
    rate, length = request.preparation.sampling_rate, request.segment_length
    records = tuple(_record(one, length, rate, model_input.sensors is None) for one in plan.recordings)
    facts = {
        "split_ratio": request.split_ratio,
        "split_by": request.split_by,
        "gap_seconds": request.gap_seconds,
        "seed": request.seed,
        "versions": package_versions(_VERSIONED),
    }
    return Manifest(VERSION, "", model_input, length, records, tuple(segments), facts, plan.warnings)


def _record(one: _Ready, length: int, rate: int, native: bool) -> RecordingRecord:
    done = one.done
    left = f"{one.name}: {one.left_out} segment(s) overlap what annotations mark as bad and are left out."
    none = f"{one.name} holds no usable segment of {length / rate:g} s; nothing of it is used."
    facts = {
        **done.facts,
        "seconds": done.n_times / rate,
        "bad_segments": one.left_out,
        "dropped_seconds": (done.n_times - length * len(one.cuts)) / rate,
    }
    notes = (*done.warnings, *((left,) if one.left_out else ()), *(() if one.cuts else (none,)))
    own = done.sensors if native else None
    return RecordingRecord(one.name, done.sha256, done.subject, done.session, done.simulated, own, facts, notes)


def _summary(data: PreparedData, skipped: int) -> PrepareSummary:
    manifest = data.manifest
    counts = {part: len(data.segments(part)) for part in PARTS}
    seconds = manifest.segment_length / data.model_input.preparation.sampling_rate
    return PrepareSummary(
        folder=data.folder,
        segments=counts,
        seconds={part: count * seconds for part, count in counts.items()},
        recordings=tuple(_row(number, manifest) for number in range(len(manifest.recordings))),
        warnings=(*manifest.warnings, *(note for one in manifest.recordings for note in one.warnings)),
        skipped=skipped,
    )


def _row(number: int, manifest: Manifest) -> dict[str, Any]:
    one = manifest.recordings[number]
    own = [segment for segment in manifest.segments if segment.recording == number]
    channels = one.facts["channels"]
    return {
        "name": one.name,
        "parts": sorted({segment.part for segment in own}, reverse=True),
        "segments": len(own),
        "channels": channels["how"],
        "bads": [*channels["interpolated_bads"], *channels["kept_bads"]],
        "subject": one.subject,
        "warnings": list(one.warnings),
    }
