"""Features of clips: cut at the right samples, kept by content, computed once, and nobody's error hides."""

import json

import numpy as np
import pytest
import soundfile

from core.arrays import EmbedSettings, ignore_progress
from core.audio.signal import Signal
from core.checkpoints.find import find_model
from core.errors import DataError
from core.scoring import Clip, LabelledCorpus
from core.tasks.emotion.clips import EncoderExtractor, clip_features, cut, hash_clips
from core.tasks.encoders import Source
from tests.tiny_models import save_tiny

RATE = 8_000


class Ends:
    """An extractor whose result tells which samples it was given."""

    name, key, sampling_rate = "ends", "ends-1", RATE

    def __init__(self):
        self.asked = []

    def __call__(self, signal, what):
        self.asked.append(what)
        samples = signal.read(0, signal.n_samples)
        return {"pooled": np.array([[[samples[0], samples[-1], len(samples)]]]), "layers": np.zeros(1, np.int64)}


@pytest.fixture
def ramp(tmp_path):
    """A recording whose samples count up."""
    path = tmp_path / "ramp.wav"
    soundfile.write(path, (1 + np.arange(RATE)) / (2 * RATE), RATE, subtype="FLOAT")
    return path


def clip(path, name, start=None, stop=None, label="anger", speaker="a"):
    return Clip(path, name, speaker, label, label, start, stop)


def corpus(*clips):
    return LabelledCorpus("test", "list", clips, {})


def computed(clips, folder, extractor):
    hashed, _, failures = hash_clips(corpus(*clips))
    assert not failures
    return clip_features(hashed, extractor, folder, ignore_progress)


def test_a_clip_is_cut_at_its_own_samples(ramp, tmp_path):
    extractor = Ends()
    clips = [clip(ramp, "all"), clip(ramp, "part", 0.25, 0.5), clip(ramp, "rest", 0.75)]
    found = computed(clips, tmp_path / "kept", extractor)
    first, last, n = np.array([arrays["pooled"][0, 0] for arrays in found.arrays]).T
    np.testing.assert_array_equal(n, [RATE, RATE // 4, RATE // 4])
    np.testing.assert_allclose(first * 2 * RATE, [1, RATE // 4 + 1, 3 * RATE // 4 + 1], rtol=1e-5)
    np.testing.assert_allclose(last * 2 * RATE, [RATE, RATE // 2, RATE], rtol=1e-5)
    np.testing.assert_allclose([arrays["facts"][0] for arrays in found.arrays], [1, 0.25, 0.25])


def test_what_is_kept_is_not_computed_again_under_any_name(ramp, tmp_path):
    extractor = Ends()
    first = computed([clip(ramp, "one")], tmp_path / "kept", extractor)
    moved = ramp.rename(tmp_path / "other name.wav")
    again = computed([clip(moved, "two")], tmp_path / "kept", extractor)
    assert (first.n_computed, again.n_computed, extractor.asked) == (1, 0, ["one"])
    np.testing.assert_array_equal(first.arrays[0]["pooled"], again.arrays[0]["pooled"])


def test_a_damaged_file_is_computed_again(ramp, tmp_path):
    extractor = Ends()
    computed([clip(ramp, "one")], tmp_path / "kept", extractor)
    kept = next((tmp_path / "kept").rglob("*.npz"))
    kept.write_bytes(kept.read_bytes()[:60])
    assert computed([clip(ramp, "one")], tmp_path / "kept", extractor).n_computed == 1


def test_silence_and_a_stretch_beyond_the_end_are_named_and_the_others_go_on(ramp, tmp_path):
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(RATE), RATE)
    clips = [clip(silent, "silent"), clip(ramp, "late", 2.0, 3.0), clip(ramp, "good")]
    found = computed(clips, tmp_path / "kept", Ends())
    assert [hashed.clip.name for hashed in found.clips] == ["good"]
    assert "silence" in found.failures[0]["error"]
    assert "outside of the recording" in found.failures[1]["error"]


def test_the_same_sound_counts_once(ramp, tmp_path):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(ramp.read_bytes())
    kept, notes, _ = hash_clips(corpus(clip(ramp, "one"), clip(copy, "two"), clip(copy, "part", 0.0, 0.5)))
    assert [hashed.clip.name for hashed in kept] == ["one", "part"]
    assert "two holds the same sound as one" in notes[0]


@pytest.mark.parametrize("change", [{"label": "joy"}, {"speaker": "b"}])
def test_one_sound_with_two_labels_or_speakers_is_refused(ramp, tmp_path, change):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(ramp.read_bytes())
    with pytest.raises(DataError, match="hold the same sound"):
        hash_clips(corpus(clip(ramp, "one"), clip(copy, "two", **change)))


def test_a_recording_that_is_gone_is_named(tmp_path):
    kept, _, failures = hash_clips(corpus(clip(tmp_path / "gone.wav", "gone")))
    assert not kept
    assert failures[0]["file"].endswith("gone.wav")


def test_a_cut_signal_is_on_its_own(ramp):
    with Signal.from_array(np.arange(1, 101, dtype=np.float32), 10) as signal:
        part = cut(signal, clip(ramp, "part", 2.0, 4.0))
        np.testing.assert_array_equal(part.read(0, part.n_samples), np.arange(21, 41))
        part.close()
        assert signal.read(0, 1)[0] == 1


def test_a_quieter_recording_has_the_same_features_where_loudness_is_normalised(tmp_path):
    save_tiny(tmp_path, "wav2vec2-stable")
    preparation = tmp_path / "preprocessor_config.json"
    preparation.write_text(json.dumps(json.loads(preparation.read_text()) | {"do_normalize": False}))
    source = Source(find_model(str(tmp_path)))
    loud = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    apart = {}
    for loudness in ("keep", "normalise"):
        settings = EmbedSettings(engine="torch", precision="fp32", loudness=loudness)
        extractor = EncoderExtractor(source, settings)
        with Signal.from_array(loud, 16_000) as first, Signal.from_array(loud / 4, 16_000) as second:
            apart[loudness] = np.abs(extractor(first, "loud")["pooled"] - extractor(second, "quiet")["pooled"]).max()
    assert apart["normalise"] < 1e-5 < 1e-3 < apart["keep"]
