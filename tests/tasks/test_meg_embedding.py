"""A Meg2Vec through the same embed task and verb as speech models: real recordings of every system, mismatches."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from core import tasks
from core.arrays import EmbedSettings, OutputSettings
from core.cli.main import main
from core.errors import InputError, StrataError
from core.meg.parts import hash_recording
from core.models.model_input import to_preprocessor
from tests.meg_models import RATE, save_meg_model, write_meg
from tests.tiny_meg import model_input_for, save_tiny_meg
from tests.tiny_models import save_tiny

QUICK = {"engine": "torch", "precision": "fp32", "device": "cpu"}
HOP, FIELD = 40, 10 + 2 * 5 + 2 * 10 + 1 * 20  # of the document's stack: kernels 10, 3, 3, 2; strides 5, 2, 2, 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_meg_model(tmp_path_factory.mktemp("models") / "tiny-meg")


@pytest.fixture(scope="module")
def model_for_short(tmp_path_factory):
    """Without a high-pass filter, which alone needs more than these seconds of recording."""
    return save_meg_model(tmp_path_factory.mktemp("models") / "tiny-meg", l_freq=None, notch="none")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    marks = [(0.5, 1.0, "face"), (2.0, 0.0, "house"), (4.0, 1.0, "face")]
    return write_meg(tmp_path_factory.mktemp("recordings") / "s01_raw.fif", annotations=marks)


def settings(model, **changes):
    return EmbedSettings(**{"model": str(model), **QUICK, **changes})


REAL = {
    "elekta306/sample_audvis_trunc_raw_sss.fif": "names",
    "elekta306/triux_bmlhus_erm_raw_sss.fif": "names",
    "elekta306/test_move_anon_erm_raw.fif": "names",
    "ctf/testdata_ctf_short_discontinuous.ds": "interpolated",
    "kit/test.sqd": "interpolated",
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_of_every_system_are_embedded(model_for_short, shared_data, tmp_path, name):
    source = shared_data("meg_small") / name
    result = tasks.embed(source, settings(model_for_short), OutputSettings(tmp_path))
    facts = result.info.metadata
    frames = (facts["n_samples"] - FIELD) // HOP + 1
    assert result.embeddings().shape == (frames, 32)
    assert np.isfinite(result.embeddings()).all()
    assert facts["n_samples"] == pytest.approx(facts["duration_seconds"] * RATE)
    assert (facts["modality"], facts["recording_path"]) == ("meg", str(source))
    assert len(facts["sensors"]) == 306
    assert facts["input_sha256"] == hash_recording(source)
    assert facts["channels"]["how"] == REAL[name]
    np.testing.assert_allclose(result.onset, np.arange(frames) * HOP / RATE)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("elekta306/141027_cropped_90Hz_raw.fif", "90"),  # below the model's rate
        ("elekta306/triux_bmlhus_erm_raw_sss.fif", "1.00 s long"),  # below what a filter from 1 Hz on needs
        ("bti/test_pdf_linux", "0.30 s long"),
    ],
)
def test_a_recording_that_cannot_be_prepared_is_one_sentence(model, shared_data, tmp_path, name, told):
    with pytest.raises(StrataError, match=told) as caught:
        tasks.embed(shared_data("meg_small") / name, settings(model), OutputSettings(tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_windows_give_what_the_whole_gives(model, recording, tmp_path):
    """Layer 0 sees what the convolutions reach; the group norm's statistics are of the whole recording."""
    whole = tasks.embed(recording, settings(model, layers="0"), OutputSettings(tmp_path / "1"))
    cut = settings(model, layers="0", chunk_seconds=1.0, context_seconds=1.0)
    windows = tasks.embed(recording, cut, OutputSettings(tmp_path / "2"))
    assert whole.info.metadata["n_windows"] == 1 < 3 < windows.info.metadata["n_windows"]
    np.testing.assert_allclose(windows.embeddings(), whole.embeddings(), atol=1e-5)


def test_the_verb_gives_what_the_function_gives(model, recording, tmp_path, capsys):
    function = tasks.embed(recording, settings(model), OutputSettings(tmp_path / "1")).embeddings()
    flags = ["--engine", "torch", "--precision", "fp32", "--device", "cpu"]
    words = ["embed", str(recording), "--model", str(model), "--output", str(tmp_path / "2"), *flags, "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    np.testing.assert_array_equal(np.load(told["files"]["npy"]), function)
    assert told["metadata"]["annotations"][0] == [0.5, 1.0, "face"]


def test_what_is_simulated_says_so_first(model, recording, tmp_path):
    simulated = tmp_path / "model"
    shutil.copytree(model, simulated)
    path = simulated / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"simulated": True}))
    facts = tasks.embed(recording, settings(simulated), OutputSettings(tmp_path / "1")).info.metadata
    assert facts["warnings"][0] == "The model was trained on simulated recordings."
    made = write_meg(tmp_path / "made_raw.fif", description="Simulated by Strata, seed 0")
    facts = tasks.embed(made, settings(simulated), OutputSettings(tmp_path / "3")).info.metadata
    assert facts["warnings"][1] == "The recording is simulated."
    assert facts["simulated"] is True
    plain = tasks.embed(recording, settings(model), OutputSettings(tmp_path / "2")).info.metadata
    assert not any("simulated" in warning for warning in plain["warnings"])


@pytest.fixture
def unloadable(monkeypatch):
    from core.tasks import embedding

    monkeypatch.setattr(embedding, "ready_encoder", lambda *_: pytest.fail("the model was loaded"))


def test_a_recording_of_the_other_kind_is_refused_before_the_model_is_loaded(model, recording, tmp_path, unloadable):
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.zeros(16_000), 16_000)
    save_tiny(tmp_path / "speech", "wav2vec2")
    with pytest.raises(InputError, match=r"a\.wav is no MEG recording, and tiny-meg takes MEG"):
        tasks.embed(sound, settings(model), OutputSettings(tmp_path / "out"))
    with pytest.raises(InputError, match=r"s01_raw\.fif is a MEG recording, and speech takes sound"):
        tasks.embed(recording, settings(tmp_path / "speech"), OutputSettings(tmp_path / "out"))


@pytest.mark.parametrize("changes", [{"channel": 1}, {"loudness": "normalise"}])
def test_settings_for_sound_are_refused(model, recording, tmp_path, changes, unloadable):
    with pytest.raises(InputError, match=next(iter(changes))):
        tasks.embed(recording, settings(model, **changes), OutputSettings(tmp_path))


def test_a_corpus_skips_what_is_done_and_takes_folders_as_recordings(recording, shared_data, tmp_path):
    model = tmp_path / "by-position"
    config = save_tiny_meg(model, "positions").config
    wanted = to_preprocessor(model_input_for(config, l_freq=None, notch="none"))
    (model / "preprocessor_config.json").write_text(json.dumps(wanted))
    folder = tmp_path / "in"
    ctf = "testdata_ctf_short_discontinuous.ds"
    shutil.copytree(shared_data("meg_small") / "ctf" / ctf, folder / ctf)
    shutil.copy(recording, folder / "b_raw.fif")
    (folder / "notes.txt").write_text("words")
    soundfile.write(folder / "voice.wav", np.zeros(16_000), 16_000)
    output = OutputSettings(tmp_path / "out", formats=("npy", "json"))
    first = tasks.embed_many([folder], settings(model), output)
    assert (first.n_done, first.failures) == (2, [])
    assert sorted(path.name for path in output.folder.iterdir()) == [
        *("b_raw.json", "b_raw.npy", "summary.json"),
        *("testdata_ctf_short_discontinuous.json", "testdata_ctf_short_discontinuous.npy"),
    ]
    assert tasks.embed_many([folder], settings(model), output).n_skipped == 2
    (folder / ctf / "notes").write_text("changed")
    again = tasks.embed_many([folder], settings(model), output)
    assert (again.n_done, again.n_skipped) == (0, 1)
    assert "--force" in again.failures[0]["error"]


def test_numpy_takes_its_rate_from_the_flag(model, recording, tmp_path):
    import mne

    array = tmp_path / "array.npy"
    np.save(array, mne.io.read_raw_fif(recording, verbose="error").get_data())
    (tmp_path / "array.json").write_text(json.dumps({"layout": "neuromag306"}))
    with pytest.raises(InputError, match="rate"):
        tasks.embed(array, settings(model), OutputSettings(tmp_path / "out"))
    one = tasks.embed(array, settings(model, numpy_rate=RATE), OutputSettings(tmp_path / "out"))
    other = tasks.embed(recording, settings(model), OutputSettings(tmp_path / "out"))
    np.testing.assert_allclose(one.embeddings(), other.embeddings(), atol=1e-3)


def test_emotions_need_a_speech_model(model, tmp_path):
    from core.tasks.emotion.examples import with_layer
    from core.tasks.emotion.requests import EmotionRequest

    with pytest.raises(InputError, match="tiny-meg takes MEG; emotions are told from sound"):
        with_layer(EmotionRequest(tmp_path, tmp_path, embed=settings(model)))
