"""A signal reads back what was decoded, knows its statistics, keeps to its caps, and needs constant memory."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audio.signal import Moments, Signal, open_signal
from core.errors import DataError, InputError, OutputError
from tests.audio.making import encode, noise, wav_bytes


@pytest.fixture
def recording(tmp_path):
    """Three seconds of stereo at 22,050 Hz."""
    path = tmp_path / "recording.wav"
    soundfile.write(path, noise(66150, 2), 22050, subtype="FLOAT")
    return path


def test_a_recording_arrives_mono_at_the_rate_asked_for(recording):
    with open_signal(recording, 16000) as signal:
        assert (signal.n_samples, signal.sampling_rate, signal.duration_seconds) == (48000, 16000, 3.0)
        assert (signal.info.sampling_rate, signal.info.n_channels) == (22050, 2)
        assert signal.sha256 == hashlib.sha256(recording.read_bytes()).hexdigest()


def test_one_channel_untouched_at_its_own_rate(recording):
    with open_signal(recording, 22050, channel=2) as signal:
        assert np.array_equal(signal.read(0, 66150), noise(66150, 2)[:, 1])


def test_a_planted_tone_is_found_at_its_time(tmp_path):
    """2.5 s of silence, then 0.5 s of tone, in AAC at 44.1 kHz: codec, edit list and resampler all keep the moment."""
    samples = np.zeros((4 * 44100, 1), np.float32)
    begin, end = int(2.5 * 44100), int(3.0 * 44100)
    samples[begin:end, 0] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(end - begin) / 44100)
    encode(tmp_path / "tone.m4a", samples, 44100, "aac", "ipod")
    with open_signal(tmp_path / "tone.m4a", 16000) as signal:
        loud = np.flatnonzero(np.abs(signal.read(0, signal.n_samples)) > 0.25)
    assert loud[0] / 16000 == pytest.approx(2.5, abs=1e-3)
    assert loud[-1] / 16000 == pytest.approx(3.0, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=8),
    offset=st.sampled_from([0.0, 1.0, -1e3, 1e4]),
    scale=st.sampled_from([1.0, 1e-3, 1e2]),
)
def test_statistics_equal_those_of_the_whole(sizes, offset, scale):
    rng = np.random.default_rng(sum(sizes))
    blocks = [(offset + scale * rng.standard_normal(size)).astype(np.float32) for size in sizes]
    moments = Moments()
    for block in blocks:
        moments.add(block)
    samples = np.concatenate(blocks).astype(np.float64)
    assert moments.count == len(samples)
    if len(samples):
        assert moments.mean == pytest.approx(samples.mean(), rel=1e-12, abs=1e-12 * scale)
        assert moments.std == pytest.approx(samples.std(), rel=1e-9, abs=1e-12)
        assert moments.peak == np.abs(samples).max()


def test_statistics_of_a_recording_are_those_of_its_samples(recording):
    with open_signal(recording, 16000) as signal:
        samples = signal.read(0, signal.n_samples).astype(np.float64)
        assert signal.mean == pytest.approx(samples.mean(), abs=1e-12)
        assert signal.std == pytest.approx(samples.std(), rel=1e-12)
        assert signal.peak == np.abs(samples).max()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.data())
def test_any_range_reads_back(n_samples, data):
    samples = noise(n_samples)[:, 0]
    start = data.draw(st.integers(0, n_samples))
    stop = data.draw(st.integers(start, n_samples))
    with Signal.from_array(samples, 16000) as signal:
        assert np.array_equal(signal.read(start, stop), samples[start:stop])
        assert np.array_equal(np.concatenate(list(signal.blocks(777))), samples)


@pytest.mark.parametrize(("start", "stop"), [(-1, 10), (0, 101), (20, 10), (101, 101)])
def test_ranges_beyond_the_recording_are_refused(start, stop):
    with Signal.from_array(np.zeros(100), 16000) as signal, pytest.raises(InputError, match="within 0 to 100"):
        signal.read(start, stop)


def test_threads_read_at_once():
    samples = noise(400000)[:, 0]
    starts = np.random.default_rng(0).integers(0, 390000, 300)
    with Signal.from_array(samples, 16000) as signal, ThreadPoolExecutor(8) as threads:
        for start, got in zip(starts, threads.map(lambda at: signal.read(at, at + 10000), starts), strict=True):
            assert np.array_equal(got, samples[start : start + 10000])


@pytest.mark.parametrize("n_samples", [1, 10, 1000, (1 << 20) + 5, 3 * (1 << 20)])
@pytest.mark.parametrize("n_bins", [1, 7, 1000, 1200])
def test_envelope_is_the_range_of_each_part(n_samples, n_bins):
    samples = noise(n_samples, seed=n_bins)[:, 0]
    edges = [index * n_samples // n_bins for index in range(n_bins + 1)]
    parts = [samples[a : max(b, a + 1)] for a, b in pairwise(edges)]
    with Signal.from_array(samples, 16000) as signal:
        envelope = signal.envelope(n_bins)
    assert envelope.shape == (n_bins, 2)
    assert envelope.dtype == np.float32
    assert np.array_equal(envelope, [(part.min(), part.max()) for part in parts])


def test_digital_silence(tmp_path):
    (tmp_path / "silence.wav").write_bytes(wav_bytes(bytes(2 * 8000)))
    with open_signal(tmp_path / "silence.wav", 16000) as signal:
        assert (signal.n_samples, signal.mean, signal.std, signal.peak) == (16000, 0.0, 0.0, 0.0)
        assert not signal.envelope(10).any()


@pytest.mark.parametrize(
    ("samples", "rate", "kind"),
    [
        (np.zeros((10, 2)), 16000, InputError),
        (np.zeros(10), 0, InputError),
        (np.zeros(10, np.int16), 16000, InputError),
        (np.zeros(0), 16000, DataError),
        (np.array([0.0, np.nan]), 16000, DataError),
    ],
)
def test_arrays_that_are_no_recording_are_refused(samples, rate, kind):
    with pytest.raises(kind):
        Signal.from_array(samples, rate)


def test_a_recording_without_samples_is_refused(tmp_path):
    (tmp_path / "none.wav").write_bytes(wav_bytes(b""))
    with pytest.raises(DataError, match="holds no samples"):
        open_signal(tmp_path / "none.wav", 16000)


def test_a_cap_is_held_before_decoding_where_the_length_is_stated(recording):
    told = []
    with pytest.raises(InputError, match=r"3\.0 s long.*2\.9 s.*raise the limit"):
        open_signal(recording, 16000, max_seconds=2.9, on_progress=told.append)
    assert told == []
    open_signal(recording, 16000, max_seconds=3.0).close()


def test_a_cap_is_held_while_decoding_where_it_is_not(tmp_path):
    encode(tmp_path / "a.aac", noise(48000 * 30), 48000, "aac", "adts")
    told = []
    with pytest.raises(InputError, match=r"longer than 10 s.*raise the limit"):
        open_signal(tmp_path / "a.aac", 16000, max_seconds=10, on_progress=told.append)
    assert max(progress.done for progress in told) <= 10


def test_progress_reaches_its_end(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(35 * 8000), 8000)
    told = []
    open_signal(tmp_path / "a.wav", 16000, on_progress=told.append).close()
    assert {(progress.stage, progress.unit, progress.total) for progress in told} == {("read", "s", 35.0)}
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert done[0] > 0
    assert done[-1] == 35.0


def test_closing_twice_and_leaving_nothing(recording, tmp_path, monkeypatch):
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    signal = open_signal(recording, 16000)
    assert list(spool.iterdir()) == []
    signal.close()
    signal.close()


SMALL_DISK = """
import resource, sys
import core
from core.audio.signal import open_signal
from core.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    open_signal(sys.argv[1], 16000)
except OutputError as error:
    print(error)
"""


def run_python(code, *arguments, cwd, **environment):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_disk_that_fills_up_leaves_nothing(recording, tmp_path, request):
    """A limit on the size of files stands in for a full disk: the write fails in the same place."""
    spool = tmp_path / "spool"
    spool.mkdir()
    said = run_python(SMALL_DISK, recording, cwd=request.config.rootpath, TMPDIR=str(spool))
    assert "temporary file" in said
    assert "TMPDIR" in said
    assert list(spool.iterdir()) == []


def test_no_place_for_a_temporary_file(recording, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    with pytest.raises(OutputError, match="TMPDIR"):
        open_signal(recording, 16000)


PEAK = """
import sys
from pathlib import Path
import core
from core.audio.signal import open_signal
with open_signal(sys.argv[1], 16000) as signal:
    for block in signal.blocks(320_000):
        block.sum()
    signal.envelope(2000)
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def test_memory_does_not_grow_with_the_length(tmp_path, request):
    """Half an hour is 115 MB as float32 at 16 kHz. (getrusage would count the memory of pytest itself, before exec.)"""
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux states a process's own peak.")
    second = (noise(11025 * 2)[:, 0] * 2**15).astype("<i2").tobytes()
    peaks = []
    for seconds in (60, 1800):
        (tmp_path / "long.wav").write_bytes(wav_bytes(second * (seconds // 2), rate=11025))
        peaks.append(int(run_python(PEAK, tmp_path / "long.wav", cwd=request.config.rootpath)) / 1024)
    assert peaks[1] - peaks[0] < 8, f"peaks of {peaks} MB"


def test_a_scaled_signal_reads_the_same_samples_times_the_factor():
    samples = np.random.default_rng(0).standard_normal(5_000).astype(np.float32) + 0.5
    with Signal.from_array(samples, 16_000) as signal:
        twin = signal.scaled(-0.5).scaled(4.0)
        np.testing.assert_array_equal(twin.read(7, 4_000), samples[7:4_000] * np.float32(-2))
        np.testing.assert_array_equal(signal.read(0, 5_000), samples)
        assert (twin.mean, twin.std, twin.peak) == pytest.approx((-2 * signal.mean, 2 * signal.std, 2 * signal.peak))
