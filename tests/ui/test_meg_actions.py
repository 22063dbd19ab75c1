"""The tabs "Embed" and "Layers" with MEG, without a browser: what is shown, what is said."""

from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import soundfile

from core import tasks
from core.analysis.views import SignalView
from core.arrays import EmbedSettings, OutputSettings
from core.ui import embed_actions, layers_actions
from core.ui.sessions import Sessions
from core.ui.settings import UiSettings
from tests.meg_models import save_meg_model, write_meg
from tests.tiny_models import save_tiny

PAGE = SimpleNamespace(session_hash="page")
QUICK = ("cpu", "torch", "fp32")


def ignore(*_, **__):
    """Take a progress report."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_meg_model(tmp_path_factory.mktemp("models") / "tiny-meg"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    marks = [(1.0, 3.0, "face"), (5.0, 3.0, "house"), (9.0, 3.0, "face")]
    return str(write_meg(tmp_path_factory.mktemp("recordings") / "s01_raw.fif", 14.0, annotations=marks))


@pytest.fixture
def embed_tab(tmp_path):
    return embed_actions.Actions(tasks, UiSettings(), Sessions(tmp_path / "results"))


def words(update):
    return str(getattr(update, "value", update))


def test_the_embed_tab_shows_sensors_and_spectrum_and_no_player(embed_tab, model, recording, tmp_path):
    assert "14.0 s, 250 Hz, 306 MEG channels" in embed_tab.describe(recording)
    files, facts, run_id = embed_tab.embed(recording, model, "last", *QUICK, ["npy"], PAGE, ignore)
    settings = EmbedSettings(model, "last", *QUICK)
    direct = tasks.embed(recording, settings, OutputSettings(tmp_path / "direct"))
    np.testing.assert_array_equal(np.load(files[0]), direct.embeddings())
    assert facts["modality"] == "meg"
    shown = embed_tab.show(run_id, "2-D", PAGE, ignore)
    told, sound, caption = shown[2], shown[3], shown[6]
    assert "s of MEG in" in words(told)
    assert sound == {"url": "", "run": run_id}
    assert "306 sensors as the model takes them" in words(caption)
    assert "Power spectrum" in str(shown[5].plot)
    assert "Log-mel" not in str(shown[5].plot)


def test_the_outline_is_that_of_all_sensors_and_the_spectrum_peaks_at_the_planted_rhythm(
    embed_tab, model, recording, tmp_path
):
    _, _, run_id = embed_tab.embed(recording, model, "last", *QUICK, ["npy"], PAGE, ignore)
    embed_tab.show(run_id, "2-D", PAGE, ignore)
    view = embed_tab.find(run_id, PAGE).result(SignalView)
    assert view.is_meg
    assert view.seconds == pytest.approx(14.0)
    assert (view.envelope[:, 0] < view.envelope[:, 1]).all()
    spectrogram = view.spectrogram
    assert spectrogram.decibels.shape == (len(spectrogram.hertz), len(spectrogram.times))
    assert spectrogram.hertz[spectrogram.decibels.mean(axis=1).argmax()] == pytest.approx(10.0)
    assert spectrogram.decibels.max() == 0


@pytest.mark.parametrize("other", ["sound", "speech model"])
def test_a_mismatch_is_a_sentence_on_the_page(embed_tab, model, recording, tmp_path, other):
    if other == "sound":
        recording = str(tmp_path / "a.wav")
        soundfile.write(recording, np.zeros(16_000), 16_000)
    else:
        model = str(tmp_path / "speech")
        save_tiny(tmp_path / "speech", "wav2vec2")
    told = "is no MEG recording, and tiny-meg takes MEG" if other == "sound" else "is a MEG recording, and speech takes"
    with pytest.raises(gr.Error, match=told):
        embed_tab.embed(recording, model, "last", *QUICK, ["npy"], PAGE, ignore)


def test_the_layers_tab_shows_labels_and_band_powers_and_no_sound(model, recording, tmp_path):
    tab = layers_actions.LayersActions(tasks, UiSettings(), Sessions(tmp_path / "results"))
    assert "1 recording, 14 s; the annotations in the files are labels" in tab.describe([recording])
    asked = (model, "none", False, "all", "frame", "cka", 200, *QUICK)
    summary, run_id = tab.layers([recording], *asked, PAGE, ignore)
    assert "band_cca" in str(summary)
    shown = tab.show(run_id, "2-D", PAGE, ignore)
    assert shown[4]["urls"] == []
    assert "house" in str(shown[6].plot)
