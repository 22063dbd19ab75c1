"""Made findings agree with themselves: shapes, sizes, and the numbers that are computed."""

import numpy as np

from tests.findings_fakes import make_analysis, make_findings


def test_made_findings_agree_with_their_values():
    findings, points = make_analysis(n_models=2, n_layers=5, n=90, control=True, n_recordings=3)
    assert [model.control for model in findings.models] == [False, False, True, True]
    assert [model.fine_tuned for model in findings.models] == [False, True, False, False]
    for model in findings.models:
        values = points[model.model].values
        assert values.shape == (5, 90, 16)
        assert len(model.table) == 90
        assert sum(facts["frames"] for facts in findings.recordings) == model.n_frames
        np.testing.assert_allclose([s.std for s in model.statistics], values.std(axis=(1, 2)), rtol=1e-5)
        np.testing.assert_allclose(np.diag(model.similarity.matrix), 1.0)
        for place, projection in enumerate(model.projections):
            total = values[place].var(axis=0).sum()
            np.testing.assert_allclose(projection.pca.var(axis=0) / total, projection.explained[:3], rtol=1e-3)


def test_one_recording_has_no_intervals():
    model = make_findings(n_recordings=1).models[0]
    assert model.similarity.low is None
    assert all(curve.low is None for curve in model.curves)
    assert "speaker_accuracy" in model.skipped


def test_optional_parts_can_be_left_out():
    model = make_findings(n_layers=1, with_tsne=False, with_curves=False).models[0]
    assert model.curves == ()
    assert model.projections[0].tsne is None
    assert model.projections[0].tsne_note
