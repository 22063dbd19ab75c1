import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.arrays import EmbedSettings, ignore_progress
from core.checkpoints.load import load_model
from core.clock import FrameClock
from core.embed.encoders import build_encoder
from core.embed.engines import torch_runners
from core.embed.pipeline import plan, stream_states
from core.embed.recordings import hash_recording
from core.errors import DataError, InputError
from core.meg.layouts import layout
from core.meg.reader import LabelSpan
from core.meg.segments import named_in
from core.models.model_input import to_preprocessor
from core.sensors import ModelInput, Preparation, Statistics
from core.synthetic.meg import LABELS
from core.tasks.meg.probe_examples import (
    GAP_SECONDS,
    MOST_WINDOWS,
    Labelled,
    ProbeRecording,
    cut_recording,
    split_examples,
)
from core.tasks.meg.probe_text import probe_as_text, probe_rows
from core.tasks.meg.probing import (
    Reader,
    check_request,
    narrowed,
    probe_meg,
    probe_recordings,
    seen_in_training,
    sight_seconds,
)
from core.tasks.meg.requests import ProbeRequest, SimulateRequest
from core.tasks.meg.simulation import simulate_meg
from tests.tiny_meg import meg_noise, save_tiny_meg

CLOCK = FrameClock(hop=25, field=50, sampling_rate=100)
LAYERS = (0, 3, 6)
CLASSES = ("left", "rest", "right")
CONTROLS = ("random", "band-power", "riemann")


def spoken(onset, label):
    return LabelSpan(onset, 2.0, label)


def recording(number, *, subject="01", session="1", shuffled=False, seconds=60, channels=8):
    """Labels every 2 s; layer 3 and the power at 10 Hz of channel 1 tell them, other layers and channels do not."""
    rng = np.random.default_rng(number)
    order = [CLASSES[k % 3] for k in range(int(seconds // 2))]
    planted = rng.permutation(order).tolist()
    told = rng.permutation(planted).tolist() if shuffled else planted
    n_samples = int(seconds * 100)
    values = rng.normal(size=(channels, n_samples))
    t = np.arange(n_samples) / 100
    strength = np.repeat([CLASSES.index(label) for label in planted], 200)
    values[1] += strength * np.sin(2 * np.pi * 10 * t)
    states = {name: rng.normal(size=(3, CLOCK.n_frames(n_samples), 6)) for name in ("model", "random")}
    at = np.minimum((CLOCK.centre(np.arange(states["model"].shape[1])) // 2).astype(int), len(order) - 1)
    for label in CLASSES:
        held = np.array(planted)[at] == label
        states["model"][1, held, CLASSES.index(label)] += 1.0
    spans = tuple(spoken(2.0 * k, label) for k, label in enumerate(told))
    read = lambda first, stop: values[:, first:stop]  # noqa: E731
    return ProbeRecording(n_samples, 100.0, spans, read, states, CLOCK, subject, session, simulated=True)


def opener(recordings):
    @contextmanager
    def open_recording(path):
        yield recordings[path.name]

    return open_recording


def run(recordings, controls=CONTROLS, **other):
    request = ProbeRequest("made", tuple(map(Path, recordings)), controls=controls, **({"window_seconds": 2.0} | other))
    return probe_recordings(request, Reader(LAYERS, opener(recordings)), ignore_progress)


@pytest.fixture(scope="module")
def findings():
    return run({f"rec-{n}.fif": recording(n) for n in range(6)})


def score_of(findings, name):
    return next(score for score in findings.scores if score.name == name)


def test_planted_labels_are_found_in_their_layer(findings):
    model = score_of(findings, "model")
    assert model.layer == 3 and model.score > 0.9 and len(model.by_layer) == 3
    assert model.by_layer[1] == model.score and max(model.by_layer[0], model.by_layer[2]) < 0.5
    assert model.interval[0] > 0.8
    assert findings.chance == pytest.approx(1 / 3) and findings.classes == CLASSES
    assert findings.folds == 6 and findings.counts == {"left": 60, "rest": 60, "right": 60}
    assert findings.facts["interval_over"] == "recordings"


def test_controls_find_what_is_theirs(findings):
    assert score_of(findings, "random").interval[0] < 1 / 3 < score_of(findings, "random").interval[1]
    for name in ("band-power", "riemann"):
        assert score_of(findings, name).score > 0.6 and score_of(findings, name).layer is None
    gain = findings.facts["gains"]["random"]
    assert gain["low"] > 0.3
    assert np.sum(findings.facts["confusion"]) == 180


def test_shuffled_labels_are_at_chance():
    found = run({f"rec-{n}.fif": recording(n, shuffled=True) for n in range(6)})
    for score in found.scores:
        assert abs(score.score - 1 / 3) < 0.13
        assert score.interval[0] < 1 / 3 < score.interval[1]


def test_two_recordings_are_probed_and_it_is_said_what_their_interval_means():
    found = run({"a.fif": recording(0), "b.fif": recording(1)}, controls=())
    assert found.folds == 2 and score_of(found, "model").score > 0.8
    assert found.facts["interval_over"] == "stretches of 30 s"
    assert any("not what another recording would give" in warning for warning in found.warnings)
    assert found.warnings[0] == "2 of 2 recordings are simulated."


def test_a_label_of_one_recording_is_left_out():
    odd = recording(2)
    odd = replace(odd, labels=(*odd.labels[:-1], spoken(57.0, "odd"), spoken(59.5, "left")))
    found = run({"a.fif": recording(0), "b.fif": recording(1), "c.fif": odd}, controls=())
    assert found.classes == CLASSES
    assert any("only one recording has them: odd" in warning for warning in found.warnings)
    assert any("1 labels are left out" in warning for warning in found.warnings)


def heads(different):
    """Four recordings of two subjects; where they differ, in a mean of their own in every layer."""
    made = {}
    for number in range(4):
        one = recording(number, subject=f"0{number // 2 + 1}", session=str(number % 2))
        states = {name: values + different * (number // 2) for name, values in one.states.items()}
        made[f"{number}.fif"] = replace(one, states=states)
    return made


@pytest.mark.parametrize(("different", "low", "high"), [(1.0, 0.95, 1.0), (0.0, 0.3, 0.7)])
def test_the_leakage_probe_reads_subjects_where_they_differ(different, low, high):
    found = run(heads(different), controls=("random",), target="subject")
    assert low <= score_of(found, "model").score <= high
    assert found.classes == ("01", "02") and found.folds == 5 and found.chance == 0.5
    assert found.facts["held_out"] == "contiguous blocks of each recording" and found.facts["gap_seconds"] == 2.0
    assert any("tells recordings apart" in warning for warning in found.warnings)


def test_sessions_of_two_subjects_are_four():
    found = run(heads(1.0), controls=(), target="session")
    assert found.classes == ("01 0", "01 1", "02 0", "02 1")


def test_training_windows_keep_away_from_tested_blocks():
    onsets = np.tile(np.arange(0, 100, 2.0), 2)
    labelled = Labelled(np.repeat(["a", "b"], 50), onsets, np.repeat([0, 1], 50), 2.0)
    examples, _, _ = split_examples(labelled, "subject", 3.5)
    tested = np.concatenate([test for _, test in examples.folds])
    assert sorted(tested.tolist()) == list(range(100))
    for train, test in examples.folds:
        for number in (0, 1):
            ours, theirs = (onsets[rows[labelled.recordings[rows] == number]] for rows in (train, test))
            assert np.abs(ours[:, None] - theirs).min() >= 2.0 + 3.5


def far_off(encoder, signal, settings, tested):
    """How much each window's states change with what lies in the windows that are tested, (windows,)."""
    spec, values = encoder.spec, signal.values.copy()
    for onset in tested:
        values[:, round(onset * 250) : round((onset + 2) * 250)] *= -2
    plans, runners = (
        plan(spec, signal.n_samples, settings, "noise"),
        torch_runners(encoder.networks((3,)), "cpu", "fp32"),
    )
    before, after = (
        np.concatenate(list(stream_states(encoder, runners, one, plans, ignore_progress)), axis=1)
        for one in (signal, replace(signal, values=values))
    )
    windows = (spec.clock.centre(np.arange(plans.n_frames)) // 2).astype(int)
    change = np.abs(after - before).max(axis=(0, 2))
    return np.array([change[windows == number].max() for number in range(30)])


def test_no_training_state_has_seen_a_tested_block(tmp_path):
    """A tested block changes states beside it, and not a bit of those that are trained on.

    The model has no group norm, whose statistics every state of a recording shares.
    """
    save_tiny_meg(tmp_path / "tiny", "stable")
    encoder, signal = build_encoder(load_model(tmp_path / "tiny", "tiny", from_user=True)), meg_noise(250 * 60)
    settings = narrowed(EmbedSettings(), ProbeRequest("tiny", (), target="subject"), encoder.spec)
    reader = Reader((), opener({}), sight_seconds=sight_seconds(encoder.spec, settings.chunk_seconds))
    assert reader.gap_seconds >= encoder.spec.context_seconds
    onsets = np.tile(np.arange(0, 60, 2.0), 2)
    labelled = Labelled(np.repeat(["a", "b"], 30), onsets, np.repeat([0, 1], 30), 2.0)
    too_near, near = (split_examples(labelled, "subject", gap)[0].folds for gap in (GAP_SECONDS, reader.gap_seconds))
    changed = [far_off(encoder, signal, settings, onsets[test[test < 30]]) for _, test in near]
    trained = lambda folds: [change[rows[rows < 30]].max() for change, (rows, _) in zip(changed, folds, strict=True)]  # noqa: E731
    assert trained(near) == [0.0] * 5
    assert max(trained(too_near)) > 1e-3


def test_frames_are_those_whose_middle_is_in_the_window():
    states = np.arange(239, dtype=float)[None, :, None]
    one = replace(recording(0), states={"model": states}, labels=(spoken(1.0, "left"),))
    pooled = cut_recording(one, "label", 1.0, ()).features["model"]
    # Middles are at 0.25 s + 0.25 s * frame: 1.0, 1.25, 1.5 and 1.75 s are those of frames 3 to 6.
    np.testing.assert_allclose(pooled[0, 0], [4.5, np.std([3, 4, 5, 6])], rtol=1e-6)


def test_a_long_annotation_gives_windows_side_by_side():
    """Of 7 s three windows of 2 s, the last second none; of an instant one, from it on."""
    spans = (LabelSpan(1.0, 7.0, "long"), LabelSpan(9.0, 0.0, "instant"), LabelSpan(12.0, 1.5, "short"))
    one = replace(recording(0), labels=spans)
    cut = cut_recording(one, "label", 2.0, ())
    assert [(one.onset, one.label) for one in cut.windows] == [
        *((onset, "long") for onset in (1.0, 3.0, 5.0)), (9.0, "instant"), (12.0, "short"),
    ]  # fmt: skip


def test_long_annotations_give_at_most_so_many_windows_and_instants_all():
    long = replace(recording(0, seconds=400), labels=(LabelSpan(0.0, 200.0, "a"), LabelSpan(200.0, 200.0, "b")))
    windows = cut_recording(long, "label", 0.5, ()).windows
    assert len(windows) == MOST_WINDOWS
    assert [one.label for one in windows].count("a") == MOST_WINDOWS // 2
    instants = replace(long, labels=tuple(LabelSpan(float(k), 0.0, "a") for k in range(399)))
    assert len(cut_recording(instants, "label", 0.5, ()).windows) == 399


def test_other_sensors_leave_the_controls_without_a_score():
    found = run({"a.fif": recording(0), "b.fif": recording(1, channels=5)}, controls=("band-power", "riemann"))
    assert score_of(found, "model").score > 0.8
    for name in ("band-power", "riemann"):
        assert np.isnan(score_of(found, name).score) and "different sensors" in score_of(found, name).note
    assert "different sensors" in probe_as_text(found)


def test_text_and_rows_say_the_same(findings):
    text, rows = probe_as_text(findings), probe_rows(findings)
    assert [row["features"] for row in rows] == ["model", *CONTROLS]
    model = rows[0]
    assert model["layer"] == 3 and f"{model['score']:.3f} [{model['low']:.3f}, {model['high']:.3f}]" in text
    assert "chance      0.333" in text and "6 of 6 recordings are simulated." in text
    assert "above random" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": "word"}, "target 'word'"),
        ({"controls": ("noise",)}, "control noise"),
        ({"window_seconds": 0.0}, "windows of 0 s"),
        ({"recordings": (Path("a.fif"), Path("./a.fif"))}, "Got 1 recordings"),
    ],
)
def test_what_cannot_be_probed_is_refused_before_anything_is_read(change, said):
    request = replace(ProbeRequest("none", (Path("a.fif"), Path("b.fif"))), **change)
    for refuse in (check_request, probe_meg):
        with pytest.raises(InputError, match=said):
            refuse(request)


def test_recordings_without_labels_or_names_are_refused():
    bare = {name: replace(recording(0), labels=()) for name in ("a.fif", "b.fif")}
    with pytest.raises(DataError, match="No recording has a label"):
        run(bare)
    apart = {"a.fif": recording(0), "b.fif": replace(recording(1), labels=(spoken(0, "x"), spoken(3, "y")))}
    with pytest.raises(DataError, match=r"left \(1\)"):
        run(apart)
    nameless = {name: replace(recording(0), subject="") for name in ("a.fif", "b.fif")}
    with pytest.raises(DataError, match=r"a\.fif does not say its subject"):
        run(nameless, target="subject")
    brief = {f"{n}.fif": recording(n, subject=str(n), seconds=4) for n in range(2)}
    with pytest.raises(DataError, match=r"Got 4 windows of 2 s in 2 recordings; that is too few"):
        run(brief, target="subject", window_seconds=2.0)
    with pytest.raises(DataError, match="of one subject"):
        run({"a.fif": recording(0), "b.fif": recording(1)}, target="subject")


@pytest.mark.parametrize(
    ("path", "entity", "name"),
    [
        ("data/sub-07/ses-b/meg/sub-07_ses-b_task-rest_meg.fif", "sub", "07"),
        ("data/sub-07/ses-b/meg/run_meg.fif", "ses", "b"),
        ("sub-01/x_sub-02_meg.fif", "sub", "02"),
        ("data/mysub-3.fif", "sub", ""),
    ],
)
def test_names_as_bids_writes_them(path, entity, name):
    assert named_in(Path(path), entity) == name


# ----------------------------------------------------------------------------------------------- with a real checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A Meg2Vec with random weights for 306 channels."""
    config = {"in_channels": 306, "num_hidden_layers": 1}
    folder = tmp_path_factory.mktemp("models") / "meg2vec-tiny"
    save_tiny_meg(folder, **config)
    sensors = layout("neuromag306")
    std = np.where(np.array(sensors.kinds) == "mag", 2e-13, 5e-12)
    wanted = ModelInput(Preparation(), sensors, Statistics(np.zeros(306), std), simulated=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(to_preprocessor(wanted)))
    return folder


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Two sessions of each of two heads."""
    folder = tmp_path_factory.mktemp("recordings")
    paths = [folder / f"sub-{k // 2}_ses-{k % 2}_meg.fif" for k in range(4)]
    for number, path in enumerate(paths):
        simulate_meg(SimulateRequest(path, seconds=60.0, seed=number, subject=number // 2))
    return tuple(paths)


def test_a_checkpoint_is_probed_from_files(checkpoint, simulated):
    """Random weights know nothing: the model scores as its control does; both are near chance."""
    seen = []
    request = ProbeRequest(str(checkpoint), simulated, device="cpu", controls=("random", "band-power"))
    found = probe_meg(request, seen.append)
    assert [score.name for score in found.scores] == ["model", "random", "band-power"]
    assert len(score_of(found, "model").by_layer) == 2 and found.facts["layers"] == [0, 1]
    assert set(found.classes) <= set(LABELS) and found.folds == 4
    assert found.warnings[0] == "The model was trained on simulated recordings."
    assert "4 of 4 recordings are simulated." in found.warnings
    assert {"recordings", "probe"} <= {step.stage for step in seen}


@pytest.mark.parametrize(
    ("target", "name", "said"),
    [
        ("label", "sub-1_ses-{}_meg.npy", "No recording has a label"),
        ("subject", "{}_meg.npy", "does not say its subject"),
        ("session", "sub-{}_meg.npy", "does not say its session"),
        ("subject", "sub-1_ses-{}_meg.npy", "of one subject"),
        ("subject", "sub-{}_meg.npy", r"too few to hold some out and to keep the others 7\.\d+ s away"),
    ],
)
def test_what_recordings_lack_is_found_before_anything_is_embedded(checkpoint, tmp_path, target, name, said):
    paths = tuple(tmp_path / name.format(number) for number in range(2))
    for number, path in enumerate(paths):
        np.save(path, 1e-12 * np.random.default_rng(number).standard_normal((306, 250 * 20)))
    seen = []
    request = ProbeRequest(str(checkpoint), paths, target=target, controls=(), device="cpu", numpy_rate=250.0)
    with pytest.raises(DataError, match=said):
        probe_meg(request, seen.append)
    assert "recordings" not in {step.stage for step in seen}
    assert ("load the model" in {step.stage for step in seen}) == ("too few" in said)


def test_recordings_that_the_model_was_trained_on_are_told(tmp_path):
    paths = [tmp_path / f"{name}.npy" for name in "abc"]
    for number, path in enumerate(paths):
        np.save(path, np.full((2, 3), number))
    assert seen_in_training(tmp_path, paths) == ()
    training = {
        "data": {"recordings": ["a", "b"], "recordings_sha256": [hash_recording(path) for path in paths[:2]]},
        "split": {"train": ["a"], "eval": ["b"]},
    }
    (tmp_path / "training.json").write_text(json.dumps(training))
    assert seen_in_training(tmp_path, paths)[0].startswith("The model was pre-trained on 1 of these 3 recordings")
    assert seen_in_training(tmp_path, paths[1:]) == ()


def test_heads_are_told_apart_by_name_or_by_the_file(checkpoint, simulated, tmp_path):
    from core.tasks.meg.probe_examples import who_and_when

    plain = tmp_path / "plain.fif"
    plain.write_bytes(simulated[3].read_bytes())
    assert who_and_when(simulated[3]) == ("1", "1")
    assert who_and_when(plain) == ("sim-001", "")
    request = ProbeRequest(str(checkpoint), simulated, "subject", 2.0, device="cpu", controls=("band-power",))
    found = probe_meg(request, ignore_progress)
    assert found.classes == ("0", "1")
    assert score_of(found, "band-power").score > 0.9


def test_a_copy_counts_once_and_a_missing_file_is_named(checkpoint, simulated, tmp_path):
    copy = tmp_path / "copy_meg.fif"
    copy.write_bytes(simulated[0].read_bytes())
    with pytest.raises(InputError, match="Got 1 recordings"):
        probe_meg(ProbeRequest(str(checkpoint), (simulated[0], copy)))
    with pytest.raises(InputError, match="does not exist"):
        probe_meg(ProbeRequest(str(checkpoint), (simulated[0], tmp_path / "none.fif")))
