import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError, InputError, OutputError
from core.meg.prepared import WORK, open_prepared
from core.meg.signal import open_meg
from core.sensors import Preparation
from core.tasks.meg import preparing
from core.tasks.meg.preparing import prepare_meg
from core.tasks.meg.requests import PrepareRequest
from core.tasks.meg.words import prepared_as_text
from tests.meg.recordings import Planted, make_raw, save_raw

NATIVE = Preparation(layout="native")
LENGTH = 250


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Four recordings of six channels: two subjects, two rates, one stretch that is marked as bad."""
    folder = tmp_path_factory.mktemp("corpus")
    few = {"channels": 6, "seconds": 4.5}
    save_raw(folder / "sub-01_ses-01_meg.fif", Planted(**few, seed=1, rate=500.0))
    save_raw(folder / "sub-01_ses-02_meg.fif", Planted(**few, seed=2, annotations=((1.2, 0.1, "BAD_jump"),)))
    save_raw(folder / "sub-02_meg.fif", Planted(**few, seed=3, rate=600.0))
    save_raw(folder / "sub-03_meg.fif", Planted(**few, seed=4))
    return folder


def ask(corpus, output, **changes):
    settings = {"segment_length": LENGTH, "split_ratio": 0.75, "preparation": NATIVE, "workers": 1}
    inputs = corpus if isinstance(corpus, tuple) else (corpus,)
    return PrepareRequest(inputs, output, **{**settings, **changes})


@pytest.fixture(scope="module")
def done(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("done") / "prepared"
    return prepare_meg(ask(corpus, output))


def content(folder):
    """Name and bytes of every file."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_recordings_become_segments_of_one_part_each(done):
    assert done.skipped == 0
    assert sum(done.segments.values()) == 4 * 4 - 1
    assert done.seconds["train"] == done.segments["train"] * 1.0
    assert sorted(row["name"] for row in done.recordings)[0] == "sub-01_ses-01_meg.fif"
    assert all(len(row["parts"]) == 1 for row in done.recordings)
    assert [row["parts"] for row in done.recordings].count(["eval"]) == 1
    assert {row["channels"] for row in done.recordings} == {"native"}
    assert not (done.folder / WORK).exists()
    assert any("1 segment(s) overlap" in warning for warning in done.warnings)


def test_words_say_how_channels_were_fitted(done):
    said = prepared_as_text(done)
    assert f"{done.segments['eval']} segments" in said and said.endswith("channels of 4 recordings by: 4 native.")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"workers": -1}, "Got -1 workers"),
        ({"seed": -1}, "Got seed -1"),
        ({"preparation": replace(NATIVE, notch="fifty")}, "^Got notch 'fifty'"),
        ({"preparation": replace(NATIVE, layout="neuromag")}, "^Got layout 'neuromag'"),
    ],
)
def test_settings_that_suit_no_recording_are_one_sentence(corpus, tmp_path, changes, word):
    with pytest.raises(InputError, match=word):
        prepare_meg(ask(corpus, tmp_path / "out", **changes))


def test_recordings_in_the_folder_for_the_result_are_refused(done):
    with pytest.raises(InputError, match=r"All \d+ recordings lie in .*--output_dir"):
        prepare_meg(ask(done.folder, done.folder, file_pattern="*.npy"))


def test_no_original_sample_stands_behind_both_parts(done):
    data = open_prepared(done.folder)
    parts = {}
    for segment in data.manifest.segments:
        parts.setdefault(data.manifest.recordings[segment.recording].sha256, set()).add(segment.part)
    assert all(len(one) == 1 for one in parts.values())


def test_training_segments_have_unit_variance_by_kind(done):
    """In tesla at the input: the documented epsilon of 1e-8 would leave 1e-6."""
    data = open_prepared(done.folder)
    values = [data.read(one, 0, one.n_times) for one in data.segments("train")]
    sensors = data.sensors(data.segments("train")[0])
    joined = np.concatenate(values, axis=1).astype(np.float64)
    for kind in ("mag", "grad"):
        rows = joined[sensors.of_kind(kind)]
        assert rows.std() == pytest.approx(1, abs=1e-5)
        assert rows.mean() == pytest.approx(0, abs=1e-5)


def test_a_segment_equals_what_the_model_will_read_of_that_recording(done, corpus):
    data = open_prepared(done.folder)
    for segment in data.segments("train"):
        record = next(one for one in data.manifest.segments if one.name == segment.name)
        with open_meg(corpus / segment.recording, data.model_input) as signal:
            expected = signal.read(record.start, record.start + LENGTH)
        np.testing.assert_array_equal(data.read(segment, 0, LENGTH), expected)


def test_statistics_are_of_what_trains_alone(corpus, done, tmp_path):
    """The recording that evaluates, a hundred times as strong, changes nothing but its own segments."""
    held_out = next(row["name"] for row in done.recordings if row["parts"] == ["eval"])
    louder = tmp_path / "corpus"
    louder.mkdir()
    for path in corpus.iterdir():
        (louder / path.name).write_bytes(path.read_bytes())
    raw = make_raw(Planted(channels=6, seconds=4.5, seed=9))
    raw._data *= 100
    raw.save(louder / held_out, overwrite=True, fmt="double", verbose=False)
    other = prepare_meg(ask(louder, tmp_path / "prepared"))
    mine, theirs = open_prepared(done.folder), open_prepared(other.folder)
    np.testing.assert_array_equal(mine.model_input.statistics.std, theirs.model_input.statistics.std)


def test_two_processes_write_what_one_does(corpus, done, tmp_path):
    stages = []
    request = ask(corpus, tmp_path / "two", workers=2)
    prepare_meg(request, lambda progress: stages.append((progress.stage, progress.done, progress.total)))
    assert content(tmp_path / "two") == content(done.folder)
    assert all((stage, 4, 4) in stages for stage in ("check", "filter", "measure", "write"))


def test_prepared_again_nothing_is_done_and_nothing_changes(corpus, done):
    before = {path.name: path.stat().st_mtime_ns for path in done.folder.iterdir()}
    again = prepare_meg(ask(corpus, done.folder))
    assert again.skipped == 4
    assert replace(again, skipped=0) == done
    assert {path.name: path.stat().st_mtime_ns for path in done.folder.iterdir()} == before


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("stage", "at", "kept"), [("filter", 2.0, 1), ("filter", 2.5, 2), ("measure", 1.0, 4), ("write", 3.0, 4)]
)
def test_a_preparation_that_was_killed_goes_on_where_it_was(corpus, done, tmp_path, monkeypatch, stage, at, kept):
    def kill(progress):
        if progress.stage == stage and progress.done >= at:
            raise Killed

    monkeypatch.setattr("core.meg.filtering.BLOCK_VALUES", 1)  # several blocks in each recording
    output = tmp_path / "prepared"
    with pytest.raises(Killed):
        prepare_meg(ask(corpus, output), kill)
    with pytest.raises(DataError, match="not finished"):
        open_prepared(output)
    filtered = []
    original = preparing.filter_recording

    def counted(job, on_progress):
        filtered.append(job.path.name)
        return original(job, on_progress)

    monkeypatch.setattr(preparing, "filter_recording", counted)
    summary = prepare_meg(ask(corpus, output))
    assert summary.skipped == kept
    assert len(filtered) == 4 - summary.skipped
    assert summary.segments == done.segments
    whole = open_prepared(output)
    whole.verify()
    for segment in whole.segments("train"):
        expected = np.load(done.folder / segment.name)
        np.testing.assert_allclose(whole.read(segment, 0, LENGTH), expected, atol=1e-5)


def test_segments_of_other_settings_are_not_taken_for_what_was_written_before(corpus, done, tmp_path):
    def kill_at(stage):
        def kill(progress):
            if progress.stage == stage and progress.done == 3:
                raise Killed

        return kill

    output = tmp_path / "prepared"
    for preparation in (NATIVE, replace(NATIVE, clip=1.0)):
        with pytest.raises(Killed):
            prepare_meg(ask(corpus, output, preparation=preparation), kill_at("write"))
    prepare_meg(ask(corpus, output))
    assert content(output) == content(done.folder)


def test_recordings_of_one_name_are_told_apart(corpus, tmp_path):
    for folder, name in (("a", "sub-02_meg.fif"), ("b", "sub-03_meg.fif")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "run.fif").write_bytes((corpus / name).read_bytes())
    summary = prepare_meg(ask(tmp_path / "in", tmp_path / "prepared"))
    assert [row["name"] for row in summary.recordings] == ["a/run.fif", "b/run.fif"]


def test_the_cache_of_other_settings_is_not_taken(corpus, tmp_path):
    def kill(progress):
        if progress.stage == "measure":
            raise Killed

    output = tmp_path / "prepared"
    with pytest.raises(Killed):
        prepare_meg(ask(corpus, output, preparation=replace(NATIVE, h_freq=30.0)), kill)
    assert prepare_meg(ask(corpus, output)).skipped == 0


def test_bad_recordings_are_all_named_and_nothing_is_left_out_silently(corpus, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "good_raw.fif").write_bytes((corpus / "sub-03_meg.fif").read_bytes())
    (mixed / "torn_raw.fif").write_bytes(b"no recording" * 100)
    save_raw(mixed / "slow_raw.fif", Planted(channels=6, seconds=20, rate=90.0))
    save_raw(mixed / "short_raw.fif", Planted(channels=6, seconds=1))
    output = tmp_path / "prepared"
    with pytest.raises(DataError, match=r"torn_raw.fif"):
        prepare_meg(ask(mixed, output))
    (mixed / "torn_raw.fif").unlink()
    with pytest.raises(DataError, match=r"(?s)2 of 3 recordings cannot be used.*short_raw.fif.*slow_raw.fif"):
        prepare_meg(ask(mixed, output))
    with pytest.raises(DataError, match="not finished"):
        open_prepared(output)
    for name in ("slow_raw.fif", "short_raw.fif"):
        (mixed / name).unlink()
    assert prepare_meg(ask(mixed, output, split_ratio=1.0)).skipped == 1


def test_one_recording_is_split_in_time(tmp_path):
    path = save_raw(tmp_path / "one_raw.fif", Planted(channels=6, seconds=12))
    summary = prepare_meg(ask((path,), tmp_path / "prepared"))
    assert summary.recordings[0]["parts"] == ["train", "eval"]
    segments = open_prepared(tmp_path / "prepared").manifest.segments
    last = max(one.original[1] for one in segments if one.part == "train")
    first = min(one.original[0] for one in segments if one.part == "eval")
    assert first - last >= 5 * 250
    with pytest.raises(InputError, match=r"--gap-seconds to at least 3.3"):
        prepare_meg(ask((path,), tmp_path / "other", gap_seconds=1.0))


def test_a_copy_counts_once(corpus, tmp_path):
    copy = tmp_path / "copy_raw.fif"
    copy.write_bytes((corpus / "sub-03_meg.fif").read_bytes())
    summary = prepare_meg(ask((corpus, copy), tmp_path / "prepared"))
    assert len(summary.recordings) == 4
    assert any("copy_raw.fif holds the same bytes" in warning for warning in summary.warnings)


def test_subjects_on_both_sides_are_told(corpus, tmp_path):
    pair = tuple(corpus / f"sub-01_ses-0{number}_meg.fif" for number in (1, 2))
    summary = prepare_meg(ask(pair, tmp_path / "prepared", split_ratio=0.5))
    assert any("1 subject is in both parts (01)" in warning for warning in summary.warnings)
    with pytest.raises(DataError, match=r"of one subject \(01\)"):
        prepare_meg(ask(pair, tmp_path / "apart", split_ratio=0.5, split_by="subject"))


def test_subjects_are_kept_apart_and_the_manifest_says_so(corpus, tmp_path):
    summary = prepare_meg(ask(corpus, tmp_path / "prepared", split_ratio=0.67, split_by="subject", seed=1))
    parts = {}
    for row in summary.recordings:
        parts.setdefault(row["subject"], set()).update(row["parts"])
    assert set(parts) == {"01", "02", "03"} and sorted(map(len, parts.values())) == [1, 1, 1]
    assert set.union(*parts.values()) == {"train", "eval"}
    assert open_prepared(tmp_path / "prepared").facts["split_by"] == "subject"


def test_what_is_there_is_not_overwritten_unasked(corpus, done, tmp_path):
    output = tmp_path / "prepared"
    first = prepare_meg(ask(corpus, output))
    assert content(output) == content(done.folder)
    with pytest.raises(OutputError, match="--force"):
        prepare_meg(ask(corpus, output, segment_length=300))
    assert content(output) == content(done.folder)
    second = prepare_meg(ask(corpus, output, segment_length=300, force=True))
    assert second.segments != first.segments
    assert open_prepared(output).manifest.segment_length == 300
    (output / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"notes.txt"):
        prepare_meg(ask(corpus, output, force=True))


def test_segments_are_no_recordings_of_the_next_call(corpus, tmp_path):
    inside = tmp_path / "corpus"
    inside.mkdir()
    for path in corpus.iterdir():
        (inside / path.name).write_bytes(path.read_bytes())
    request = ask(inside, inside / "prepared", file_pattern="*")
    assert len(prepare_meg(request).recordings) == 4
    assert prepare_meg(request).skipped == 4


def test_the_manifest_tells_where_all_came_from_and_no_folder(done):
    text = (done.folder / "manifest.json").read_text()
    plain = json.loads(text)
    assert plain["recordings"][0]["sha256"]
    assert plain["facts"]["versions"]["mne"]
    assert not re.search(re.escape(str(Path(done.folder).parent.parent)), text)


def test_native_recordings_keep_their_own_channels_and_share_statistics_by_kind(tmp_path):
    paths = tuple(
        save_raw(tmp_path / f"run{n}_raw.fif", Planted(channels=n, seconds=4.5, seed=n, bads=(1,) if n == 9 else ()))
        for n in (6, 9)
    )
    summary = prepare_meg(ask(paths, tmp_path / "prepared", preparation=replace(NATIVE, bads="keep")))
    data = open_prepared(tmp_path / "prepared")
    assert data.model_input.sensors is None
    assert data.model_input.statistics.std.shape == (2,)
    for part, segments in ((part, data.segments(part)) for part in ("train", "eval")):
        assert {len(data.sensors(one)) for one in segments} == ({6} if "run6" in segments[0].recording else {9}), part
        assert all(data.read(one, 0, 7).shape == (len(data.sensors(one)), 7) for one in segments)
    assert len(summary.recordings[1]["bads"]) == 1


def test_simulated_recordings_are_marked_in_what_the_model_takes(tmp_path):
    raw = make_raw(Planted(channels=6, seconds=12))
    raw.info["description"] = "Simulated by Strata, seed 0"
    raw.save(tmp_path / "made_raw.fif", fmt="double", verbose=False)
    prepare_meg(ask((tmp_path / "made_raw.fif",), tmp_path / "prepared"))
    data = open_prepared(tmp_path / "prepared")
    assert data.model_input.simulated
    assert data.facts["simulated"] is True


def test_a_folder_in_use_is_left_to_who_uses_it(corpus, tmp_path):
    output = tmp_path / "prepared"

    with ThreadPoolExecutor(1) as pool:

        def at_once(progress):
            if progress.stage == "write" and progress.done == 0:
                with pytest.raises(InputError, match="Another"):
                    pool.submit(prepare_meg, ask(corpus, output)).result()

        prepare_meg(ask(corpus, output), at_once)
    open_prepared(output).verify()


def test_a_whole_helmet_is_scaled_channel_by_channel(tmp_path):
    path = save_raw(tmp_path / "whole_raw.fif", Planted(seconds=11, bads=(3,)))
    summary = prepare_meg(ask((path,), tmp_path / "prepared", preparation=Preparation()))
    assert summary.recordings[0]["channels"] == "names"
    assert len(summary.recordings[0]["bads"]) == 1
    data = open_prepared(tmp_path / "prepared")
    values = np.concatenate([data.read(one, 0, LENGTH) for one in data.segments("train")], axis=1)
    np.testing.assert_allclose(values.std(axis=1), 1, atol=1e-4)
    assert values.shape[0] == len(data.model_input.sensors) == 306


def test_a_real_recording_is_prepared_and_read_alike(shared_data, tmp_path):
    path = shared_data("meg_small") / "elekta306" / "141027_cropped_90Hz_raw.fif"
    preparation = Preparation(sampling_rate=90)
    request = ask((path,), tmp_path / "prepared", preparation=preparation, segment_length=90, gap_seconds=3.4)
    assert prepare_meg(request).segments == {"train": 4, "eval": 2}
    data = open_prepared(tmp_path / "prepared")
    segment = data.segments("train")[3]
    with open_meg(path, data.model_input) as signal:
        np.testing.assert_array_equal(data.read(segment, 0, 90), signal.read(270, 360))
    assert data.model_input.statistics.std[data.model_input.sensors.of_kind("mag")].max() < 1e-10  # tesla
