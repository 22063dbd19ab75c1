"""Made evaluations agree with themselves: scores are those of scikit-learn on the made probabilities."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from tests.scoring_fakes import make_emotion, make_map, make_prediction


@pytest.mark.parametrize(("n_classes", "n_speakers"), [(2, 2), (7, 10), (12, 30)])
def test_scores_are_those_of_the_made_probabilities(n_classes, n_speakers):
    findings = make_emotion(n_classes, n_speakers, each=2)
    for one in (findings.main, findings.baseline, findings.shuffled):
        said = one.probabilities.argmax(axis=1)
        assert one.uar.value == pytest.approx(recall_score(one.truth, said, average="macro"))
        assert one.wa.value == pytest.approx(accuracy_score(one.truth, said))
        assert one.macro_f1.value == pytest.approx(f1_score(one.truth, said, average="macro"))
        np.testing.assert_array_equal(one.confusion, confusion_matrix(one.truth, said))
        np.testing.assert_array_equal(said, one.uncalibrated.argmax(axis=1))
        assert (one.uar.low is None) == (n_speakers < 3)
    assert findings.main.uar.value > findings.baseline.uar.value > findings.shuffled.uar.value


@pytest.mark.parametrize("kind", ["unsure", "silence", "short", "unlike"])
def test_who_abstains_says_no_class(kind):
    said = make_prediction(kind).clip
    assert (said.label, said.why) == ("", kind)
    assert said.probabilities.sum() == pytest.approx(1)


def test_a_clip_is_not_its_own_neighbour():
    made = make_map(3, 4)
    assert all(row not in [other.clip for other in near] for row, near in enumerate(made.neighbours))
