"""``python app.py`` in a real browser, with a real network: from a dropped file to the files taken home."""

import numpy as np
import pytest

from core import tasks
from core.arrays import EmbedSettings, OutputSettings
from core.clock import FrameClock
from tests.tiny_models import save_tiny
from tests.ui.conftest import ROOT

RECORDING = ROOT / "assets" / "examples" / "two_voices.flac"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny wav2vec2"
    save_tiny(folder, "wav2vec2")
    return folder


def test_a_dropped_recording_comes_back_as_the_tasks_array(visit, real_app, model, tmp_path):
    page = visit(real_app)
    page.model(str(model))
    page.layers("All")
    page.choose(RECORDING)
    page.start()
    page.wait_for_result()
    values = np.load(page.download("two_voices.npy", tmp_path))

    settings = EmbedSettings(str(model), "all")
    expected = tasks.embed(RECORDING, settings, OutputSettings(tmp_path / "task", formats=("npy",))).embeddings()
    np.testing.assert_array_equal(values, expected)
    # wav2vec 2.0's clock, written out: 20 ms frames of 25 ms, the first centred at 12.5 ms.
    clock = FrameClock(hop=320, field=400, sampling_rate=16_000)
    times = page.plot("path", "Array.from(graph._fullData[0].customdata, row => row[0])")
    np.testing.assert_allclose(times, clock.centre(np.arange(values.shape[1])), atol=1e-5)
    assert page.outside == []
    assert page.errors == []


def test_a_model_that_is_none_gives_a_sentence(visit, real_app):
    page = visit(real_app)
    page.model("./no such folder")
    page.choose(RECORDING)
    page.start()
    assert "'./no such folder' is neither bundled nor a folder nor a hub id" in page.wait_for_card("No result")
