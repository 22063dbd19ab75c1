"""Distillation: alignment, targets, crops and the loss, each against something independent."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from core.clock import FrameClock
from core.embed.encoders import build_encoder
from core.errors import InputError
from core.models.loaded import LoadedModel
from core.training import corpus as corpora
from core.training import distill
from core.training.loop import LoopSettings, train
from core.training.teachers import EncoderTeacher

HOP = 320


class EnergyTeacher:
    """Two layers of three features: energy around each frame's centre, the position in the window, and a constant."""

    clock = FrameClock(hop=HOP, field=HOP, sampling_rate=16_000, start=-HOP // 2, need=1)
    window = 100 * HOP

    def states(self, samples):
        n = -(-len(samples) // HOP)
        padded = torch.nn.functional.pad(samples, (HOP // 2, HOP))
        energy = torch.stack([padded[i * HOP : (i + 1) * HOP].square().mean() for i in range(n)])
        position = torch.arange(n) / 100
        layer = torch.stack([energy, energy + position, torch.sin(torch.arange(n) * 1.0)], dim=1)
        return torch.stack([layer, 2 * layer])


def tiny_config():
    return Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, layerdrop=0.0, hidden_dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, mask_time_prob=0.0,
        apply_spec_augment=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    sources = []
    for k, seconds in enumerate([1.0, 5.3, 9.7, 2.0]):
        audio = 0.1 * rng.standard_normal(round(seconds * 16000)) * np.sin(np.arange(round(seconds * 16000)) / 4000)
        soundfile.write(folder / f"clip{k}.flac", audio, 16000)
        sources.append(corpora.Source(folder / f"clip{k}.flac", "made", f"speaker{k % 2}"))
    return corpora.build_corpus(sources, folder / "corpus")


@pytest.fixture(scope="module")
def targets(corpus, tmp_path_factory):
    return distill.build_targets(corpus, EnergyTeacher(), tmp_path_factory.mktemp("targets"))


def random_whisper_teacher():
    torch.manual_seed(0)
    config = WhisperConfig(d_model=64, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=64)
    encoder = WhisperEncoder(config)
    encoder.embed_positions.weight.data.zero_()
    loaded = LoadedModel("random", Path(), encoder.eval(), {}, "", "WhisperEncoder", False)
    return EncoderTeacher(build_encoder(loaded), (0, 1))


@pytest.mark.parametrize("frame", [40, 41, 97])
def test_an_impulse_at_a_students_centre_is_at_the_same_frame_of_the_teacher(frame):
    """Zero padding inside the extractor and both strides of the real architecture take part."""
    samples = np.random.default_rng(0).standard_normal(16000 * 3).astype(np.float32) * 1e-4
    centre = HOP * frame + 200  # of a wav2vec 2.0 frame: half of its 400 samples after its onset
    quiet, _ = distill.teacher_states(random_whisper_teacher(), samples)
    samples[centre] += 0.05  # leaves the level, and so the scale, almost as it was
    loud, _ = distill.teacher_states(random_whisper_teacher(), samples)
    change = np.abs(loud.astype(np.float32) - quiet.astype(np.float32)).mean(axis=(1, 2))
    around = np.arange(frame - 4, frame + 5)
    assert change.argmax() == frame
    assert np.average(around, weights=change[around]) == pytest.approx(frame, abs=0.1)


def test_the_shift_is_half_the_field_and_other_hops_are_refused():
    assert distill.alignment_shift(random_whisper_teacher().clock) == 200
    assert distill.alignment_shift(distill.STUDENT_CLOCK) == 0
    with pytest.raises(InputError, match="every 160 samples"):
        distill.alignment_shift(FrameClock(160, 400, 16_000))
    with pytest.raises(InputError, match="lies 200 samples after"):
        distill.alignment_shift(FrameClock(320, 800, 16_000))


@pytest.mark.parametrize("n", [400, 719, 720, 721, 16000, 15999, 32000 - 17])
def test_frame_counts_are_those_of_the_model(n):
    model = Wav2Vec2Model(tiny_config()).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, n)).last_hidden_state.shape[1] == distill.STUDENT_CLOCK.n_frames(n)
    frames = distill.STUDENT_CLOCK.n_frames(n)
    assert distill.STUDENT_CLOCK.n_frames(distill.n_student_samples(frames)) == frames
    assert distill.STUDENT_CLOCK.n_frames(distill.n_student_samples(frames) - 1) == frames - 1


def test_windows_of_the_teacher_join_without_a_seam(corpus):
    clip = corpus.clips[2]
    samples = corpus.samples(clip)
    states, positions = distill.teacher_states(EnergyTeacher(), samples)
    whole = EnergyTeacher()
    whole.window = 10**9
    once, _ = distill.teacher_states(whole, samples)
    assert len(states) == distill.STUDENT_CLOCK.n_frames(clip.n_samples) == len(positions)
    inner = slice(1, -1)  # a window's last frame has no audio after it
    assert np.allclose(states[inner, :, 0], once[inner, :, 0], rtol=2e-3)
    cuts = np.flatnonzero(np.diff(positions) != 1)
    assert len(cuts) > 3 and positions.max() < 100
    assert (positions[cuts + 1] == 25).all()  # a quarter of the window of 100


def test_targets_are_standardised_without_the_position_in_the_window(targets):
    values = targets.states.astype(np.float32)
    assert values.shape[1:] == (2, 3)
    assert np.abs(values[..., 1].mean()) < 0.5
    assert np.allclose(values.std(axis=0)[:, 0], 1, atol=0.3)
    # energy and energy + position differ by the position only, which is a ramp of 0..1 against energies near 0.005
    correlation = np.corrcoef(values[:, 0, 0], values[:, 0, 1])[0, 1]
    assert abs(np.corrcoef(EnergyTeacher().states(torch.zeros(100 * HOP))[0, :, 1], np.arange(100))[0, 1]) > 0.999
    assert correlation > 0.05


def test_targets_are_opened_not_computed_again(corpus, targets, tmp_path):
    class Counting(EnergyTeacher):
        calls = 0

        def states(self, samples):
            Counting.calls += 1
            return super().states(samples)

    first = distill.build_targets(corpus, Counting(), tmp_path)
    calls = Counting.calls
    second = distill.build_targets(corpus, Counting(), tmp_path)
    assert calls > 0 and Counting.calls == calls
    assert np.array_equal(first.states, second.states) and first.starts == second.starts


def test_a_crop_brings_the_targets_of_its_own_frames(corpus, targets):
    """The energy of the crop's frames, computed here from its audio, follows the targets that came with it."""
    settings = distill.CropSettings(
        crop_seconds=(1.5,), length_weights=(1.0,), seconds_per_batch=6, noise_probability=0.0,
        babble_probability=0.0, tilt_probability=0.0,
    )  # fmt: skip
    sampler = distill.CropSampler(corpus, corpus.clips, targets, settings)
    for update in range(5):
        batch = sampler.batch(update)
        frames = batch.targets.shape[1]
        assert batch.audio.shape == (4, distill.n_student_samples(frames))
        for audio, states in zip(batch.audio.numpy(), batch.targets.numpy(), strict=True):
            energy = [np.mean(audio[i * HOP + 40 : i * HOP + 360] ** 2) for i in range(frames)]
            assert np.corrcoef(energy, states[:, 0, 0].astype(np.float32))[0, 1] > 0.95


def test_batches_depend_on_seed_and_number_only(corpus, targets):
    def batch(seed, update):
        sampler = distill.CropSampler(corpus, corpus.clips, targets, distill.CropSettings(seed=seed))
        return sampler.batch(update)

    assert torch.equal(batch(1, 3).audio, batch(1, 3).audio)
    assert torch.equal(batch(1, 3).targets, batch(1, 3).targets)
    assert not torch.equal(batch(1, 3).audio[:1, :100], batch(1, 4).audio[:1, :100])
    assert not torch.equal(batch(1, 3).audio[:1, :100], batch(2, 3).audio[:1, :100])


def test_noise_is_added_to_the_audio_and_never_to_the_targets(corpus, targets):
    clean = distill.CropSettings(noise_probability=0.0, babble_probability=0.0, tilt_probability=0.0)
    noisy = distill.CropSettings(noise_probability=1.0, babble_probability=0.0, tilt_probability=0.0)
    a = distill.CropSampler(corpus, corpus.clips[:1], targets, clean).batch(0)
    b = distill.CropSampler(corpus, corpus.clips[:1], targets, noisy).batch(0)
    assert torch.equal(a.targets[0], b.targets[0])  # one clip of one second: the crop is the same
    assert not torch.allclose(a.audio[0].abs(), b.audio[0].abs(), atol=1e-3)


@pytest.mark.parametrize("snr_db", [-3.0, 10.0])
def test_the_mix_has_the_ratio_it_says(snr_db):
    rng = np.random.default_rng(0)
    audio, noise = rng.standard_normal(50_000), 7 * rng.standard_normal(50_000)
    added = distill.mix(audio, noise, snr_db) - audio
    assert 10 * np.log10(np.mean(audio**2) / np.mean(added**2)) == pytest.approx(snr_db, abs=1e-6)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_falls_as_it_says(exponent):
    from scipy.signal import welch

    noise = distill.coloured_noise(np.random.default_rng(0), 160_000, exponent)
    frequency, power = welch(noise, 16_000, nperseg=1024)
    band = (frequency > 200) & (frequency < 6000)
    slope = np.polyfit(np.log10(frequency[band]), np.log10(power[band]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)


def test_normalising_equals_the_feature_extractor():
    audio = np.random.default_rng(0).standard_normal((1, 5000)).astype(np.float32) * 0.03 + 0.2
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    wanted = extractor(audio[0], sampling_rate=16_000, return_tensors="np").input_values
    assert np.allclose(distill.normalise(audio), wanted, atol=1e-5)


def test_the_loss_is_zero_for_equal_and_three_for_opposite_units():
    targets = torch.nn.functional.normalize(torch.randn(2, 5, 3, 8), dim=-1)
    assert float(distill.distillation_loss(targets, targets)["loss"]) == pytest.approx(0, abs=1e-5)
    scores = distill.distillation_loss(-targets, targets)
    assert float(scores["cosine"]) == pytest.approx(-1)
    assert float(scores["loss"]) == pytest.approx(2 + 2 * float(targets.abs().mean()), rel=1e-5)


def test_one_batch_can_be_learnt_by_heart(corpus, targets, tmp_path):
    torch.manual_seed(0)
    student = distill.Student(Wav2Vec2Model(tiny_config()), (1, 2), 3)
    settings = distill.CropSettings(crop_seconds=(1.0,), length_weights=(1.0,), seconds_per_batch=2)
    sampler = distill.CropSampler(corpus, corpus.clips, targets, settings)
    fixed = sampler.batch(0)
    before = distill.validation_scores(student.eval(), [fixed])

    class Same:
        def batch(self, update):
            return fixed

    loop = LoopSettings(updates=80, learning_rate=3e-3, warmup=5, checkpoint_every=80)
    train(student, distill.distillation_step(Same()), loop, tmp_path)
    after = distill.validation_scores(student.eval(), [fixed])
    assert after["loss"] < 0.6 * before["loss"]
    assert set(after) == {"loss", "l1", "cosine", "cosine_target_0", "cosine_target_1"}


def test_groups_are_never_split(corpus):
    train_clips, held = corpora.split_groups(corpus, frozenset({("made", "speaker1")}))
    assert {clip.group for clip in train_clips} == {"speaker0"}
    assert {clip.group for clip in held} == {"speaker1"}
    assert len(train_clips) + len(held) == len(corpus.clips)


def test_the_fingerprint_ignores_order_and_sees_content(corpus):
    turned = corpora.Corpus(corpus.clips[::-1], corpus.audio)
    assert turned.fingerprint == corpus.fingerprint
    assert corpora.Corpus(corpus.clips[1:], corpus.audio).fingerprint != corpus.fingerprint


def test_a_recording_played_faster_is_higher_shorter_and_counted_once(tmp_path):
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    soundfile.write(tmp_path / "tone.flac", tone, 16_000)
    sources = [corpora.Source(tmp_path / "tone.flac", "made", "speaker", speed) for speed in (1.0, 1.25)]
    made = corpora.build_corpus(sources, tmp_path / "corpus")
    faster = made.samples(made.clips[1])
    peak = np.argmax(np.abs(np.fft.rfft(faster))) * 16_000 / len(faster)
    assert (made.clips[1].name, len(faster), peak) == ("tone@1.25", 12_800, 1250)
    assert made.recordings == [made.clips[0]] and made.hours() == pytest.approx(1 / 3600)
    assert made.fingerprint == corpora.build_corpus(sources[:1], tmp_path / "one").fingerprint
    with pytest.raises(InputError, match="2 clips that are not the 1 of this recipe"):
        corpora.build_corpus(sources[:1], tmp_path / "corpus")
