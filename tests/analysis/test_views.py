"""The views put sound and frames on one time axis."""

import numpy as np
import pytest
import soundfile

from core.analysis.views import MOST_BINS, view_image, view_path, view_signal
from core.audio.signal import Signal
from core.clock import FrameClock

CLOCK = FrameClock(hop=320, field=400, sampling_rate=16_000)


def click_at(sample, n=48_000):
    samples = np.zeros(n, dtype=np.float32)
    samples[sample] = 0.9
    return samples


@pytest.mark.parametrize("sample", [0, 12_345, 24_000, 47_999])
def test_a_single_click_survives_and_stands_at_its_time(sample):
    with Signal.from_array(click_at(sample), 16_000) as signal:
        view = view_signal(signal)
    found = view.times[view.envelope[:, 1].argmax()]
    assert view.envelope[:, 1].max() == np.float32(0.9)
    assert abs(found - sample / 16_000) <= view.samples_a_bin / 16_000
    assert len(view.times) == MOST_BINS


def test_a_frame_and_the_sound_it_sees_stand_at_the_same_place():
    # Frames 70 to 79 alone see a burst; in the image, the waveform and the spectrogram it must lie at the same seconds.
    samples = np.zeros(48_000, dtype=np.float32)
    begin, end = 70 * 320, 79 * 320 + 400
    samples[begin:end] = np.random.default_rng(0).uniform(-0.5, 0.5, end - begin)
    n_frames = CLOCK.n_frames(len(samples))
    values = np.zeros((n_frames, 4), dtype=np.float32)
    values[70:80] = 1.0
    with Signal.from_array(samples, 16_000) as signal:
        sound = view_signal(signal)
    image = view_image(values, CLOCK, 0)
    columns = image.image.values[0] > 0
    # Column borders lie half a stride around the centres: 12.5 ms + 1,400 ms - 10 ms.
    assert image.edges[:-1][columns][0] == pytest.approx(70 * 0.02 + 0.0125 - 0.01)
    assert image.edges[1:][columns][-1] == pytest.approx(79 * 0.02 + 0.0125 + 0.01)
    loud = sound.times[sound.envelope[:, 1] > 0]
    assert (loud[0], loud[-1]) == (pytest.approx(begin / 16_000, abs=2e-3), pytest.approx(end / 16_000, abs=2e-3))
    bright = sound.spectrogram.times[sound.spectrogram.decibels.max(axis=0) > -40]
    assert (bright[0], bright[-1]) == (pytest.approx(loud[0], abs=0.0126), pytest.approx(loud[-1], abs=0.0126))


def test_the_path_names_the_centre_of_each_frame():
    view = view_path(np.random.default_rng(1).normal(size=(9_000, 5)), CLOCK, 3)
    np.testing.assert_allclose(view.centres, (view.path.frames * 320 + 200) / 16_000)
    assert view.layer == 3


def test_the_player_gets_the_samples_that_the_model_hears(tmp_path):
    samples = np.random.default_rng(2).uniform(-0.8, 0.8, 20_011).astype(np.float32)
    reports = []
    with Signal.from_array(samples, 16_000) as signal:
        view_signal(signal, tmp_path / "listen.wav", reports.append)
    heard, rate = soundfile.read(tmp_path / "listen.wav")
    assert rate == 16_000
    np.testing.assert_allclose(heard, samples, atol=1 / 32_768)
    assert reports[-1].done == reports[-1].total == pytest.approx(20_011 / 16_000)
