"""Training on sites: planted groups become blocks, noise stays at chance, and a run is what Meg2Vec's is."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.analysis.sites import site_similarity_matrix
from core.checkpoints.load import load_model
from core.errors import InputError
from core.sites.preprocessor import from_preprocessor
from core.training.precision import make_accelerator
from core.training.pretraining import Evaluation, Place, Watch, loop_settings
from core.training.schedule import make_optimiser
from core.training.site_pretraining import SPATIAL, make_model, mask_rule, plan_sites, pretrain_sites
from core.training.site_watch import site_embeddings
from core.training.state import read_state
from core.training.workers import Workers
from tests.training.site_fakes import TINY_SITES, FakeSites, noise_sites


def run(settings, folder, data=None, watch=None):
    return pretrain_sites(
        settings, data or noise_sites(), Place(folder, folder), make_accelerator("cpu", "fp32"), watch
    )


def rows(path, split=None):
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in found if split in (None, row["split"])]


def weights(folder):
    return read_state(folder / "state.pt")["model"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(TINY_SITES, folder)


# ------------------------------------------------------------------------------------------------------------ learning

LEARNING = replace(
    TINY_SITES, hidden_size=32, intermediate_size=64, num_codevectors_per_group=16, codevector_dim=16,
    proj_codevector_dim=16, conv_dim=(16, 16), num_negatives=15, mask_columns=4, batch_size=8, max_steps=60,
    warmup_steps=10, learning_rate=5e-3, spatial_learning_rate=2e-2, spatial_embed_dropout=0.0, dropout=0.0,
    eval_every=60, checkpoint_every=60, eval_windows=64, gumbel_temperature_decay=0.99,
)  # fmt: skip


def two_generators(n_columns, seed):
    """(8, rows, columns): four sites have one spectrum, four the opposite one, at levels of their own."""
    random = np.random.default_rng(seed)
    spectra = np.array([[2, -2, 2, -2], [-2, 2, -2, 2]])[np.arange(8) // 4]
    levels = np.repeat(random.choice([0.5, 1.0], (8, 1, n_columns // 4)), 4, axis=2)
    return (spectra[:, :, None] * levels + 0.3 * random.standard_normal((8, 4, n_columns))).astype(np.float32)


def two_group_data():
    return FakeSites(two_generators(400, 0), two_generators(100, 1))


def test_two_groups_of_sites_with_different_generators_end_up_as_two_blocks(tmp_path):
    outcome = run(LEARNING, tmp_path, two_group_data())
    group = np.arange(8) // 4
    same, other = (group[:, None] == group) & ~np.eye(8, dtype=bool), group[:, None] != group
    alike = np.load(tmp_path / "similarity.npz")["similarity"].astype(float)
    before = site_similarity_matrix(np.load(tmp_path / "last" / "sites.npz")["untrained"])
    assert alike[same].min() > 0.5 > -0.5 > alike[other].max()
    assert before[same].min() < before[other].max()
    control = run(replace(LEARNING, use_spatial_embedding=False), tmp_path / "control", two_group_data())
    scores = [one.progress.history[-1]["contrastive_accuracy"] for one in (outcome, control)]
    assert scores[0] > scores[1]


@pytest.mark.parametrize("told", [True, False])
def test_only_who_is_told_its_sites_can_answer_differently_for_hidden_ones(told):
    """The control can but guess: what is hidden at one moment gets one answer."""
    settings = replace(LEARNING, use_spatial_embedding=told)
    model = make_model(settings, 8).eval()
    rule = mask_rule(settings, model.config)
    mask, negatives = rule.draw([0], rule.grid.n_tokens)
    values = torch.randn((1, 1, settings.grid_height, settings.grid_width), generator=torch.Generator().manual_seed(0))
    where = {"recording_site_ids": torch.tensor([[3, 1, 7, 5]])} if told else {}
    answers = model(values, mask, negatives, **where).projected_states[mask].view(2, rule.grid.columns, -1)
    assert torch.equal(answers[0], answers[1]) is not told
    assert not torch.equal(answers[:, 0], answers[:, 1])  # moments differ


def test_white_noise_stays_at_chance(tmp_path):
    score = run(replace(LEARNING, eval_windows=128), tmp_path).progress.history[-1]
    n = 128 * 16 * score["masked_fraction"]
    half = 3.29 * math.sqrt(score["chance"] * (1 - score["chance"]) / n)
    assert abs(score["contrastive_accuracy"] - score["chance"]) < half < 0.06


# ------------------------------------------------------------------------------------------------------- one same run


@pytest.mark.parametrize("until", [2, 3])
def test_going_on_equals_not_stopping_bit_for_bit(finished, tmp_path, until):
    folder, outcome = finished
    first = run(TINY_SITES, tmp_path, watch=Watch(until=until))
    assert (first.progress.update, first.done) == (until, False)
    torch.manual_seed(999)  # whatever the new process did before
    second = run(TINY_SITES, tmp_path)
    assert second.done and second.progress.history == outcome.progress.history
    assert all(torch.equal(value, weights(tmp_path)[name]) for name, value in weights(folder).items())
    assert rows(tmp_path / "sites.jsonl") == rows(folder / "sites.jsonl")


def test_lines_of_later_steps_of_a_killed_process_are_not_there_twice(finished, tmp_path):
    folder, _ = finished
    run(TINY_SITES, tmp_path, watch=Watch(until=3))
    extra = rows(folder / "sites.jsonl")[-1]
    with (tmp_path / "sites.jsonl").open("a") as stream:
        stream.write(json.dumps(extra) + "\n")
    run(TINY_SITES, tmp_path)
    assert [row["step"] for row in rows(tmp_path / "sites.jsonl")] == [3, 6]


def test_lines_are_those_of_every_contrastive_training(finished):
    folder, _ = finished
    both = {"step", "split", "loss", "contrastive_loss", "contrastive_accuracy", "chance", "diversity_loss",
            "perplexity", "masked_fraction"}  # fmt: skip
    train = {"grad_norm", "learning_rate", "gumbel_temperature", "windows_per_second"}
    for row in rows(folder / "metrics.jsonl"):
        assert both <= set(row) and all(isinstance(value, int | float | str) for value in row.values())
        assert row["split"] == "eval" or train <= set(row)


def test_accumulation_is_the_same_update(tmp_path, monkeypatch):
    from tests.training.pretrain_worker import Quantizer, without_noise

    monkeypatch.setattr(Quantizer, "_draw", without_noise)
    even = replace(TINY_SITES, dropout=0.0, spatial_embed_dropout=0.0, max_steps=3, diversity_loss_weight=2.0)
    run(replace(even, batch_size=8), tmp_path / "whole")
    run(replace(even, batch_size=2, gradient_accumulation_steps=4), tmp_path / "parts")
    one, other = (torch.cat([v.flatten().double() for v in weights(tmp_path / n).values()]) for n in ("whole", "parts"))
    assert float((one - other).norm() / one.norm()) < 1e-5


# ------------------------------------------------------------------------------------------------------------- per site


def test_scores_of_sites_add_up_to_the_score_of_all(finished):
    folder, outcome = finished
    for line, score in zip(rows(folder / "sites.jsonl"), outcome.progress.history, strict=True):
        n = np.array(list(line["n"].values()))
        assert list(line["n"]) == list(line["loss"]) == [f"S{i}" for i in range(1, 9)]
        assert n @ list(line["loss"].values()) / n.sum() == pytest.approx(score["contrastive_loss"], rel=1e-5)
        assert n @ list(line["accuracy"].values()) / n.sum() == pytest.approx(score["contrastive_accuracy"], rel=1e-6)


def test_a_site_that_only_evaluation_holds_is_scored_and_counted_as_unseen(tmp_path):
    data = noise_sites()
    data.held = {"train": ((1, 2, 3, 4, 5, 6, 7),), "eval": (tuple(range(1, 9)),)}
    run(replace(TINY_SITES, max_steps=3, batch_size=7), tmp_path, data)
    assert rows(tmp_path / "sites.jsonl")[-1]["n"]["S8"] > 0
    assert np.load(tmp_path / "last" / "sites.npz")["seen"].tolist() == [12] * 7 + [0]


def test_gradients_reach_only_the_sites_of_the_batch():
    task = plan_sites(TINY_SITES, noise_sites(), Place(None, None))
    batch = task.train.batch([0])
    batch.forward(task.model.train()).loss.backward()
    reached = task.model.spatial_embedding.weight.grad.abs().sum(1).nonzero().flatten()
    assert reached.tolist() == sorted(batch.where["recording_site_ids"][0].tolist())


def test_the_snapshot_is_how_alike_the_learned_vectors_are(finished):
    folder, _ = finished
    with np.load(folder / "similarity.npz") as found:
        assert found["step"] == 6 and found["names"].tolist() == [f"S{i}" for i in range(1, 9)]
        learned = load_model(folder / "last", "sites", from_user=True).model.spatial_embedding.weight[1:]
        cosines = torch.cosine_similarity(learned[:, None], learned[None], dim=-1).detach().numpy()
        assert found["similarity"].dtype == np.float16
        np.testing.assert_allclose(found["similarity"], cosines, atol=2e-3)


# ------------------------------------------------------------------------------------------------- rates, checkpoints


def test_spatial_parameters_have_their_own_learning_rate():
    settings = replace(TINY_SITES, spatial_learning_rate=0.25)
    model = make_model(settings, 8)
    task = plan_sites(settings, noise_sites(), Place(None, None))
    optimiser = make_optimiser(model, loop_settings(settings, "data", own_rates=task.own_rates))
    rates = {id(one): group["lr"] for group in optimiser.param_groups for one in group["params"]}
    for name, one in model.named_parameters():
        assert rates[id(one)] == (0.25 if name.startswith(SPATIAL) else settings.learning_rate), name
    assert {name for name, _ in model.named_parameters() if name.startswith(SPATIAL)} == {
        f"{SPATIAL}weight", f"{SPATIAL}projection.weight"
    }  # fmt: skip


def test_embeddings_begin_small_and_random():
    settings = replace(TINY_SITES, spatial_embed_dim=64, spatial_init_std=0.03)
    embeddings = site_embeddings(make_model(settings, 100), 100)
    assert embeddings.std() == pytest.approx(0.03, rel=0.05)
    assert abs(site_similarity_matrix(embeddings)[np.triu_indices(100, 1)].mean()) < 0.01


def test_checkpoints_load_strictly_and_say_what_they_are(finished):
    folder, outcome = finished
    for name in ("best", "last"):
        loaded = load_model(folder / name, "sites", from_user=True)
        assert loaded.model.config.num_recording_sites == 8
    preprocessor = json.loads((folder / "last" / "preprocessor_config.json").read_text())
    assert preprocessor["feature_extractor_type"] == "wav2vec2_2d"
    data = noise_sites()
    assert from_preprocessor(preprocessor).fingerprint() == data.site_input.fingerprint()
    facts = json.loads((folder / "last" / "training.json").read_text())
    assert facts["settings"]["spatial_learning_rate"] == TINY_SITES.spatial_learning_rate
    assert facts["history"] == outcome.progress.history and facts["recipe"] == "python -m core sites train"
    with np.load(folder / "last" / "sites.npz", allow_pickle=False) as kept:
        assert set(kept) == {"untrained", "signal_correlation", "seen"}
        np.testing.assert_array_equal(kept["untrained"], site_embeddings(make_model(TINY_SITES, 8), 8))
        np.testing.assert_array_equal(kept["signal_correlation"], data.signal_correlation)
        assert kept["seen"].sum() == 6 * 2 * 4  # steps x grids x sites


@pytest.mark.parametrize("simulated", [True, False])
def test_the_card_begins_with_simulated_where_the_data_were(tmp_path, simulated):
    data = noise_sites()
    data.simulated = simulated
    run(replace(TINY_SITES, max_steps=3), tmp_path, data)
    text = (tmp_path / "last" / "README.md").read_text()
    first = text.split("# sites-test after 3 steps\n\n")[1].splitlines()[0]
    assert ("simulated" in first) == simulated and ("simulated" in text.lower()) == simulated
    score = rows(tmp_path / "metrics.jsonl", "eval")[-1]
    assert f"| contrastive accuracy | {score['contrastive_accuracy']:.3f} | {score['chance']:.3f} |" in text


def test_a_control_without_spatial_embedding_is_trained_and_has_nothing_to_show(tmp_path):
    outcome = run(replace(TINY_SITES, use_spatial_embedding=False, max_steps=3), tmp_path)
    assert outcome.done and not (tmp_path / "similarity.npz").exists()
    assert rows(tmp_path / "sites.jsonl")[-1]["n"]["S1"] > 0
    assert load_model(tmp_path / "last", "control", from_user=True).model.spatial_embedding is None
    assert np.load(tmp_path / "last" / "sites.npz")["untrained"].shape == (8, 0)


def test_one_site_a_grid_is_the_documents_and_trains_too(tmp_path):
    settings = replace(TINY_SITES, sites_per_grid=1, grid_height=16, mask_rows=2, max_steps=3)
    data = noise_sites(rows=16)
    data.patches = settings.patches
    assert run(settings, tmp_path, data).done


def test_held_out_scores_do_not_depend_on_the_batch_they_are_computed_in():
    task = plan_sites(TINY_SITES, noise_sites(), Place(None, None))
    seen = []
    for size in (1, 3, 4):
        settings = replace(TINY_SITES, batch_size=size)
        told = lambda model, scores: seen.append(scores.sums)  # noqa: E731
        Evaluation(task.held_out, task.n_held_out, settings, Workers(), task.groups, told)(task.model.eval())
    assert len(seen) == 3 and all(torch.allclose(one, seen[0], rtol=1e-5) for one in seen)


class Pair(Workers):
    """One of two processes; what both would say is put together by the test."""

    def __init__(self, number, said):
        super().__init__()
        self.count, self.number, self._said = 2, number, said

    def gather(self, own):
        self._said[self.number].append(own)
        other = self._said[1 - self.number]
        place = len(self._said[self.number]) - 1
        return [own, other[place]] if len(other) > place else [own, torch.zeros_like(own)]


def test_scores_of_sites_are_those_of_all_processes(monkeypatch):
    task = plan_sites(TINY_SITES, noise_sites(), Place(None, None))
    seen, said = [], {0: [], 1: []}
    told = lambda model, scores: seen.append(scores.sums)  # noqa: E731
    monkeypatch.setattr(Pair, "added_up", lambda self, sums: {name: float(value) for name, value in sums.items()})
    monkeypatch.setattr(Pair, "is_main", True)
    for workers in (Workers(), Pair(0, said), Pair(1, said)):
        Evaluation(task.held_out, task.n_held_out, TINY_SITES, workers, task.groups, told)(task.model.eval())
    alone, first, both = seen
    assert torch.allclose(both, alone) and first[:, 2].sum() * 2 == alone[:, 2].sum()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_recording_sites": 5}, "num_recording_sites=8"),
        ({"grid_width": 400}, "400 columns"),
        ({"mask_columns": 9}, "mask blocks"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused_with_the_remedy(changes, words):
    settings = replace(TINY_SITES, **changes)
    data = noise_sites()
    data.patches = settings.patches
    with pytest.raises(InputError, match=words):
        plan_sites(settings, data, Place(None, None))
