"""The document's functions on both codecs, in both implementations of the codec."""

import encodec
import numpy as np
import pytest
import soxr
import torch

from core import emotion
from core.arrays import EmbedSettings, ignore_progress
from core.audio.signal import Signal
from core.checkpoints.load import load_model
from core.embed.encoders import build_encoder
from core.embed.engines import torch_runners
from core.embed.pipeline import plan, stream_states
from core.emotion.encodec import at_rate, decode_codes
from core.emotion.model import EmotionDetectionModel
from core.errors import InputError
from core.models.encodec import codec_of
from tests.tiny_models import save_tiny, tiny_model

CHANNELS = {"encodec": 1, "encodec-48khz": 2, "package-24khz": 1, "package-48khz": 2}
TRANSFORMERS = ("encodec", "encodec-48khz")


def packaged(which):
    """A small network of Meta's package: its own classes, with fewer channels."""
    high = which == "package-48khz"
    kind = {"norm": "time_group_norm", "causal": False} if high else {"norm": "weight_norm", "causal": True}
    size = {"channels": CHANNELS[which], "dimension": 16, "n_filters": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = encodec.EncodecModel(
            encodec.modules.SEANetEncoder(**size, **kind),
            encodec.modules.SEANetDecoder(**size, **kind),
            encodec.quantization.ResidualVectorQuantizer(dimension=16, n_q=40 if high else 80, bins=16),
            [3.0, 6.0, 12.0, 24.0] if high else [1.5, 3.0, 6.0, 12.0, 24.0],
            sample_rate=48_000 if high else 24_000,
            channels=CHANNELS[which],
            normalize=high,
            segment=1.0 if high else None,
        )
        for key, weight in model.state_dict().items():
            weight.mul_(2 if key.endswith("weight_g") else 1)  # or the biases drown the sound
        for layer in model.quantizer.vq.layers:
            layer._codebook.embed.normal_(std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def models():
    return {name: tiny_model(name) if name in TRANSFORMERS else packaged(name) for name in CHANNELS}


def sound(name, n_samples, batch=2):
    generator = torch.Generator().manual_seed(n_samples)
    return 0.1 * torch.randn(batch, CHANNELS[name], n_samples, generator=generator)


@torch.no_grad()
def by_the_document(model, audio):
    """Its get_encoder_embeddings, word for word but for where the normalisation is asked for."""
    if model.normalize if hasattr(model, "normalize") else model.config.normalize:
        mono = audio.mean(dim=1, keepdim=True)
        volume = mono.pow(2).mean(dim=2, keepdim=True).sqrt()
        scale = 1e-8 + volume
        audio = audio / scale
    return model.encoder(audio)


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("n_samples", [1, 320, 12_345, 24_000])
def test_encoder_embeddings_are_the_documents_up_to_a_segment(name, n_samples, models):
    audio = sound(name, n_samples)
    got = emotion.get_encoder_embeddings(models[name], audio)
    assert got.shape == (2, 16, -(-n_samples // 320)) and not got.requires_grad
    assert torch.equal(got, by_the_document(models[name], audio))


@pytest.mark.parametrize("name", CHANNELS)
def test_quantised_embeddings_are_those_of_the_models_own_codes_at_every_bandwidth(name, models):
    model, audio = models[name], sound(name, 20_000)
    codec, bandwidth_before = codec_of(models[name]), getattr(models[name], "bandwidth", None)
    for kbps, count in zip(codec.bandwidths, codec.codebooks, strict=True):
        got = emotion.get_quantized_embeddings(model, audio, kbps)
        assert getattr(model, "bandwidth", None) == bandwidth_before
        if name in TRANSFORMERS:
            with torch.no_grad():
                codes = model.encode(audio, bandwidth=kbps).audio_codes[0]
        else:
            model.set_target_bandwidth(kbps)
            with torch.no_grad():
                ((codes, _),) = model.encode(audio)
            model.bandwidth = None
        assert codes.shape == (2, count, 63)
        assert torch.equal(got, model.quantizer.decode(codes.transpose(0, 1)))
        assert torch.equal(got, decode_codes(model, codes, "BKT"))
        assert torch.equal(got, decode_codes(model, codes.transpose(0, 1), "KBT"))
        with pytest.raises(InputError, match="order of the axes"):
            decode_codes(model, codes, "KBT")  # without the guard: garbage of another shape


@pytest.mark.parametrize("name", ["encodec-48khz", "package-48khz"])
def test_ten_seconds_at_48_khz_have_1500_frames_quantised_or_not(name, models):
    audio = sound(name, 480_000, batch=1)
    whole = emotion.get_encoder_embeddings(models[name], audio)
    assert whole.shape == emotion.get_quantized_embeddings(models[name], audio, 6.0).shape == (1, 16, 1500)
    start = whole[..., :145]
    assert torch.allclose(start, by_the_document(models[name], audio[..., :48_000])[..., :145], atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_files_and_tensors_have_the_same_embeddings(name, models, tmp_path):
    save_tiny(tmp_path, name)
    encoder = build_encoder(load_model(tmp_path, "mine", from_user=True))
    mono = sound("encodec", 130_000, batch=1)
    runners = torch_runners(encoder.networks((0, 2)), "cpu", "fp32")
    with Signal.from_array(mono[0, 0].numpy(), encoder.spec.clock.sampling_rate) as signal:
        windows = plan(encoder.spec, signal.n_samples, EmbedSettings(), "noise")
        states = np.concatenate(list(stream_states(encoder, runners, signal, windows, ignore_progress)), axis=1)
    audio = mono.expand(1, CHANNELS[name], -1)
    got = emotion.get_encoder_embeddings(models[name], audio)[0].T.numpy()
    assert np.abs(got - states[0]).max() < 1e-5
    got = emotion.get_quantized_embeddings(models[name], audio, codec_of(models[name]).bandwidths[1])[0].T.numpy()
    assert (np.abs(got - states[1]).max(axis=1) < 1e-5).mean() > 0.99


def test_another_rate_is_resampled_and_not_taken_for_the_codecs(models):
    audio = sound("encodec", 16_000)
    got = emotion.get_encoder_embeddings(models["encodec"], audio, sampling_rate=16_000)
    assert got.shape[-1] == 75  # a second; 50 frames without resampling
    rows = np.stack([soxr.resample(row, 16_000, 24_000, "HQ") for row in audio[:, 0].numpy()])
    assert torch.allclose(got, emotion.get_encoder_embeddings(models["encodec"], torch.from_numpy(rows)[:, None]))
    same = emotion.get_multi_scale_embeddings(models["encodec"], audio, 24_000)
    assert torch.equal(same, emotion.get_multi_scale_embeddings(models["encodec"], audio))
    with pytest.raises(InputError, match="sampling rates 0"):
        emotion.get_quantized_embeddings(models["encodec"], audio, 6.0, 0)


@pytest.mark.parametrize("name", CHANNELS)
def test_what_the_codec_cannot_hear_is_said(name, models):
    model, channels = models[name], CHANNELS[name]
    for bad in (torch.zeros(24_000), torch.zeros(channels, 24_000), torch.zeros(1, channels, 0)):
        with pytest.raises(InputError, match=rf"\(batch, {channels}, time\)"):
            emotion.get_encoder_embeddings(model, bad)
    with pytest.raises(InputError, match="full scale"):
        emotion.get_encoder_embeddings(model, torch.zeros(1, channels, 999, dtype=torch.int16))
    with pytest.raises(InputError, match=f"takes {channels} on the second axis"):
        emotion.get_quantized_embeddings(model, torch.zeros(1, 3 - channels, 999), 6.0)
    with pytest.raises(InputError, match="NaN or infinite"):
        emotion.get_encoder_embeddings(model, torch.full((1, channels, 999), float("nan")))
    with pytest.raises(InputError, match="bandwidth of 7 kbps; this codec has"):
        emotion.get_quantized_embeddings(model, torch.zeros(1, channels, 999), 7)
    with pytest.raises(TypeError):  # explicit, always
        emotion.get_quantized_embeddings(model, torch.zeros(1, channels, 999))


def test_codes_that_are_none_are_said(models):
    codes = torch.zeros(5, 2, 7, dtype=torch.long)
    with pytest.raises(InputError, match="KBT or BKT"):
        decode_codes(models["encodec"], codes, "TKB")
    with pytest.raises(InputError, match="expected integers KBT"):
        decode_codes(models["encodec"], codes.float(), "KBT")
    with pytest.raises(InputError, match="expected 0 to 15"):
        decode_codes(models["encodec"], codes + 16, "KBT")
    with pytest.raises(InputError, match="expected an EnCodec model"):
        decode_codes(torch.nn.Linear(2, 2), codes, "KBT")


# --------------------------------------------------------------------------------------------- the document's model


def test_the_documents_examples_run():
    """In its order: embeddings, pooling, classification, fine-tuning, properties; the codec is handed in."""
    model, audio = packaged("package-24khz"), sound("encodec", 24_000, batch=1)
    model.set_target_bandwidth(6.0)
    embeddings = emotion.get_encoder_embeddings(model, audio)
    assert torch.allclose(embeddings, model.encoder(audio), atol=1e-5)  # torch rounds otherwise with gradients
    assert embeddings.shape == (1, 16, 75)
    for method in ("mean", "max", "attention"):
        assert emotion.get_global_embeddings(embeddings, method).shape == (1, 16)
    multi = emotion.get_multi_scale_embeddings(model, audio)
    assert torch.allclose(multi, torch.cat([embeddings.mean(-1), embeddings.amax(-1), embeddings.std(-1)], dim=1))
    assert (model.sample_rate, model.channels, model.encoder.dimension) == (24_000, 1, 16)

    classifier = emotion.EmotionDetectionModel(num_classes=8, encoder=model)
    assert torch.equal(classifier.get_embeddings(audio), embeddings)
    assert classifier(audio).shape == (1, 8)
    sizes = [tuple(layer.weight.shape) for layer in classifier.classifier.layers if hasattr(layer, "weight")]
    assert sizes == [(256, 16), (128, 256), (8, 128)]
    assert [layer.p for layer in classifier.classifier.layers if isinstance(layer, torch.nn.Dropout)] == [0.3, 0.3]

    for param in classifier.encodec.encoder.parameters():
        param.requires_grad = True
    groups = [
        {"params": classifier.encodec.encoder.parameters(), "lr": 1e-5},
        {"params": classifier.classifier.parameters(), "lr": 1e-3},
    ]
    optimizer = torch.optim.Adam(groups)
    before = classifier.encodec.encoder.model[0].conv.conv.weight_v.clone()
    torch.nn.functional.cross_entropy(classifier(audio), torch.tensor([3])).backward()
    optimizer.step()
    assert not torch.equal(classifier.encodec.encoder.model[0].conv.conv.weight_v, before)


@pytest.mark.parametrize("name", CHANNELS)
def test_the_codec_stays_frozen_and_in_eval_mode(name):
    codec = tiny_model(name) if name in TRANSFORMERS else packaged(name)
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    model = EmotionDetectionModel(4, codec)
    model.train()
    assert model.classifier.training and not any(part.training for part in model.encodec.modules())
    audio, labels = sound(name, 6_000, batch=4), torch.arange(4)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    torch.nn.functional.cross_entropy(model(audio), labels).backward()
    optimiser.step()
    assert all(torch.equal(value, before[key]) for key, value in codec.state_dict().items())
    assert [len(group["params"]) for group in model.parameter_groups()] == [6]


def test_unfreezing_trains_the_encoder_with_its_own_rate():
    torch.manual_seed(0)
    model = EmotionDetectionModel(4, tiny_model("encodec"), pooling="multi")
    model.train()
    model.unfreeze()
    assert model.encodec.encoder.training and not model.encodec.decoder.training  # CUDA's LSTM needs it
    encoder, head = model.parameter_groups()
    assert (encoder["lr"], head["lr"]) == (1e-5, 1e-3)
    torch.nn.functional.cross_entropy(model(sound("encodec", 6_000, batch=4)), torch.arange(4)).backward()
    assert all(p.grad is not None for p in encoder["params"] + head["params"])
    assert all(p.grad is None for p in model.encodec.decoder.parameters())
    model.eval()
    assert not any(part.training for part in model.modules())


@pytest.mark.parametrize("name", ["encodec", "package-48khz"])
@pytest.mark.parametrize("pooling", ["mean", "std", "multi", "attention", "learned"])
def test_a_clip_in_a_padded_batch_is_the_clip_alone(name, pooling, models):
    torch.manual_seed(0)
    model = EmotionDetectionModel(3, models[name], pooling).eval()
    if model.attention is not None:
        model.attention.query.data.normal_()
    lengths = [9_000, 3_111, 9_000, 200]
    batch = sound(name, 9_500, batch=4)
    together, frames = model(batch, lengths), model.get_embeddings(batch, torch.tensor(lengths))
    assert frames.shape == (4, 16, 29)
    for row, length in enumerate(lengths):
        clip = batch[row : row + 1, :, :length]
        assert torch.allclose(together[row], model(clip)[0], atol=1e-5)
        count = -(-length // 320)
        assert torch.allclose(frames[row, :, :count], model.get_embeddings(clip)[0], atol=1e-5)
        assert (frames[row, :, count:] == 0).all()
    assert not torch.allclose(together[1], model(batch[1:2])[0], atol=1e-4)


def test_a_batch_can_be_learned():
    """One batch of four tones and four noises overfits."""
    torch.manual_seed(0)
    time = torch.arange(8_000) / 24_000
    tones = torch.stack([torch.sin(2 * torch.pi * pitch * time) for pitch in (150, 300, 600, 1200)])
    audio = torch.cat([tones, torch.randn(4, 8_000)])[:, None]
    model = EmotionDetectionModel(2, tiny_model("encodec"), pooling="mean_std")
    labels = torch.tensor([0] * 4 + [1] * 4)
    optimiser = torch.optim.Adam(model.parameter_groups(head_lr=1e-2))
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(audio), labels).backward()
        optimiser.step()
    assert torch.equal(model.eval()(audio).argmax(dim=1), labels)


def test_a_model_by_name(tmp_path):
    save_tiny(tmp_path / "codec", "encodec-48khz")
    save_tiny(tmp_path / "other", "hubert")
    model = EmotionDetectionModel(5, str(tmp_path / "codec"))
    assert model.sampling_rate == 48_000
    assert model(torch.zeros(1, 2, 500)).shape == (1, 5)
    with pytest.raises(InputError, match="other is a hubert model"):
        EmotionDetectionModel(5, str(tmp_path / "other"))
    with pytest.raises(InputError, match="expected an EnCodec model"):
        EmotionDetectionModel(5, torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="at least 2"):
        EmotionDetectionModel(1, tiny_model("encodec"))
    with pytest.raises(InputError, match="expected one of mean"):
        EmotionDetectionModel(2, tiny_model("encodec"), "median")


def test_nothing_heavy_is_imported_before_a_name_is_used():
    import subprocess
    import sys

    program = "import sys, core.emotion; print('torch' in sys.modules, 'get_global_embeddings' in dir(core.emotion))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = emotion.nothing


def test_the_model_resamples_audio_at_another_rate():
    model = EmotionDetectionModel(4, tiny_model("encodec")).eval()
    audio = torch.randn(2, 1, 8_000, generator=torch.Generator().manual_seed(0))
    resampled = at_rate(audio, 16_000, model.codec)
    torch.testing.assert_close(model(audio, sampling_rate=16_000), model(resampled))
    torch.testing.assert_close(model(audio, [8_000, 4_000], 16_000), model(resampled, [12_000, 6_000]))
    with pytest.raises(InputError, match="ndarray"):
        model(audio.numpy())
