"""Rows: ragged recordings equal their concatenation, spans pool the right frames, and two models meet in time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.alignment.read import read_alignment
from core.alignment.segments import Alignment, Segment
from core.analysis.features import open_feature_set
from core.analysis.rows import BLOCK_ROWS, FrameRows, Rows, SpanRows, paired, spread
from core.analysis.spans import labels_at, nearest, span_table
from core.audio.signal import open_signal
from core.clock import FrameClock
from core.errors import DataError, InputError
from tests.analysis.feature_files import CLOCK, planted, write_features

COUNTS = {"a": 2_345, "b": 7, "c": 1_000}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three recordings, and their values one after the other."""
    folder = tmp_path_factory.mktemp("features")
    values = [planted(count, seed=seed) for seed, count in enumerate(COUNTS.values())]
    paths = [write_features(folder, name, value) for name, value in zip(COUNTS, values, strict=True)]
    return open_feature_set(paths), np.concatenate(values, axis=1)


def one(tmp_path, n_frames=50, name="x", clock=CLOCK, **facts):
    return open_feature_set([write_features(tmp_path, name, planted(n_frames), clock, **facts)])


def aligned(source="x.TextGrid", duration=None, **tiers):
    segments = {kind: tuple(Segment(*segment) for segment in tier) for kind, tier in tiers.items()}
    return Alignment(Path(source), segments, duration)


# ---- frames ----


def test_blocks_of_ragged_recordings_are_their_concatenation_without_padding(corpus):
    files, values = corpus
    rows: Rows = FrameRows(files)
    assert (rows.n_rows, rows.n_frames, rows.dim, rows.layers) == (3_352, 3_352, 5, tuple(range(13)))
    assert rows.counts().tolist() == [2_345, 7, 1_000] and rows.recordings == ("a", "b", "c")
    blocks = list(rows.blocks())
    assert np.array_equal(np.concatenate([numbers for numbers, _ in blocks]), np.arange(3_352))
    assert np.array_equal(np.concatenate([block for _, block in blocks], axis=1), values)
    owner = np.repeat([0, 1, 2], rows.counts())
    assert all(len(numbers) <= BLOCK_ROWS and len(set(owner[numbers])) == 1 for numbers, _ in blocks)


def test_chosen_rows_and_layers(corpus):
    files, values = corpus
    wanted = np.sort(np.random.default_rng(0).choice(3_352, 900, replace=True))  # some twice
    rows = FrameRows(files, layers=(12, 3))
    assert rows.layers == (3, 12)
    assert np.array_equal(rows.take(wanted), values[[3, 12]][:, wanted])
    assert rows.take(np.zeros(0, int)).shape == (2, 0, 5) and len(rows.table(np.zeros(0, int))) == 0
    with pytest.raises(InputError, match=r"Got layers \[3, 13\]"):
        FrameRows(files, layers=(3, 13))
    for bad in ([5, 4], [-1, 2], [3_352]):
        with pytest.raises(AssertionError):
            rows.take(np.array(bad))


def test_the_table_says_where_a_row_comes_from(corpus):
    files, _ = corpus
    marks = {"speaker": {"a": "s1", "c": "s2", "elsewhere": "s3"}, "label": {"b": ""}}
    table = FrameRows(files, marks=marks).table(np.array([0, 2_344, 2_345, 2_352, 3_351]))
    assert table.recording.tolist() == [0, 0, 1, 2, 2] and table.n_total == 3_352
    assert np.allclose(table.start, [0, 46.88, 0, 0, 19.98]) and np.allclose(table.stop - table.start, 0.025)
    assert list(table.labels) == ["speaker"]
    assert table.labels["speaker"].tolist() == ["s1", "s1", "", "s2", "s2"]


def test_frames_carry_the_phone_and_word_at_their_centre(corpus):
    files, _ = corpus
    # Centres of a's frames: 0.0125, 0.0325, 0.0525, 0.0725, ...; the first lies before all segments.
    phones = [(0.0325, 0.0525, "AH1"), (0.0525, 0.06, "T")]
    rows = FrameRows(files, {"a": aligned(phone=phones, word=[(0.0325, 0.06, "at")])})
    labels = rows.table(np.array([0, 1, 2, 3, 2_345])).labels
    assert labels["phone"].tolist() == ["", "AH1", "T", "", ""]
    assert labels["word"].tolist() == ["", "at", "at", "", ""]


def test_without_a_clock_there_are_no_times_and_alignments_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", layer_0=planted(9)[0])
    files = open_feature_set([tmp_path / "x.npz"])
    table = FrameRows(files).table(np.arange(3))
    assert np.isnan(table.start).all() and np.isnan(table.stop).all()
    with pytest.raises(InputError, match=r"no \.json beside it"):
        FrameRows(files, {"x": aligned(word=[(0, 0.1, "a")])})
    with pytest.raises(InputError, match=r"no \.json beside it"):
        SpanRows(files, {"x": aligned(word=[(0, 0.1, "a")])}, "word")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["frame", "word"])
def test_values_that_are_not_finite_are_named(tmp_path, value, kind):
    values = planted(1_500)
    values[7, 1_234, 4] = value
    files = open_feature_set([write_features(tmp_path, "good", planted(9)), write_features(tmp_path, "bad", values)])
    words = [(0.1, 0.15, "w"), (24.0, 25.0, "bad")]
    alignments = {"good": aligned(word=words[:1]), "bad": aligned(word=words)}
    rows = FrameRows(files) if kind == "frame" else SpanRows(files, alignments, "word")
    first = 9 + 1_234 if kind == "frame" else 2
    for read in (lambda: list(rows.blocks()), lambda: rows.take(np.array([0, first]))):
        with pytest.raises(DataError, match=r"bad\.npz: layer 7 holds NaN or infinite values at frame 1234 \(24.680 s"):
            read()
    rows.take(np.array([0, first - 1]))  # its neighbour is sound


def test_large_finite_values_are_no_error(tmp_path):
    values = planted(20) * np.float32(1e30)
    assert np.array_equal(
        FrameRows(open_feature_set([write_features(tmp_path, "x", values)])).take(np.arange(20)), values
    )


def test_names_of_recordings_are_unique(corpus):
    files, _ = corpus
    with pytest.raises(InputError, match="Two recordings are called a"):
        FrameRows([files[0], files[0]])
    with pytest.raises(InputError, match="no recordings"):
        FrameRows([])


# ---- spans ----


def test_phones_and_words_of_a_real_alignment_pool_the_frames_counted_by_hand(shared_data, tmp_path):
    """The first and the last phones and words of 26.7 s; frame i is centred at 0.0125 + 0.02 i seconds."""
    path = shared_data("mfa_tests") / "textgrid" / "acoustic_corpus.TextGrid"
    files = one(tmp_path, CLOCK.n_frames(427_572), "acoustic_corpus", duration_seconds=26.72325)
    alignments = {"acoustic_corpus": read_alignment(path)}
    words, phones = (SpanRows(files, alignments, span) for span in ("word", "phone"))
    assert (words.n_rows, phones.n_rows, words.n_frames) == (58, 203, 1_335)

    word = words.take(np.array([0, 57]))
    # "this", 1.05 to 1.20 s: frames 52 (1.0525) to 59 (1.1925). "thanks", 24.95 to 25.25 s: 1247 to 1261.
    assert np.array_equal(word[:, :, 0], np.tile([(52 + 59) / 2, (1_247 + 1_261) / 2], (13, 1)))
    everything = files[0].layer(5)
    assert np.allclose(word[5, 0], everything[52:60].mean(axis=0), atol=1e-6)

    phone, table = phones.take(np.array([0, 202])), phones.table(np.array([0, 202]))
    # DH, 1.05 to 1.06 s, holds frame 52 (1.0525), but its middle third does not: nearest to 1.055 is 52.
    # S, 25.14 to 25.25 s; its middle third, 25.1767 to 25.2133 s, holds 1259 (25.1925) and 1260 (25.2125).
    assert np.array_equal(phone[:, :, 0], np.tile([52, 1_259.5], (13, 1)))
    assert table.labels["phone"].tolist() == ["DH", "S"] and table.labels["word"].tolist() == ["this", "thanks"]
    assert table.start.tolist() == [1.05, 25.14] and table.stop.tolist() == [1.06, 25.25] and table.n_total == 203
    assert "phone" not in words.table(np.array([0])).labels


def test_every_span_is_the_mean_of_the_frames_whose_centre_it_holds(shared_data, tmp_path):
    """All of it again, by going through frames one by one."""
    alignment = read_alignment(shared_data("mfa_tests") / "textgrid" / "cold_corpus.TextGrid")
    files = one(tmp_path, CLOCK.n_frames(411_481), "x", duration_seconds=25.7175625)
    layer, n_nearest = np.asarray(files[0].layer(3), dtype=np.float64), 0
    centres = [0.0125 + 0.02 * frame for frame in range(len(layer))]
    for span, third in (("phone", 3), ("word", np.inf)):
        rows = SpanRows(files, {"x": alignment}, span)
        expected, n_nearest = [], 0
        for segment in alignment.tiers[span]:
            inset = (segment.stop - segment.start) / third
            inside = [i for i, at in enumerate(centres) if segment.start + inset <= at < segment.stop - inset]
            n_nearest += not inside
            middle = (segment.start + segment.stop) / 2
            inside = inside or [min(range(len(centres)), key=lambda i: abs(centres[i] - middle))]
            expected.append(layer[inside].mean(axis=0))
        assert np.allclose(rows.take(np.arange(rows.n_rows))[3], expected, atol=1e-5)
        assert rows.n_nearest == n_nearest
        if span == "phone":
            assert 30 < n_nearest < rows.n_rows / 2


def test_the_real_labels_lie_where_the_real_sound_is(shared_data, tmp_path):
    """Sibilants hiss where they are labelled, and words are loud; both fit best unshifted, to a frame."""
    folder = shared_data("mfa_tests")
    with open_signal(folder / "wav" / "acoustic_corpus.wav", 16_000) as signal:
        samples = signal.read(0, signal.n_samples)
    level, bright = frame_levels(samples), frame_levels(np.diff(samples, prepend=0))
    files = one(tmp_path, len(level), "acoustic_corpus", duration_seconds=len(samples) / 16_000)
    rows = FrameRows(files, {"acoustic_corpus": read_alignment(folder / "textgrid" / "acoustic_corpus.TextGrid")})
    labels = rows.table(np.arange(rows.n_rows)).labels
    for where, sound, least in (
        (np.isin(labels["phone"], ["S", "SH", "Z", "CH"]), bright - level, 10),
        (labels["word"] != "", bright, 10),
    ):
        assert np.median(sound[where]) - np.median(sound[~where]) > least
        shifts = range(-25, 26)
        fit = [np.corrcoef(np.roll(where, shift), sound)[0, 1] for shift in shifts]
        assert abs(shifts[int(np.argmax(fit))]) <= 1 and max(fit) > 0.5 > 2 * max(fit[0], fit[-1])


def frame_levels(samples):
    """Decibels of each frame of the clock."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, CLOCK.field)[:: CLOCK.hop]
    return 10 * np.log10(np.square(frames).mean(axis=1) + 1e-10)


def test_spans_of_several_recordings_are_read_by_number_in_small_blocks(corpus):
    files, _ = corpus
    rng = np.random.default_rng(0)
    starts = {name: np.sort(rng.uniform(0, count * 0.02, 1 + count // 8)) * 0.9 for name, count in COUNTS.items()}
    tiers = {
        name: [(a, b, str(k)) for k, (a, b) in enumerate(zip(begin, [*begin[1:], begin[-1] + 0.01], strict=True))]
        for name, begin in starts.items()
    }
    rows = SpanRows(files, {name: aligned(word=tier) for name, tier in tiers.items()}, "word")
    whole = np.concatenate([block for _, block in rows.blocks()], axis=1)
    wanted = np.sort(rng.choice(rows.n_rows, 50, replace=False))
    assert np.array_equal(rows.take(wanted), whole[:, wanted]) and whole.shape[1] == rows.n_rows
    table = rows.table(wanted)
    expected = [tier[2] for name in COUNTS for tier in tiers[name]]
    assert table.labels["word"].tolist() == [expected[row] for row in wanted]
    assert all(len(numbers) <= BLOCK_ROWS for numbers, _ in rows.blocks())


def test_one_long_segment_is_one_row(tmp_path):
    rows = SpanRows(one(tmp_path, 3_000), {"x": aligned(word=[(0.0, 59.9, "long"), (59.9, 60.0, "short")])}, "word")
    assert np.allclose(rows.take(np.arange(2))[0, :, 0], [np.arange(2_995).mean(), np.arange(2_995, 3_000).mean()])


def test_segments_too_short_for_a_frame_take_the_nearest_one():
    segments = [Segment(0.0, 0.01, "a"), Segment(0.5, 0.501, "b"), Segment(0.999, 1.05, "c"), Segment(1.05, 1.06, "d")]
    table = span_table(segments, CLOCK, 50, "word")  # the last centre is 0.9925
    assert table.first.tolist() == [0, 24, 49, 49] and table.count.tolist() == [1, 1, 1, 1] and table.n_nearest == 4
    edges = span_table([Segment(0.0125, 0.0525, "a")], CLOCK, 50, "word")  # the start is in, the stop is out
    assert edges.first.tolist() == [0] and edges.count.tolist() == [2] and edges.n_nearest == 0


def test_rows_of_the_nearest_frame_and_of_one_frame_are_counted(tmp_path):
    phones = [(0.0, 0.1, "long"), (0.5, 0.504, "a"), (0.504, 0.508, "b"), (0.508, 0.512, "c"), (0.7, 0.703, "d")]
    alignment = replace(aligned(phone=phones, word=[(0.0, 0.6, "w")]), n_empty={"phone": 3, "word": 1})
    files = one(tmp_path)
    rows = SpanRows(files, {"x": alignment}, "phone")
    values = rows.take(np.arange(5))[0]
    assert values[:, 0].tolist() == [2, 24, 25, 25, 34]  # centres at 0.4925 and 0.5125 s
    assert (values[2] == values[3]).all()
    assert (rows.n_rows, rows.n_nearest, rows.n_repeated, rows.n_empty) == (5, 4, 1, 3)
    words = SpanRows(files, {"x": alignment}, "word")
    assert (words.n_nearest, words.n_repeated, words.n_empty) == (0, 0, 1)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20, unique=True), st.lists(st.floats(-1, 11), max_size=9))
@settings(max_examples=100, deadline=None)
def test_nearest_is_nearest(places, wanted):
    places = np.sort(places)
    found = nearest(places, np.array(wanted, dtype=float))
    assert np.allclose(np.abs(places[found] - wanted), [np.abs(places - one).min() for one in wanted], atol=2e-9)


def test_labels_at_the_very_edges():
    segments = [Segment(0.1, 0.2, "a"), Segment(0.2, 0.3, "b"), Segment(0.5, 0.6, "c")]
    times = np.array([0.0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert labels_at(segments, times).tolist() == ["", "a", "a", "b", "", "", "c", ""]
    assert labels_at([], times).tolist() == [""] * 8


def test_alignments_that_cannot_be_of_the_recording_are_refused(tmp_path):
    files = one(tmp_path, 50, duration_seconds=1.02)
    for alignment, words in [
        (aligned(word=[(0.0, 1.2, "w")]), r"x\.TextGrid has segments up to 1\.200 s.*x\.npz\) is 1\.020 s"),
        (aligned(word=[(0.0, 0.5, "w")], duration=1.9), r"a recording of 1\.900 s, and x .* is 1\.020 s"),
        (aligned(word=[(30.0, 31.0, "w")]), "up to 31.000 s"),
    ]:
        for make in (lambda a: FrameRows(files, {"x": a}), lambda a: SpanRows(files, {"x": a}, "word")):
            with pytest.raises(DataError, match=words):
                make(alignment)
    # Real TextGrids overshoot by a rounding; a table that labels only the beginning is no error.
    FrameRows(files, {"x": aligned(word=[(0.0, 1.03, "w")], duration=1.03)})
    FrameRows(files, {"x": aligned(word=[(0.0, 0.1, "w")])})


def test_spans_that_are_not_there_are_errors(tmp_path):
    files = one(tmp_path)
    with pytest.raises(DataError, match="no alignment for x"):
        SpanRows(files, {"y": aligned(word=[(0, 0.1, "w")])}, "word")
    with pytest.raises(DataError, match="holds word, not phone"):
        SpanRows(files, {"x": aligned(word=[(0, 0.1, "w")])}, "phone")
    with pytest.raises(DataError, match="not one word that is not silence"):
        SpanRows(files, {"x": aligned(word=[])}, "word")
    with pytest.raises(InputError, match="the span 'frame'"):
        SpanRows(files, {}, "frame")


# ---- two models ----

HALF_RATE = FrameClock(hop=640, field=800, sampling_rate=16_000)
CODEC = FrameClock(hop=320, field=320, sampling_rate=24_000, need=1)
HALF_A_STRIDE = FrameClock(hop=320, field=400, sampling_rate=16_000, start=160)
WHISPER = FrameClock(hop=320, field=400, sampling_rate=16_000, start=-200, need=1)


@pytest.mark.parametrize("other", [CODEC, WHISPER, HALF_RATE, HALF_A_STRIDE, CLOCK])
@pytest.mark.parametrize("turned", [False, True])
def test_frames_of_two_models_meet_at_the_nearest_time(tmp_path, other, turned):
    lengths = (1.0, 2.345)
    files = []
    for folder, clock in ((tmp_path / "first", CLOCK), (tmp_path / "second", other)):
        counts = [clock.n_frames(round(seconds * clock.sampling_rate)) for seconds in lengths]
        files.append(
            open_feature_set([write_features(folder, f"r{k}", planted(n), clock) for k, n in enumerate(counts)])
        )
    first, second = (FrameRows(one) for one in (files[::-1] if turned else files))
    pairs = paired(first, second)
    one_table, other_table = first.table(pairs.first), second.table(pairs.second)
    assert np.array_equal(one_table.recording, other_table.recording)
    for rows in (pairs.first, pairs.second):
        assert (np.diff(rows) > 0).all()
    centres = [(table.start + table.stop) / 2 for table in (one_table, other_table)]
    apart = np.abs(centres[0] - centres[1])
    fine = min(first.files[0].clock.stride_seconds, second.files[0].clock.stride_seconds)
    assert apart.max() <= fine / 2 + 1e-9 and pairs.largest_seconds == pytest.approx(apart.max())
    slow = min(first.n_rows, second.n_rows)
    assert slow - 2 * len(lengths) <= len(pairs) <= slow
    assert (pairs.largest_seconds == 0) == (other is CLOCK)


def test_a_pair_is_the_nearest_by_hand(tmp_path):
    """Frame i of one lies at 12.5 + 20 i ms, frame j of the other at 6.67 + 13.33 j ms."""
    rows = [
        FrameRows(one(tmp_path / name, count, clock=clock)) for name, count, clock in (("a", 4, CLOCK), ("b", 6, CODEC))
    ]
    pairs = paired(*rows)  # 12.5, 32.5, 52.5 and 72.5 ms; 6.67, 20, 33.3, 46.7, 60 and 73.3 ms
    assert pairs.first.tolist() == [0, 1, 2, 3] and pairs.second.tolist() == [0, 2, 3, 5]
    assert pairs.largest_seconds == pytest.approx(0.0525 - 3.5 * 320 / 24_000)


def test_frames_without_a_partner_are_left_out(tmp_path):
    first, second = (FrameRows(one(tmp_path / name, count)) for name, count in (("a", 50), ("b", 20)))
    for pairs in (paired(first, second), paired(second, first)):
        assert pairs.first.tolist() == pairs.second.tolist() == list(range(20))
    later = FrameClock(hop=320, field=400, sampling_rate=16_000, start=320_000)
    with pytest.raises(DataError, match="not one frame at the same time"):
        paired(first, FrameRows(one(tmp_path / "c", 20, clock=later)))
    # 25 ms and 12.5 ms are further apart than half of 20 ms.
    with pytest.raises(DataError, match="not one frame at the same time"):
        paired(FrameRows(one(tmp_path / "d", 1, clock=HALF_RATE)), FrameRows(one(tmp_path / "e", 1)))


def test_spans_of_two_models_match_one_to_one(tmp_path):
    alignments = {"x": aligned(word=[(0.1, 0.2, "a"), (0.3, 0.4, "b")])}
    files = [one(tmp_path / name, count, clock=clock) for name, count, clock in (("a", 49, CLOCK), ("b", 75, CODEC))]
    pairs = paired(*(SpanRows(file, alignments, "word") for file in files))
    assert pairs.first.tolist() == pairs.second.tolist() == [0, 1] and pairs.largest_seconds == 0
    other = {"x": aligned(word=[(0.1, 0.2, "a"), (0.3, 0.5, "b")])}
    with pytest.raises(DataError, match="different segments of x"):
        paired(SpanRows(files[0], alignments, "word"), SpanRows(files[1], other, "word"))
    with pytest.raises(InputError, match="the same span of both"):
        paired(SpanRows(files[0], alignments, "word"), FrameRows(files[1]))


def test_two_models_must_have_the_same_recordings(tmp_path):
    first = FrameRows(one(tmp_path / "a"))
    other = FrameRows(one(tmp_path / "b", input_sha256="something else"))
    with pytest.raises(DataError, match=r"different recordings \(x, SHA-256 x-bytes and x, SHA-256 something el"):
        paired(first, other)
    two = [write_features(tmp_path / "c", name, planted(9)) for name in "xy"]
    with pytest.raises(DataError, match="1 recordings and the second 2"):
        paired(first, FrameRows(open_feature_set(two)))
    unknown = replace(first.files[0], metadata={}, name="y")
    with pytest.raises(DataError, match="different recordings"):
        paired(first, FrameRows([unknown]))


# ---- sampling ----


@given(st.lists(st.integers(0, 300), min_size=1, max_size=30), st.integers(1, 500))
@settings(max_examples=200, deadline=None)
def test_a_sample_is_as_large_as_wanted_and_represents_every_recording(counts, most):
    counts = np.array(counts)
    rows = spread(counts, most)
    assert len(rows) == min(most, counts.sum()) and (np.diff(rows) > 0).all()
    owner = np.repeat(np.arange(len(counts)), counts)[rows]
    taken, filled = np.bincount(owner, minlength=len(counts)), counts > 0
    if most >= filled.sum():
        assert (taken[filled] > 0).all()
        fair = counts * min(1.0, most / max(1, counts.sum()))
        assert (taken <= np.ceil(fair) + 1).all()
    else:
        assert taken.max(initial=0) == 1
