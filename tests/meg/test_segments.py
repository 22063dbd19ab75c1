from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError, InputError
from core.meg.segments import (
    Footprint,
    Source,
    SplitSettings,
    Stretch,
    check_apart,
    check_disjoint,
    cut_segments,
    first_of_each,
    original_range,
    shared_subjects,
    short_names,
    split_recordings,
    subject_session,
)

SETTINGS = SplitSettings(segment_length=500, split_ratio=0.75, gap_seconds=5.0, sampling_rate=250, seed=0)


def sources(count, n_times=5000, **facts):
    return [Source(f"run{number}.fif", n_times, **facts) for number in range(count)]


def footprints(found, stretches, length=500, reach=0):
    ranges = [(one, cut) for one in stretches for cut in cut_segments(one, found[one.recording].bad_spans, length)[0]]
    return [Footprint(str(one.recording), one.part, a - reach, b + reach) for one, (a, b) in ranges]


def test_whole_recordings_go_to_one_part():
    stretches = split_recordings(sources(8), SETTINGS)
    assert [one.recording for one in stretches] == list(range(8))
    assert [one.part for one in stretches].count("train") == 6
    assert all((one.start, one.stop) == (0, 5000) for one in stretches)


@pytest.mark.parametrize(("ratio", "train"), [(0.01, 1), (0.5, 1), (0.99, 1), (1.0, 2)])
def test_no_part_is_empty_unless_all_is_to_train(ratio, train):
    settings = SplitSettings(500, ratio, 5.0, 250)
    parts = [one.part for one in split_recordings(sources(2), settings)]
    assert parts.count("train") == train


def test_the_seed_decides_who_evaluates():
    def chosen(seed):
        stretches = split_recordings(sources(8), SplitSettings(500, 0.75, 5.0, 250, seed))
        return tuple(one.recording for one in stretches if one.part == "eval")

    assert chosen(1) == chosen(1)
    assert len({chosen(seed) for seed in range(10)}) > 3


def test_all_recordings_of_a_subject_go_to_one_part():
    found = [Source(f"run{number}.fif", 5000, subject=str(number // 3)) for number in range(12)]
    for seed in range(10):
        stretches = split_recordings(found, SplitSettings(500, 0.75, 5.0, 250, seed, "subject"))
        assert [one.recording for one in stretches] == list(range(12))
        assert [one.part for one in stretches].count("train") == 9
        assert shared_subjects(found, stretches) == ()
        by_recording = split_recordings(found, SplitSettings(500, 0.75, 5.0, 250, seed))
        assert shared_subjects(found, by_recording) != ()


def test_subjects_that_cannot_be_kept_apart_are_refused():
    settings = SplitSettings(500, 0.75, 5.0, 250, by="subject")
    with pytest.raises(DataError, match=r"run1\.fif does not say its subject.*--split-by recording"):
        split_recordings([Source("run0.fif", 5000, subject="1"), Source("run1.fif", 5000)], settings)
    for count in (1, 3):
        with pytest.raises(DataError, match=r"of one subject \(7\)"):
            split_recordings(sources(count, subject="7"), settings)
    with pytest.raises(InputError, match="split by 'person'; expected recording or subject"):
        SplitSettings(500, 0.75, 5.0, 250, by="person")


def test_recordings_without_a_usable_segment_take_no_part():
    found = [*sources(2), Source("short.fif", 499), Source("bad.fif", 1000, ((0, 1), (600, 601)))]
    assert [one.recording for one in split_recordings(found, SETTINGS)] == [0, 1]
    with pytest.raises(DataError, match=r"None of the 2 .* 500 samples \(2 s\)"):
        split_recordings(found[2:], SETTINGS)


@pytest.mark.parametrize("n_times", [2250, 5000, 5001, 30_000])
def test_one_recording_is_split_in_time_with_a_gap_that_the_filter_does_not_bridge(n_times):
    found = sources(1, n_times, reach_seconds=2.4)
    train, evaluation = stretches = split_recordings(found, SETTINGS)
    assert (train.part, evaluation.part) == ("train", "eval")
    assert evaluation.start - train.stop == 1250
    assert evaluation.stop == n_times
    reach = int(2.4 * 250)
    check_disjoint(footprints(found, stretches, reach=reach))
    # Without the gap the same segments do share samples through the filter.
    closed = [Stretch(0, "train", 0, evaluation.start), evaluation]
    with pytest.raises(AssertionError, match="stand behind both parts"):
        check_disjoint(footprints(found, closed, reach=reach))


def test_the_share_of_one_recording_that_trains_is_the_ratio():
    train, evaluation = split_recordings(sources(1, 101_250), SETTINGS)
    assert (evaluation.stop - evaluation.start) / 100_000 == pytest.approx(0.25)
    assert train.stop / 100_000 == pytest.approx(0.75)


def test_a_gap_shorter_than_the_filter_is_refused_with_how_long_it_has_to_be():
    with pytest.raises(InputError, match=r"run0.fif .* reaches over 6.02 s. Set --gap-seconds to at least 6.1"):
        split_recordings(sources(1, 50_000, reach_seconds=3.01), SETTINGS)


def test_one_recording_too_short_for_two_parts_is_told_how_long_it_has_to_be():
    with pytest.raises(DataError, match=r"holds 9.0 s, .* at least 9.0 s"):
        split_recordings(sources(1, 2249), SETTINGS)


def test_segments_that_overlap_a_bad_span_are_left_out_and_counted():
    stretch = Stretch(0, "train", 100, 2700)
    segments, left_out = cut_segments(stretch, ((50, 100), (600, 601), (1599, 1600)), 500)
    assert segments == [(100, 600), (1600, 2100), (2100, 2600)]
    assert left_out == 2


def test_the_documented_overlapping_windows_fail_the_check():
    # Windows at half a length's step, shuffled before they are split.
    windows = [(start, start + 500) for start in range(0, 5000, 250)]
    parts = np.random.default_rng(0).permutation(["train"] * 16 + ["eval"] * 3)
    shuffled = [Footprint("a", part, *window) for part, window in zip(parts, windows, strict=False)]
    with pytest.raises(AssertionError, match="both parts"):
        check_disjoint(shuffled)
    with pytest.raises(AssertionError, match="overlap"):
        check_apart(windows)


def test_disjointness_holds_between_contents_only():
    check_disjoint([Footprint("a", "train", 0, 500), Footprint("b", "eval", 0, 500)])
    with pytest.raises(AssertionError):
        check_disjoint([Footprint("a", "train", 0, 500), Footprint("a", "eval", 499, 900)])
    # A long one that hides behind a short later one of its own part.
    with pytest.raises(AssertionError):
        check_disjoint(
            [Footprint("a", "train", 0, 900), Footprint("a", "train", 10, 20), Footprint("a", "eval", 500, 600)]
        )


@pytest.mark.parametrize("rate", [250.0, 600.0, 678.17, 1000.0])
def test_original_ranges_join_without_overlap_beyond_rounding(rate):
    first, second = (original_range(cut, 250, rate, 10**6) for cut in ((0, 500), (500, 1000)))
    assert first[0] == 0
    assert 0 <= first[1] - second[0] <= 1
    assert first[1] == pytest.approx(500 * rate / 250, abs=1)
    assert original_range((500, 1000), 250, rate, 1500)[1] <= 1500


def test_same_content_under_two_names_counts_once_with_a_note():
    kept, notes = first_of_each(["x", "y", "x"], ["a.fif", "b.fif", "copy.fif"])
    assert kept == [0, 1]
    assert notes == ("copy.fif holds the same bytes as a.fif; it counts once.",)


def test_names_take_as_many_folders_as_tell_them_apart():
    paths = [Path(path) for path in ("/d/a/1/run.fif", "/d/b/1/run.fif", "/d/b/2/run.fif", "/d/b/2/rest.fif")]
    assert short_names(paths) == ["a/1/run.fif", "b/1/run.fif", "2/run.fif", "rest.fif"]


@pytest.mark.parametrize(
    ("path", "info", "expected"),
    [
        ("d/sub-01_ses-02_task-rest_meg.fif", None, ("01", "02")),
        ("sub-07/ses-a/meg/run1.fif", {"his_id": "x"}, ("07", "a")),
        ("run1.fif", {"his_id": "patient 4", "id": 9}, ("patient 4", "")),
        ("run1.fif", {"id": 9}, ("9", "")),
        ("run1.fif", None, ("", "")),
        ("noises-12/stub-3_meg.fif", None, ("", "")),
    ],
)
def test_subject_and_session_come_from_the_name_or_the_file(path, info, expected):
    assert subject_session(Path(path), info) == expected


def test_subjects_on_both_sides_are_named():
    found = [Source(f"{number}.fif", 5000, subject=subject) for number, subject in enumerate(["01", "01", "02", ""])]
    split = [Stretch(0, "train", 0, 1), Stretch(1, "eval", 0, 1), Stretch(2, "train", 0, 1), Stretch(3, "eval", 0, 1)]
    assert "1 subject is in both parts (01)" in shared_subjects(found, split)[0]
    assert shared_subjects(found, split[1:]) == ()


@pytest.mark.parametrize(
    "bad", [{"segment_length": 0}, {"split_ratio": 0.0}, {"split_ratio": 1.1}, {"gap_seconds": -1}, {"seed": -1}]
)
def test_settings_that_cannot_be_are_refused(bad):
    good = {"segment_length": 500, "split_ratio": 0.9, "gap_seconds": 5.0, "sampling_rate": 250}
    with pytest.raises(InputError, match="expected"):
        SplitSettings(**{**good, **bad})
