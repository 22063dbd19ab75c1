"""What ``auto`` comes to: found out once, then known without the model, and part of what features are kept under."""

from dataclasses import replace

import pytest

from core.arrays import EmbedSettings, ignore_progress
from core.checkpoints.find import find_model
from core.errors import InputError
from core.tasks.emotion import running
from core.tasks.emotion.clips import EncoderExtractor
from core.tasks.emotion.running import check_chosen, chosen
from core.tasks.encoders import Source, ready_encoder
from tests.tiny_models import save_tiny

# torch alone, so that nothing is compiled; which precision that takes is this machine's.
AUTO = EmbedSettings(engine="torch")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(folder, "wav2vec2-stable")
    return Source(find_model(str(folder)))


@pytest.fixture(scope="module")
def known(source, tmp_path_factory):
    """A folder in which the choice is known."""
    folder = tmp_path_factory.mktemp("features")
    chosen(source, AUTO, folder, ignore_progress)
    return folder


@pytest.fixture
def loads(monkeypatch):
    """The settings of each model that is asked for."""
    asked = []

    def ready(source, settings, on_progress):
        asked.append(settings)
        return ready_encoder(source, settings, on_progress)

    monkeypatch.setattr(running, "ready_encoder", ready)
    return asked


def key(source, settings, folder):
    return EncoderExtractor(source, settings, running=chosen(source, settings, folder, ignore_progress)).key


def test_the_choice_is_what_the_model_runs_with_and_is_known_without_it(source, known, loads):
    now = chosen(source, AUTO, known, ignore_progress)
    assert not loads
    ready = ready_encoder(source, replace(AUTO, layers="all"), ignore_progress)
    assert (now.device, now.engine, now.precision) == (ready.device.device, "torch", ready.choice.precision)


@pytest.mark.parametrize("change", ["processor", "version"])
def test_it_is_found_out_again_where_it_may_be_another(source, known, loads, monkeypatch, change):
    if change == "processor":
        monkeypatch.setattr(running, "cpu_capabilities", lambda: {"other": True})
    if change == "version":
        monkeypatch.setattr(running, "package_versions", lambda names: {"torch": "0"})
    chosen(source, AUTO, known, ignore_progress)
    chosen(source, replace(AUTO, chunk_seconds=5.0), known, ignore_progress)
    assert len(loads) == 1


def test_a_damaged_note_is_written_again(source, known, loads):
    before = {note: note.read_bytes() for note in (known / running.PLACE).glob("*.json")}
    for note in before:
        note.write_text("{")
    chosen(source, AUTO, known, ignore_progress)
    assert len(loads) == 1
    assert any(note.read_bytes() == content for note, content in before.items())


def test_features_are_kept_under_what_auto_came_to(source, known, loads):
    auto = chosen(source, AUTO, known, ignore_progress)
    named = replace(AUTO, device=auto.device, precision=auto.precision)
    other = replace(named, precision="fp32" if auto.precision == "bf16" else "bf16")
    assert key(source, AUTO, known) == key(source, named, known)
    assert key(source, AUTO, known) != key(source, other, known)
    assert key(source, AUTO, known) != key(source, replace(AUTO, loudness="normalise"), known)
    assert not loads


def test_a_model_that_runs_otherwise_than_was_known_is_refused(source, known):
    ready = ready_encoder(source, replace(AUTO, layers="all"), ignore_progress)
    with pytest.raises(InputError, match="--engine"):
        check_chosen(ready, replace(chosen(source, AUTO, known, ignore_progress), engine="openvino"))
