"""Recordings made for the tests, with the same libraries on every machine: no program has to be installed."""

import shutil
import struct
import subprocess

import av
import numpy as np
import pytest


def noise(n_samples, n_channels=1, seed=0):
    """Band-limited noise, (n_samples, n_channels) float32 in [-0.6, 0.6], with a spectrum that lossy codecs keep."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((n_samples + 15, n_channels))
    smooth = sum(white[start : start + n_samples] for start in range(16))
    return (0.6 * smooth / np.abs(smooth).max()).astype(np.float32)


def encode(path, samples, rate, codec, container=None, *, video_seconds=0.0, options=None, quality=None, gap=None):
    """Write (n, n_channels) samples with FFmpeg's encoders.

    ``video_seconds`` puts a small moving picture before the sound, ``quality`` asks for a variable bit rate, and
    ``gap`` (at, length) in seconds leaves a hole in the time stamps.
    """
    with av.open(str(path), "w", format=container, options=options or {}) as out:
        packets = _picture(out, video_seconds) if video_seconds else []
        if samples is not None:
            packets += _sound(out, samples, rate, codec, quality)
        for packet in packets:
            if gap and packet.pts * packet.time_base >= gap[0]:
                packet.pts = packet.dts = packet.pts + round(gap[1] / packet.time_base)
        out.start_encoding()
        out.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))


def _sound(out, samples, rate, codec, quality):
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    stream = out.add_stream(codec, rate=rate, layout=layout)
    if quality is not None:
        stream.codec_context.qscale = True
        stream.codec_context.global_quality = quality
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
    frame.sample_rate = rate
    frame.pts = 0
    return [*stream.encode(frame), *stream.encode(None)]


def _picture(out, seconds):
    stream = out.add_stream("mpeg4", rate=5, width=64, height=64, pix_fmt="yuv420p")
    shades = [np.full((64, 64, 3), index % 256, dtype=np.uint8) for index in range(round(5 * seconds))]
    frames = [av.VideoFrame.from_ndarray(shade, format="rgb24") for shade in shades]
    return [packet for frame in [*frames, None] for packet in stream.encode(frame)]


def wav_bytes(data, rate=8000, n_channels=1, bits=16, data_size=None, riff_size=None, tail=b""):
    """Put a wav together by hand, with any sizes in its header."""
    align = n_channels * bits // 8
    form = struct.pack("<HHIIHH", 1, n_channels, rate, rate * align, align, bits)
    data_size = len(data) if data_size is None else data_size
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", data_size) + data + tail
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def lag(got, truth):
    """Samples by which ``got`` comes later than ``truth``, from the peak of their cross-correlation."""
    n = len(got) + len(truth)
    cross = np.fft.irfft(np.fft.rfft(got, n) * np.conj(np.fft.rfft(truth, n)), n)
    peak = int(np.argmax(cross))
    return peak if peak < n // 2 else peak - n


def ffmpeg(*arguments):
    """Run the ffmpeg program and return its stdout; skip the test where it is not installed."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not installed; it is a second opinion only.")
    command = ["ffmpeg", "-v", "error", "-nostdin", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def decode_with_ffmpeg(path, n_channels):
    """What the ffmpeg program makes of a file: (n, n_channels) float32 at the file's own rate."""
    raw = ffmpeg("-i", path, "-map", "0:a:0", "-f", "f32le", "-c:a", "pcm_f32le", "-")
    return np.frombuffer(raw, dtype=np.float32).reshape(-1, n_channels)
