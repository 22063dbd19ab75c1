"""What the doors call, end to end on files: planted tones, formats that agree, errors that leave nothing."""

import json

import numpy as np
import pytest
import scipy.io
import soundfile

from core import tasks
from core.arrays import EmbedSettings, OutputSettings
from core.errors import CheckpointError, DataError, InputError, OutputError, StrataError
from tests.tiny_models import save_tiny

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(folder, "wav2vec2-stable")
    return str(folder)


def write(path, samples, rate=RATE, **options):
    soundfile.write(path, samples, rate, **options)
    return path


def noise(seconds, rate=RATE, seed=0):
    return (np.random.default_rng(seed).standard_normal(round(seconds * rate)) * 0.01).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_planted_tone_is_found_at_its_time(tmp_path, rate):
    save_tiny(tmp_path / "model", "wav2vec2")
    began, seconds = 33.37, 40.0
    times = np.arange(round(seconds * rate)) / rate
    samples = np.where((times >= began) & (times < began + 0.5), 0.5 * np.sin(2 * np.pi * 700 * times), 0).astype("f")
    path = write(tmp_path / "tone.wav", samples, rate, subtype="FLOAT")
    settings = EmbedSettings(
        model=str(tmp_path / "model"), layers="0", chunk_seconds=7, engine="torch", precision="fp32"
    )
    result = tasks.embed(path, settings, OutputSettings(tmp_path / "out"))
    states = result.embeddings()
    distance = np.linalg.norm(states - states[500], axis=1)
    distance[:16] = distance[-16:] = 0  # the positional convolution sees the padding there
    loud = np.flatnonzero(distance > 0.05 * distance.max())
    # State 0 has passed the positional convolution, whose kernel reaches 8 frames to each side here.
    assert result.centre[loud[0]] == pytest.approx(began - 8 * 0.02, abs=0.06)
    assert result.centre[loud[-1]] == pytest.approx(began + 0.5 + 8 * 0.02, abs=0.06)


def test_every_format_says_the_same(model, tmp_path):
    path = write(tmp_path / "a clip ü.flac", noise(3.3))
    formats = ("npy", "mat", "json", "npz", "parquet")
    result = tasks.embed(
        path, EmbedSettings(model=model, layers="all"), OutputSettings(tmp_path / "out", None, formats)
    )
    array = result.embeddings()
    matlab = scipy.io.loadmat(result.files["mat"])
    facts = json.loads(result.files["json"].read_text(encoding="utf-8"))
    assert array.shape == (4, 164, 32) == tuple(facts["shape"])
    np.testing.assert_array_equal(matlab["embeddings"], array)
    np.testing.assert_allclose(matlab["time_axis"].ravel(), result.onset)
    np.testing.assert_allclose(matlab["time_centre"].ravel(), result.onset + 0.0125)
    assert facts["time_axis_seconds"] == [0.0, pytest.approx(163 * 0.02)]
    layers = np.load(result.files["npz"], allow_pickle=False)
    assert list(layers) == ["layer_0", "layer_1", "layer_2", "layer_3"]
    np.testing.assert_array_equal(layers["layer_2"], array[2])
    assert facts == json.loads(json.dumps(result.info.metadata))


def test_the_metadata_says_how_it_was_made(model, tmp_path):
    path = write(tmp_path / "stereo.wav", np.stack([noise(2), noise(2, seed=1)], axis=1))
    result = tasks.embed(path, EmbedSettings(model=model), OutputSettings(tmp_path))
    facts = result.info.metadata
    assert (facts["num_frames"], facts["hidden_size"], facts["frame_stride"], facts["sample_rate"]) == (
        99,
        32,
        0.02,
        RATE,
    )
    assert (facts["original_channels"], facts["channel"], facts["layers"]) == (2, "mean of all", [3])
    assert len(facts["input_sha256"]) == len(facts["model_sha256"]) == 64
    assert facts["engine_reason"]
    assert facts["precision_reason"]
    assert facts["versions"]["torch"]
    assert facts["clock"]["field"] == 400
    assert facts["fine_tuned"] is False


def test_one_channel_is_that_channel(model, tmp_path):
    left, right = noise(1), noise(1, seed=1)
    both = write(tmp_path / "both.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    alone = write(tmp_path / "alone.wav", right, subtype="FLOAT")
    one = tasks.embed(both, EmbedSettings(model=model, channel=2), OutputSettings(tmp_path / "1")).embeddings()
    np.testing.assert_array_equal(
        one, tasks.embed(alone, EmbedSettings(model=model), OutputSettings(tmp_path / "2")).embeddings()
    )


def test_loudness_does_not_change_a_normalised_model(model, tmp_path):
    quiet, loud = (write(tmp_path / f"{gain}.wav", noise(2) * gain, subtype="FLOAT") for gain in (1, 30))
    settings = EmbedSettings(model=model, engine="torch", precision="fp32")
    states = [tasks.embed(path, settings, OutputSettings(tmp_path)).embeddings() for path in (quiet, loud)]
    np.testing.assert_allclose(states[0], states[1], atol=1e-3)


def test_a_codec_keeps_loudness_unless_asked_and_says_so(tmp_path):
    save_tiny(tmp_path / "codec", "encodec")
    samples = noise(2)
    samples[:100] += 0.02
    quiet, loud = (write(tmp_path / f"{gain}.wav", samples * gain, subtype="FLOAT") for gain in (1, 4))
    apart = {}
    for loudness in ("keep", "normalise"):
        settings = EmbedSettings(model=str(tmp_path / "codec"), layers="0,3", loudness=loudness)
        results = [tasks.embed(path, settings, OutputSettings(tmp_path / loudness)) for path in (quiet, loud)]
        states = [result.embeddings() for result in results]
        apart[loudness] = np.abs(states[0][0] - states[1][0]).max() / states[1][0].std()
        facts = results[0].info.metadata
        assert facts["layer_names"] == ["encoder output", "quantised, 6 kbps"]
        assert [("keeps loudness" in note, "root mean square" in note) for note in facts["encoder_notes"]] == [
            (loudness == "keep", loudness == "normalise")
        ]
    assert apart["normalise"] < 1e-3 < 0.01 < apart["keep"]
    with pytest.raises(InputError, match="keep or normalise"):
        tasks.embed(quiet, EmbedSettings(model=str(tmp_path / "codec"), loudness="loud"), OutputSettings(tmp_path))


def test_a_second_call_uses_the_model_in_memory_and_a_changed_folder_does_not(tmp_path):
    folder = tmp_path / "model"
    save_tiny(folder, "wav2vec2")
    path = write(tmp_path / "a.wav", noise(1))
    settings = EmbedSettings(model=str(folder), engine="torch", precision="fp32")
    first = tasks.embed(path, settings, OutputSettings(tmp_path / "1")).embeddings()
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError):
        tasks.embed(path, settings, OutputSettings(tmp_path / "2"))
    save_tiny(folder, "wav2vec2")
    np.testing.assert_array_equal(first, tasks.embed(path, settings, OutputSettings(tmp_path / "3")).embeddings())


def test_two_layer_choices_of_one_model_do_not_disturb_each_other(model, tmp_path):
    path = write(tmp_path / "a.wav", noise(1))
    one, every = (
        tasks.embed(
            path, EmbedSettings(model=model, layers=layers, precision="fp32"), OutputSettings(tmp_path / layers)
        ).embeddings()
        for layers in ("1", "all")
    )
    np.testing.assert_allclose(one, every[1], atol=1e-5)


BAD = {
    "empty": (DataError, lambda path: path.write_bytes(b"")),
    "text": (DataError, lambda path: path.write_text("not a recording at all, only words " * 50)),
    "short": (DataError, lambda path: write(path, noise(1)[:399])),
    "nan": (DataError, lambda path: write(path, np.full(RATE, np.nan, "f"), subtype="FLOAT")),
    "missing": (InputError, lambda path: None),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_recording_is_one_sentence_and_leaves_nothing(model, tmp_path, kind):
    error, make = BAD[kind]
    path, out = tmp_path / f"{kind}.wav", tmp_path / "out"
    make(path)
    with pytest.raises(StrataError, match=f"{kind}.wav") as caught:
        tasks.embed(path, EmbedSettings(model=model), OutputSettings(out))
    assert isinstance(caught.value, error)
    assert "\n" not in str(caught.value)
    assert not out.exists() or not list(out.iterdir())


def test_results_are_never_overwritten_without_force(model, tmp_path):
    path = write(tmp_path / "a.wav", noise(1))
    settings, output = EmbedSettings(model=model), OutputSettings(tmp_path / "out")
    tasks.embed(path, settings, output)
    before = (tmp_path / "out" / "a.json").read_bytes()
    with pytest.raises(OutputError, match="--force"):
        tasks.embed(path, settings, output)
    assert (tmp_path / "out" / "a.json").read_bytes() == before
    tasks.embed(path, settings, OutputSettings(tmp_path / "out", force=True))


def test_exactly_one_frame(model, tmp_path):
    path = write(tmp_path / "one.wav", noise(1)[:400])
    assert tasks.embed(path, EmbedSettings(model=model), OutputSettings(tmp_path)).embeddings().shape == (1, 32)


def test_a_corpus_skips_what_is_done_and_reports_what_is_bad(model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        write(folder / f"{name}.wav", noise(1, seed=ord(name)))
    (folder / "bad.wav").write_text("words")
    settings, output = EmbedSettings(model=model), OutputSettings(tmp_path / "out", formats=("npy", "json"))
    first = tasks.embed_many([folder], settings, output)
    assert (first.n_done, first.n_skipped, [item["file"].endswith("bad.wav") for item in first.failures]) == (
        2,
        0,
        [True],
    )
    second = tasks.embed_many([folder], settings, output)
    assert (second.n_done, second.n_skipped, second.exit_code) == (0, 2, 2)


def run_corpus(model, tmp_path):
    """Embed a folder of one recording; return the summary and the values there."""
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    write(folder / "a.wav", noise(1))
    settings, output = EmbedSettings(model=str(model)), OutputSettings(tmp_path / "out", formats=("npy", "json"))
    return tasks.embed_many([folder], settings, output), np.load(tmp_path / "out" / "a.npy")


def test_values_of_another_run_are_not_taken_for_this_ones(model, tmp_path):
    _, first = run_corpus(model, tmp_path)
    other = OutputSettings(tmp_path / "out", formats=("npy",), force=True)
    tasks.embed(tmp_path / "in" / "a.wav", EmbedSettings(model=model, layers="0"), other)
    assert not (tmp_path / "out" / "a.json").exists()
    (tmp_path / "out" / "a.npy").unlink()
    again, second = run_corpus(model, tmp_path)
    assert again.n_done == 1
    np.testing.assert_array_equal(first, second)


def test_a_json_is_not_left_beside_values_it_does_not_describe(model, tmp_path):
    run_corpus(model, tmp_path)
    (tmp_path / "out" / "a.npy").unlink()
    with pytest.raises(OutputError, match=r"a\.json"):
        tasks.embed(
            tmp_path / "in" / "a.wav", EmbedSettings(model=model), OutputSettings(tmp_path / "out", None, ("npy",))
        )
    # A format that it does not tell of may join it.
    tasks.embed(tmp_path / "in" / "a.wav", EmbedSettings(model=model), OutputSettings(tmp_path / "out", None, ("npz",)))
    assert (tmp_path / "out" / "a.json").exists()


def test_a_corpus_is_done_again_where_only_the_preprocessing_changed(tmp_path):
    save_tiny(tmp_path / "model", "wav2vec2-stable")
    run_corpus(tmp_path / "model", tmp_path)
    path = tmp_path / "model" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_normalize": False}))
    with_other_input = tasks.embed_many(
        [tmp_path / "in"],
        EmbedSettings(model=str(tmp_path / "model")),
        OutputSettings(tmp_path / "out", formats=("npy", "json")),
    )
    assert with_other_input.n_skipped == 0


def test_a_link_to_nowhere_in_a_model_folder_is_no_matter(tmp_path):
    save_tiny(tmp_path / "model", "wav2vec2-stable")
    (tmp_path / "model" / "optimizer.pt").symlink_to(tmp_path / "gone")
    path = write(tmp_path / "a.wav", noise(1))
    tasks.embed(path, EmbedSettings(model=str(tmp_path / "model")), OutputSettings(tmp_path / "out"))


def test_channels_that_cancel_out_are_named(model, tmp_path):
    left = noise(1)
    path = write(tmp_path / "opposite.wav", np.stack([left, -left], axis=1), subtype="FLOAT")
    assert (
        "--channel"
        in tasks.embed(path, EmbedSettings(model=model), OutputSettings(tmp_path)).info.metadata["warnings"][0]
    )
    one = tasks.embed(path, EmbedSettings(model=model, channel=1), OutputSettings(tmp_path / "one"))
    assert one.info.metadata["warnings"] == []


def test_what_auto_came_to_is_part_of_what_makes_a_result_done(model, tmp_path):
    path = write(tmp_path / "a.wav", noise(1))
    output = OutputSettings(tmp_path / "out", formats=("npy", "json"), force=True)
    marks = {
        tasks.embed(path, EmbedSettings(model=model, engine=engine, precision=precision), output).info.metadata[
            "settings_fingerprint"
        ]
        for engine, precision in (("auto", "auto"), ("torch", "fp32"), ("torch", "fp32"))
    }
    assert len(marks) == 2
