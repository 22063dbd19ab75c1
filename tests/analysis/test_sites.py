"""What is said of sites, against scipy, brute force, closed forms and planted truths."""

import itertools

import numpy as np
import pytest
from scipy import stats

from core.analysis.site_agreement import mantel, place_blocks, spearman_over_pairs
from core.analysis.site_recovery import hemispheres, learnable_labels, places_of, recover
from core.analysis.sites import (
    hierarchical_order,
    nearest_sites,
    site_distances,
    site_maps,
    site_similarity_matrix,
)
from core.errors import DataError


def sphere(n, seed=0):
    points = np.random.default_rng(seed).normal(size=(n, 3))
    return 0.09 * points / np.linalg.norm(points, axis=1, keepdims=True)


def smooth(positions, dim=32, noise=0.0, seed=0):
    """Embeddings that are a smooth function of positions."""
    rng = np.random.default_rng(seed)
    return 11 * positions @ rng.normal(size=(3, dim)) + noise * rng.normal(size=(len(positions), dim))


def symmetric(n, seed):
    values = np.random.default_rng(seed).normal(size=(n, n))
    return values + values.T


class TestSimilarity:
    def test_is_the_cosine(self):
        found = site_similarity_matrix(np.array([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0], [1.0, 1.0]]))
        half = np.sqrt(0.5)
        assert np.allclose(found, [[1, 0, -1, half], [0, 1, 0, half], [-1, 0, 1, -half], [half, half, -half, 1]])
        assert (np.diag(found) == 1).all()

    def test_random_rows_are_where_the_document_would_take_them_for_learned(self):
        found = site_similarity_matrix(np.random.default_rng(0).normal(size=(64, 256)))
        values = np.abs(found[np.triu_indices(64, 1)])
        assert values.mean() == pytest.approx(np.sqrt(2 / np.pi / 256), rel=0.05)
        assert 0.2 < values.max() < 0.35

    def test_a_row_of_zeros_has_no_direction(self):
        with pytest.raises(DataError, match=r"site 2 \(1 such of 3\)"):
            site_similarity_matrix(np.array([[1.0], [0.0], [1.0]]))
        with pytest.raises(DataError, match="site 1"):
            site_similarity_matrix(np.array([[np.nan], [1.0]]))

    def test_two_planted_groups_stand_in_two_blocks(self):
        rng, groups = np.random.default_rng(1), np.arange(20) % 2
        found = site_similarity_matrix(rng.normal(size=(2, 16))[groups] + 0.4 * rng.normal(size=(20, 16)))
        ordered = groups[hierarchical_order(found)]
        assert (np.diff(ordered) != 0).sum() == 1

    @pytest.mark.parametrize("n", [1, 2])
    def test_one_and_two_sites_have_an_order(self, n):
        assert hierarchical_order(np.eye(n)).tolist() == list(range(n))

    def test_nearest_leaves_a_site_itself_out(self):
        found = nearest_sites(np.array([[1, 0.2, 0.9], [0.2, 1, 0.1], [0.9, 0.1, 1]]), ("a", "b", "c"))
        assert found == {"a": (("c", 0.9), ("b", 0.2)), "b": (("a", 0.2), ("c", 0.1)), "c": (("a", 0.9), ("b", 0.1))}
        assert nearest_sites(np.eye(1), ("a",)) == {"a": ()}

    def test_maps_keep_what_has_only_two_dims(self):
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        maps = site_maps(3 * np.column_stack([np.cos(angles), np.sin(angles)]))
        assert np.allclose(np.linalg.norm(maps["pca2"], axis=1), 1)
        assert np.allclose(maps["pca3"][:, 2], 0)
        assert maps["tsne2"].shape == (12, 2)
        assert np.isfinite(maps["tsne2"]).all()

    def test_few_sites_have_no_tsne(self):
        assert sorted(site_maps(np.eye(4))) == ["pca2", "pca3"]
        assert site_maps(np.ones((1, 3)))["pca3"].tolist() == [[0, 0, 0]]


class TestAgreement:
    def test_spearman_is_scipys_with_ties_and_unknown_pairs(self):
        first, second = np.round(symmetric(15, 0), 1), np.round(symmetric(15, 1) + symmetric(15, 0), 1)
        second[3, 5] = second[5, 3] = np.nan
        pairs = np.triu_indices(15, 1)
        known = np.isfinite(second[pairs])
        expected = stats.spearmanr(first[pairs][known], second[pairs][known]).statistic
        assert spearman_over_pairs(first, second) == pytest.approx(expected, abs=1e-12)

    def test_p_is_that_of_all_permutations(self):
        first, second = symmetric(6, 2), symmetric(6, 3) + 0.6 * symmetric(6, 2)
        pairs = np.triu_indices(6, 1)
        observed = stats.spearmanr(first[pairs], second[pairs]).statistic
        every = [
            stats.spearmanr(first[pairs], second[np.ix_(order, order)][pairs]).statistic
            for order in map(list, itertools.permutations(range(6)))
        ]
        exact = np.mean(np.array(every) >= observed - 1e-12)
        assert 0.001 < exact < 0.5
        spearman, p = mantel(first, second, 4_000)
        assert spearman == pytest.approx(observed)
        assert p == pytest.approx(exact, abs=4 * np.sqrt(exact / 4_000))

    def test_a_smooth_function_of_positions_goes_with_distance(self):
        positions = sphere(40)
        similarity = site_similarity_matrix(smooth(positions, dim=64))
        spearman, p = mantel(similarity, -site_distances(positions), 999)
        assert spearman > 0.9
        assert p == 1 / 1000

    def test_shuffled_sites_are_at_chance(self):
        positions, order = sphere(40), np.random.default_rng(3).permutation(40)
        similarity = site_similarity_matrix(smooth(positions)[order])
        spearman, p = mantel(similarity, -site_distances(positions), 999)
        assert abs(spearman) < 0.25
        assert p > 0.01

    def test_p_is_uniform_where_there_is_nothing(self):
        found = [mantel(symmetric(12, seed), symmetric(12, 1_000 + seed), 99)[1] for seed in range(200)]
        assert stats.kstest(found, "uniform").pvalue > 0.001

    def test_counting_pairs_would_be_far_too_sure(self):
        """What is of one site is in all of its pairs: they are not independent."""
        taken = []
        for seed in range(60):
            first, second = (np.random.default_rng([seed, one]).normal(size=(20, 1)) for one in (0, 1))
            apart = [values + values.T for values in (first, second)]
            pairs = np.triu_indices(20, 1)
            naive = stats.spearmanr(*(one[pairs] for one in apart), alternative="greater").pvalue
            taken.append((naive < 0.05, mantel(*apart, 99, seed)[1] <= 0.05))
        naive, mantels = np.mean(taken, axis=0)
        assert naive > 0.12
        assert mantels < 0.1

    def test_a_constant_agrees_with_nothing(self):
        assert np.isnan(mantel(symmetric(5, 0), np.ones((5, 5)))).all()

    def test_pairs_at_one_place_are_the_nearest(self):
        positions = np.repeat(sphere(10), 2, axis=0)
        similarity = site_similarity_matrix(smooth(positions, noise=0.1))
        pairs = np.triu_indices(20, 1)
        distances = -site_distances(positions)
        expected = stats.spearmanr(similarity[pairs], distances[pairs]).statistic
        assert (distances[pairs] == 0).sum() == 10
        assert mantel(similarity, distances, 9)[0] == pytest.approx(expected)

    def test_likeness_within_places_alone_is_no_geometry(self):
        """Triplets whose sensors share a direction, places that know nothing of each other: p is uniform."""
        singly, together = [], []
        for seed in range(60):
            positions = np.repeat(sphere(12, seed), 3, axis=0)
            rng = np.random.default_rng([seed, 1])
            embeddings = np.repeat(rng.normal(size=(12, 16)), 3, axis=0) + 0.3 * rng.normal(size=(36, 16))
            pair = site_similarity_matrix(embeddings), -site_distances(positions)
            singly.append(mantel(*pair, 99, seed)[1])
            together.append(mantel(*pair, 99, seed, places_of(positions))[1])
        assert np.mean(np.array(singly) <= 0.05) > 0.5
        assert stats.kstest(together, "uniform").pvalue > 0.01

    def test_places_of_a_size_are_exchanged_as_a_whole(self):
        blocks = place_blocks(np.array([2, 0, 2, 1, 1, 5]))
        assert [block.tolist() for block in blocks] == [[[1], [5]], [[3, 4], [0, 2]]]


class TestRecovery:
    def test_sides_are_told_by_x_and_the_midline_by_neither(self):
        x = np.array([-0.08, 0.08, 0.003, -0.003, np.nan, 0.02])
        found = hemispheres(np.column_stack([x, np.zeros((6, 2))]))
        assert found.tolist() == ["left", "right", "", "", "", "right"]
        assert set(hemispheres(np.full((3, 3), np.nan))) == {""}

    def test_places_are_shared_within_a_millimetre(self):
        positions = np.array([[0, 0, 0], [0.0005, 0, 0], [0.02, 0, 0], [np.nan] * 3, [np.nan] * 3])
        assert places_of(positions).tolist() == [0, 0, 1, 2, 3]

    def test_planted_sides_are_recovered(self):
        positions = sphere(80)
        found = recover(smooth(positions), hemispheres(positions), places_of(positions), shuffles=500)
        assert found.accuracy > 0.85
        assert found.p == 1 / 501
        assert found.shuffled[0] < found.shuffled[1] < found.shuffled[2] < 0.75
        assert found.shuffled[1] == pytest.approx(0.5, abs=0.04)
        assert found.classes == ("left", "right")

    def test_the_same_by_sklearn(self):
        from sklearn.metrics import balanced_accuracy_score
        from sklearn.model_selection import LeaveOneOut, cross_val_predict
        from sklearn.neighbors import KNeighborsClassifier

        positions = sphere(60)
        embeddings, labels = smooth(positions, noise=0.5), np.where(positions[:, 0] > 0, "right", "left")
        said = cross_val_predict(KNeighborsClassifier(5, metric="cosine"), embeddings, labels, cv=LeaveOneOut())
        expected = balanced_accuracy_score(labels, said)
        assert 0.6 < expected < 0.98
        assert recover(embeddings, labels, np.arange(60), shuffles=0).accuracy == pytest.approx(expected)

    def test_random_embeddings_are_at_chance(self):
        positions = sphere(80)
        found = recover(np.random.default_rng(5).normal(size=(80, 16)), hemispheres(positions), np.arange(80))
        assert 0.35 < found.accuracy < 0.65
        assert found.p > 0.02

    def test_sensors_of_one_place_do_not_vouch_for_each_other(self):
        """Each place has a direction of its own, which its three sensors share: nothing is known of the head."""
        positions = np.repeat(sphere(50), 3, axis=0)
        rng = np.random.default_rng(6)
        embeddings = np.repeat(rng.normal(size=(50, 64)), 3, axis=0) + 0.01 * rng.normal(size=(150, 64))
        sides = hemispheres(positions)
        fair = recover(embeddings, sides, places_of(positions), shuffles=500)
        assert recover(embeddings, sides, np.arange(150), k=2, shuffles=0).accuracy == 1.0
        assert fair.accuracy < 0.65
        assert fair.p > 0.02

    def test_shuffles_keep_places_together(self):
        """Shuffling single sensors would draw the bound of chance far too close: triplets vote as one."""
        positions = np.repeat(sphere(50), 3, axis=0)
        rng = np.random.default_rng(6)
        embeddings = np.repeat(rng.normal(size=(50, 64)), 3, axis=0) + 0.01 * rng.normal(size=(150, 64))
        by_place = recover(embeddings, hemispheres(positions), places_of(positions), shuffles=500)
        assert by_place.shuffled[2] > 0.58

    def test_regions_too_small_to_be_told_are_left_out(self):
        labels = np.array(["frontal"] * 4 + ["occipital"] * 4 + ["insula"] * 3 + [""])
        assert learnable_labels(labels, np.arange(12), 5).tolist() == [True] * 8 + [False] * 4
        # four sensors at two places: the one's own neighbours at the other place are too few
        assert not learnable_labels(np.array(["a"] * 4 + ["b"] * 4), np.arange(8) // 2, 5).any()

    def test_one_class_is_no_question(self):
        assert recover(np.eye(6), np.array(["left"] * 6), np.arange(6)) is None
