"""What a head says of a recording: the same as of its parts, in any blocks, and nothing where it knows nothing."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.arrays import Progress
from core.audio.signal import Signal
from core.clock import FrameClock
from core.emotion.domain import distance
from core.emotion.head_files import SavedHead, head_config
from core.emotion.pooling import LearnedAttention
from core.emotion.predict import (
    LEAST_SECONDS,
    QUIETER_DB,
    SILENT_DBFS,
    Heard,
    LearnedPool,
    PredictSettings,
    predict,
    segments,
    window_times,
)
from core.errors import CheckpointError, InputError
from core.scoring import INTENDED_USE, Prediction, Said
from tests.emotion.heads_made import ENCODER, LABELS, make_head

RATE, DIM = 1_000, 3
CLOCK = FrameClock(hop=20, field=25, sampling_rate=RATE)
POOLED = {"mean_std": 2, "mean": 1, "multi": 3, "learned": 1}


def saved_head(pooling="mean_std", least_seconds=0.0, training=None, threshold=0.0, dim=DIM):
    mixture = "summed" if pooling == "learned" else "concatenated"
    head = make_head(dim=dim * POOLED[pooling], pooling=pooling, mixture=mixture)
    # Wide scales: made states lie near the training clips, unless a test says otherwise.
    head = replace(head, reference=replace(head.reference, threshold=1e3), threshold=threshold)
    return SavedHead("mine", Path("mine"), head, head_config(head, LABELS, ENCODER, least_seconds), training or {})


def tone(seconds, level=0.1):
    return level * np.sin(0.7 * np.arange(round(seconds * RATE)))


def heard(samples, encode=None, blocks=(7, 50, 1)):
    """A recording and an encoder, whose states come in blocks of these sizes, over and over."""
    signal = Signal.from_array(np.asarray(samples, dtype=np.float32), RATE)
    encode = encode or listen

    def encoded(part, on_progress):
        states = encode(part)
        yield from in_blocks(states, blocks)
        on_progress(Progress("embed", part.duration_seconds, part.duration_seconds))

    return Heard(Path("clip.wav"), signal, encoded)


def listen(part):
    """States that depend on all of the sound that is heard at once, as those of an encoder that normalises do."""
    n_frames = CLOCK.n_frames(part.n_samples)
    sound = (part.read(0, part.n_samples) - part.mean) / (part.std + 1e-6)
    frames = np.lib.stride_tricks.sliding_window_view(sound, 25)[::20][:n_frames]
    mixed = frames @ np.random.default_rng(12).normal(size=(25, 3 * DIM)) / 5
    return np.ascontiguousarray(mixed.reshape(n_frames, 3, DIM).transpose(1, 0, 2), dtype=np.float32)


def speech(seconds, seed=0):
    """Noise whose loudness moves: every stretch of it differs from every other."""
    n = round(seconds * RATE)
    return np.random.default_rng((seed, 3)).normal(size=n) * 0.1 * (1.2 + np.sin(np.arange(n) / 300))


def made_states(n_frames, seed=0):
    return np.random.default_rng((seed, 12)).normal(size=(3, n_frames, DIM)).astype(np.float32)


def in_blocks(states, sizes):
    begin, turn = 0, 0
    while begin < states.shape[1]:
        size = sizes[turn % len(sizes)]
        yield states[:, begin : begin + size]
        begin, turn = begin + size, turn + 1


def plainly_pooled(frames):
    """(n_layers, n, dim) to (n_layers, 1, 2 * dim), by numpy alone."""
    spread = frames.std(axis=1, ddof=1) if frames.shape[1] > 1 else 0 * frames[:, 0]
    return np.concatenate([frames.mean(axis=1, dtype=np.float64), spread], axis=1)[:, None]


def test_the_clip_is_what_its_frames_give():
    saved, states = saved_head(), made_states(CLOCK.n_frames(1_900))
    found = predict(saved, heard(tone(1.9), lambda _: states))
    features = plainly_pooled(states)
    np.testing.assert_allclose(found.clip.probabilities, saved.head.probabilities(features)[0], rtol=1e-5)
    assert found.clip.distance == pytest.approx(float(distance(saved.head, features)[0]), rel=1e-5)
    assert found.clip.label == LABELS[int(found.clip.probabilities.argmax())]
    assert found.clip.probabilities.sum() == pytest.approx(1.0)
    assert (found.head, found.model, found.labels, found.source) == ("mine", "tiny", LABELS, Path("clip.wav"))


@pytest.mark.parametrize("pooling", ["mean_std", "multi", "learned"])
def test_a_window_says_what_the_same_stretch_in_a_file_of_its_own_says(pooling):
    saved, samples = saved_head(pooling), speech(5.3).astype(np.float32)
    found = predict(saved, heard(samples))
    assert [(said.start, said.stop) for said in found.timeline] == window_times(5.3, 2.0, 0.5)
    for said in found.timeline:
        first = round(said.start * RATE)
        alone = predict(saved, heard(samples[first : first + 2 * RATE])).clip
        np.testing.assert_array_equal(said.probabilities, alone.probabilities)
        assert (said.label, said.why, said.distance) == (alone.label, alone.why, alone.distance)
    assert len({said.distance for said in found.timeline}) == len(found.timeline)


@pytest.mark.parametrize("pooling", ["mean_std", "multi", "learned"])
def test_blocks_of_any_size_give_the_same(pooling):
    saved = saved_head(pooling)
    alone = predict(saved, heard(speech(3.3), blocks=(10_000,)))
    for sizes in ((1,), (7, 50, 1), (100, 3)):
        found = predict(saved, heard(speech(3.3), blocks=sizes))
        for one, other in zip((found.clip, *found.timeline), (alone.clip, *alone.timeline), strict=True):
            np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-5)


def test_windows_report_in_their_own_seconds_and_can_be_stopped():
    told = []
    predict(saved_head(), heard(speech(4.0)), on_progress=told.append)
    assert told[0].stage == "embed"
    windows = [one for one in told if one.stage == "windows"]
    assert {one.total for one in windows} == {10.0}  # five windows of two seconds
    assert sorted({one.done for one in windows}) == [0, 2, 4, 6, 8, 10]
    assert [one.done for one in windows] == sorted(one.done for one in windows)

    def stop(progress):
        if progress.stage == "windows" and progress.done >= 4:
            raise KeyboardInterrupt

    parts = []

    def counted(part):
        parts.append(part)
        return listen(part)

    with pytest.raises(KeyboardInterrupt):
        predict(saved_head(), heard(speech(4.0), counted), on_progress=stop)
    assert len(parts) == 3  # the whole and two windows


def test_learned_attention_is_that_of_the_training():
    saved, frames = saved_head("learned"), made_states(80)
    head, pool = saved.head, LearnedPool(saved.head)
    for block in in_blocks(frames, (3, 30)):
        pool.add(block)
    trained = LearnedAttention(DIM).double()
    with torch.no_grad():
        trained.query.copy_(torch.from_numpy(head.attention))
        mixed = torch.from_numpy(head.mixed(frames)).T[None]
        wanted = trained(mixed)[0].numpy()
    np.testing.assert_allclose(head.mixed(pool.result()[:, None])[0], wanted, rtol=1e-6)
    far = made_states(80) * 1e4  # scores in the thousands do not overflow
    pool = LearnedPool(head)
    pool.add(far)
    assert np.isfinite(pool.result()).all()


def test_memory_does_not_grow_with_the_recording():
    import tracemalloc

    block = np.random.default_rng(0).normal(size=(3, 1_000, 64)).astype(np.float32)  # 20 s, 0.8 MB

    def encode(part, _):
        n_frames = CLOCK.n_frames(part.n_samples)
        return (block[:, : min(1_000, n_frames - begin)] + 0 for begin in range(0, n_frames, 1_000))

    def peak(seconds):
        signal = Signal.from_array(np.tile(tone(1.0), seconds).astype(np.float32), RATE)
        tracemalloc.start()
        one = Heard(Path("clip.wav"), signal, encode)
        predict(saved_head("mean", dim=64), one, PredictSettings(hop_seconds=10.0))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(60)
    assert peak(660) - peak(60) < 3e6  # the states of ten minutes are 23 MB


@given(seconds=st.floats(0.01, 60), window=st.floats(0.3, 10), hop=st.floats(0.05, 10))
def test_windows_lie_in_the_recording_and_the_last_ends_with_it(seconds, window, hop):
    times = window_times(seconds, window, hop)
    assert bool(times) == (seconds > window + 1e-9)
    for begin, end in times:
        assert 0 <= begin < end <= seconds + 1e-9
        assert end - begin == pytest.approx(window)
    if times:
        assert times[0][0] == 0
        assert times[-1][1] == seconds
        for (first, _), (second, _) in pairwise(times):
            assert 0 < second - first <= hop + 1e-9


@settings(max_examples=15, deadline=None)
@given(samples=st.integers(400, 6_000), window=st.floats(0.3, 3), hop=st.floats(0.1, 3))
def test_every_window_gets_an_answer_whatever_the_lengths(samples, window, hop):
    found = predict(saved_head("mean"), heard(tone(samples / RATE)), PredictSettings(window, hop))
    assert len(found.timeline) == len(window_times(samples / RATE, window, hop))
    assert all(np.isfinite(said.probabilities).all() for said in found.timeline)


# ----------------------------------------------------------------------------------------------------------- abstaining


@pytest.mark.parametrize("kind", ["zeros", "offset", "dither"])
def test_silence_is_never_given_an_emotion(kind):
    noise = np.random.default_rng(0).normal(size=5_000)
    samples = {"zeros": 0 * noise, "offset": 0 * noise + 0.3, "dither": 1e-4 * noise}[kind]
    found = predict(saved_head(), heard(samples))
    assert {said.why for said in (found.clip, *found.timeline)} == {"silence"}
    assert {said.label for said in (found.clip, *found.timeline)} == {""}
    for said in (found.clip, *found.timeline):  # nothing was heard: no class is likelier than another
        np.testing.assert_array_equal(said.probabilities, np.full(4, 0.25))
    assert found.warnings == (INTENDED_USE,)


def test_the_floors_of_silence_are_where_they_are_said_to_be():
    def why(level):
        return predict(saved_head(), heard(np.sqrt(2) * tone(1.0, level))).clip.why

    assert why(10 ** ((SILENT_DBFS - 1) / 20)) == "silence"
    assert why(10 ** ((SILENT_DBFS + 1) / 20)) == ""

    def pause(below):
        samples = np.concatenate([tone(3.0, 0.5), tone(3.0, 0.5 * 10 ** (-below / 20)), tone(3.0, 0.5)])
        timeline = predict(saved_head(), heard(samples)).timeline
        return {said.why for said in timeline if said.start > 3.1 and said.stop < 5.9}

    assert pause(QUIETER_DB + 1) == {"silence"}
    assert pause(QUIETER_DB - 1) == {""}


def test_a_word_in_a_window_of_silence_is_judged():
    samples = np.concatenate([np.zeros(3_000), tone(0.3), np.zeros(3_000)])
    found = predict(saved_head(), heard(samples))
    said = {(said.start, said.stop): said.why for said in found.timeline}
    assert said[(2.0, 4.0)] == ""
    assert said[(0.5, 2.5)] == said[(4.0, 6.0)] == "silence"
    assert found.clip.why == ""


def test_what_is_too_short_is_not_judged():
    assert predict(saved_head(), heard(tone(LEAST_SECONDS - 0.01))).clip.why == "short"
    assert predict(saved_head(), heard(tone(LEAST_SECONDS))).clip.why == ""
    longer = saved_head(least_seconds=3.0)
    assert predict(longer, heard(tone(1.49))).clip.why == "short"
    assert predict(longer, heard(tone(1.5))).clip.why == ""
    found = predict(longer, heard(tone(5.0)))
    assert not any(said.why for said in found.timeline)
    assert any("shorter than any clip" in warning for warning in found.warnings)
    assert found.clip.label


def test_one_frame_is_enough_to_answer():
    found = predict(saved_head(), heard(tone(0.1)[:30]))
    assert found.clip.why == "short"
    assert np.isfinite(found.clip.probabilities).all()
    assert found.timeline == ()


def test_what_is_unlike_the_training_clips_is_not_judged():
    near = saved_head()
    states = made_states(CLOCK.n_frames(1_500))
    features = plainly_pooled(states)
    unit = float(distance(near.head, features)[0])

    def found(times):
        threshold = near.head.reference.threshold * unit * times
        head = replace(near.head, reference=replace(near.head.reference, threshold=threshold))
        return predict(replace(near, head=head), heard(tone(1.5), lambda _: states))

    assert found(1.01).clip.why == ""
    far = found(0.99)
    assert (far.clip.why, far.clip.label) == ("unlike", "")
    assert any("unlike what the head was trained on" in warning for warning in far.warnings)
    without = predict(replace(near, head=replace(near.head, reference=None)), heard(tone(1.5), lambda _: states))
    assert without.clip.why == ""
    assert any("cannot tell what is unlike" in warning for warning in without.warnings)


def test_below_the_threshold_it_is_unsure():
    saved = saved_head()
    most = predict(saved, heard(tone(1.0))).clip.probabilities.max()
    assert predict(saved, heard(tone(1.0)), PredictSettings(threshold=most + 1e-9)).clip.why == "unsure"
    at = predict(saved, heard(tone(1.0)), PredictSettings(threshold=most))
    assert (at.clip.why, at.threshold) == ("", most)
    own = replace(saved, head=replace(saved.head, threshold=0.99))
    assert predict(own, heard(tone(1.0))).clip.why == "unsure"
    assert predict(own, heard(tone(1.0)), PredictSettings(threshold=0.0)).clip.why == ""


def test_of_several_reasons_the_first_is_told():
    saved = saved_head(threshold=1.0)
    strange = replace(saved.head, reference=replace(saved.head.reference, threshold=1e-6))
    assert predict(saved, heard(tone(1.0))).clip.why == "unsure"
    assert predict(replace(saved, head=strange), heard(tone(1.0))).clip.why == "unlike"
    assert predict(replace(saved, head=strange), heard(tone(0.2))).clip.why == "short"
    assert predict(replace(saved, head=strange), heard(0 * tone(0.2))).clip.why == "silence"


def test_values_that_are_no_numbers_reach_only_their_own_windows():
    samples = tone(6.0)
    samples[5_000] = 0.9

    def broken_at_the_click(part):
        states = listen(part)
        peaks = np.flatnonzero(part.read(0, part.n_samples) > 0.8)
        states[1, peaks // 20 - 1, 2] = np.nan
        return states

    found = predict(saved_head(), heard(samples, broken_at_the_click))
    for said in (found.clip, *found.timeline):
        broken = said.start <= 5.0 < said.stop
        assert said.why == ("unlike" if broken else "")
        assert np.isfinite(said.probabilities).all()
        assert np.isinf(said.distance) == broken
    assert any("no finite numbers" in warning for warning in found.warnings)


# ------------------------------------------------------------------------------------------------------------ segments


def made_prediction(answers, hop=0.5, window=2.0):
    """Windows with these (label, why, confidence of the first class)."""
    timeline = tuple(
        Said(at * hop, at * hop + window, np.array([share, 1 - share]), label, why, 0.5 + at)
        for at, (label, why, share) in enumerate(answers)
    )
    clip = Said(0.0, timeline[-1].stop if timeline else 1.5, np.array([0.6, 0.4]), "anger")
    return Prediction(Path("clip.wav"), ("anger", "joy"), clip, timeline, 0.5, "mine", "tiny")


def test_neighbouring_windows_with_one_answer_are_one_segment():
    answers = [("anger", "", 0.9), ("anger", "", 0.7), ("", "unsure", 0.5), ("", "unlike", 0.9), ("anger", "", 0.6)]
    found = segments(made_prediction(answers))
    assert [(one.start, one.stop, one.label, one.why) for one in found] == [
        (0.0, 1.75, "anger", ""),
        (1.75, 2.25, "", "unsure"),
        (2.25, 2.75, "", "unlike"),
        (2.75, 4.0, "anger", ""),
    ]
    assert found[0].probabilities == pytest.approx([0.8, 0.2])
    assert found[0].distance == 1.0


def test_a_recording_without_a_timeline_is_one_segment():
    alone = made_prediction([])
    assert segments(alone) == (alone.clip,)


@settings(max_examples=30)
@given(answers=st.lists(st.sampled_from(["anger", "joy", ""]), min_size=1, max_size=30), hop=st.floats(0.05, 3))
def test_segments_cover_the_recording_without_gaps(answers, hop):
    one = made_prediction([(label, "" if label else "unsure", 0.7) for label in answers], hop)
    found = segments(one)
    assert (found[0].start, found[-1].stop) == (0.0, one.clip.stop)
    assert all(first.stop == second.start and first.start < first.stop for first, second in pairwise(found))
    assert all(first.label != second.label for first, second in pairwise(found))


# ------------------------------------------------------------------------------------------------------------- refusing


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window_seconds": 0.1}, r"window of 0\.1 s; expected a number of at least 0\.3 s"),
        ({"window_seconds": float("nan")}, "window of nan"),
        ({"hop_seconds": 0.0}, r"hop of 0 s; expected a number of at least 0\.01 s"),
        ({"hop_seconds": float("inf")}, "hop of inf"),
        ({"threshold": 1.2}, r"threshold of 1\.2; expected a confidence"),
        ({"threshold": float("nan")}, "threshold of nan"),
    ],
)
def test_settings_out_of_range_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        predict(saved_head(), heard(tone(1.0)), PredictSettings(**changes))


def test_states_of_another_encoder_are_refused():
    for shape in ((2, 48, DIM), (3, 48, DIM + 1), (3, 48, 2 * DIM)):
        one = heard(tone(1.0), lambda _, shape=shape: np.zeros(shape, dtype=np.float32))
        with pytest.raises(CheckpointError, match=r"takes 3 layers of 3 values a frame; got states of shape"):
            predict(saved_head(), one)


def test_a_head_that_needs_all_of_a_speakers_clips_is_refused():
    saved = saved_head(training={"settings": {"transductive": True}})
    with pytest.raises(CheckpointError, match="all clips of a speaker"):
        predict(saved, heard(tone(1.0)))


def test_every_prediction_says_what_it_is_not_for():
    assert predict(saved_head(), heard(tone(1.0))).warnings == (INTENDED_USE,)
