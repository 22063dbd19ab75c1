from dataclasses import replace
from itertools import pairwise

import mne
import numpy as np
import pytest
from scipy.signal import welch

from core.errors import InputError
from core.meg.reader import SIMULATED
from core.synthetic.meg import (
    LABELS,
    PACES,
    REGIONS,
    SOURCES,
    SPAN_SECONDS,
    SPHERE_CENTRE,
    Levels,
    Region,
    SimulationSettings,
    Span,
    draw_spans,
    field_of,
    make_info,
    power_line,
    sensor_noise,
    simulate_raw,
    source_signals,
    tangential,
)

SETTINGS = SimulationSettings(seconds=40, seed=3, subject=2)


@pytest.fixture(scope="module")
def raw():
    return simulate_raw(SETTINGS)


@pytest.fixture(scope="module")
def info():
    return make_info(SETTINGS, np.random.default_rng(0))


def sarvas(place, moment, points):
    """Field (points, 3) in tesla of a current dipole in a sphere about the origin (Sarvas 1987, eq. 25)."""
    out = []
    for point in points:
        difference = point - place
        a, r = np.linalg.norm(difference), np.linalg.norm(point)
        inner = difference @ point
        f = a * (r * a + r**2 - place @ point)
        gradient = (a**2 / r + inner / a + 2 * a + 2 * r) * point - (a + 2 * r + inner / a) * place
        turned = np.cross(moment, place)
        out.append(1e-7 / f**2 * (f * turned - (turned @ point) * gradient))
    return np.array(out)


def centred_info(shift=(0.0, 0.0, 0.045)):
    info = make_info(SETTINGS, np.random.default_rng(0))
    with info._unlock():
        info["dev_head_t"]["trans"] = mne.transforms.translation(*shift)
    return info


def test_one_dipole_has_the_field_of_the_closed_form():
    """Averaged over the coil, 21 mm square and 0.3 mm above its place, which MNE does with 4 points."""
    info = centred_info()
    region = REGIONS["motor_left"]
    mags = mne.pick_types(info, meg="mag")
    expected = np.array([coil_average(info["chs"][number]["loc"].reshape(4, 3), region) for number in mags])
    found = field_of(info, [region])[mags, 0]
    np.testing.assert_allclose(found, expected, atol=0.002 * abs(expected).max())


def coil_average(loc, region, side=0.021, n=6):
    place, along, across, normal = loc
    steps = (np.arange(n) + 0.5) / n * side - side / 2
    place = place + 0.0003 * normal
    grid = np.array([place + a * along + b * across for a in steps for b in steps])
    points = grid + np.array([0, 0, 0.045]) - SPHERE_CENTRE
    return (sarvas(np.array(region.place) - SPHERE_CENTRE, tangential(region), points) @ normal).mean()


def test_left_and_right_are_mirrored():
    """Mirrored in x, an axial vector's field changes sign; the table's sensors are mirrored within millimetres."""
    info = centred_info()
    fields = field_of(info, [REGIONS["auditory_left"], REGIONS["auditory_right"]])
    mags = mne.pick_types(info, meg="mag")
    places = np.array([info["chs"][k]["loc"][:3] for k in mags])
    partner = [int(np.argmin(np.linalg.norm(places - place * (-1, 1, 1), axis=1))) for place in places]
    left, right = fields[mags].T
    assert np.corrcoef(left, -right[partner])[0, 1] > 0.98
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.5


@pytest.mark.parametrize(("kind", "level"), [("mag", 3e-15), ("grad", 3e-13)])
def test_noise_of_the_sensors_has_the_stated_density(info, kind, level):
    values = sensor_noise(info, SETTINGS, np.random.default_rng(1))[mne.pick_types(info, meg=kind)]
    frequencies, power = welch(values, 250, nperseg=1000)
    for low, high in ((1, 3), (30, 100)):
        band = (frequencies >= low) & (frequencies <= high)
        expected = level**2 * np.mean(1 + 1 / frequencies[band])
        np.testing.assert_allclose(power[:, band].mean(), expected, rtol=0.04)


def test_the_power_line_is_where_it_is_said_to_be(info):
    gains, course = power_line(info, SETTINGS, np.random.default_rng(0))
    line = gains[mne.pick_types(info, meg="mag")] * course
    frequencies, power = welch(line, 250, nperseg=2500)
    assert frequencies[power.mean(axis=0).argmax()] == info["line_freq"] == 50
    assert abs(line).max() <= 1.2 * Levels().line


def test_what_a_recording_says_of_itself(raw):
    info = raw.info
    assert info["description"].startswith(SIMULATED)
    assert "seed 3" in info["description"] and "subject 2" in info["description"]
    assert info["subject_info"]["his_id"] == "sim-002"
    assert raw.n_times == 10_000 and raw.info["sfreq"] == 250
    kinds = raw.get_channel_types()
    assert (kinds.count("mag"), kinds.count("grad")) == (102, 204)
    assert 1e-13 < raw.get_data("mag").std() < 5e-13
    assert 2e-12 < raw.get_data("grad").std() < 1e-11


def test_a_seed_gives_the_same_again_and_others_differ(raw):
    again = simulate_raw(SETTINGS)
    assert np.array_equal(raw.get_data(), again.get_data())
    assert list(raw.annotations.description) == list(again.annotations.description)
    other = simulate_raw(replace(SETTINGS, seconds=4, seed=4))
    same = simulate_raw(replace(SETTINGS, seconds=4))
    head = simulate_raw(replace(SETTINGS, seconds=4, subject=5))
    assert abs(np.corrcoef(other.get_data()[2], same.get_data()[2])[0, 1]) < 0.5
    assert np.array_equal(other.info["dev_head_t"]["trans"], raw.info["dev_head_t"]["trans"])
    assert not np.allclose(head.info["dev_head_t"]["trans"], raw.info["dev_head_t"]["trans"], atol=1e-4)


def test_sources_are_balanced_and_back_to_back():
    spans = draw_spans(2_400, np.random.default_rng(0))
    counts = [sum(span.source == source for span in spans) for source in SOURCES]
    assert max(counts) - min(counts) <= 1 and min(counts) >= 25
    assert {span.label for span in spans} == set(LABELS)
    assert all(first.source != second.source for first, second in pairwise(spans))
    for first, second in pairwise(spans):
        assert second.onset == pytest.approx(first.onset + first.duration)
    assert all(SPAN_SECONDS[0] <= span.duration <= SPAN_SECONDS[1] for span in spans)
    assert spans[-1].onset + spans[-1].duration <= 2_400


def test_a_label_is_not_in_the_mean_of_a_sensor():
    """No sensor's mean over a span tells its label: the best of 306 F statistics is what chance gives."""
    from scipy.stats import f_oneway

    long = simulate_raw(replace(SETTINGS, seconds=100)).filter(1, None, verbose="ERROR")
    values = long.get_data()
    groups = {label: [] for label in LABELS}
    for span in long.annotations:
        first = round(span["onset"] * 250)
        groups[span["description"]].append(values[:, first : first + 500].mean(axis=1))
    p = f_oneway(*(np.array(rows) for rows in groups.values())).pvalue
    assert p.min() > 0.05 / 306 / 10


def amplitude_at(signal, frequency, rate=250):
    """Of a tone over whole seconds: the closed form, twice the mean of its product with a turning unit vector."""
    turning = np.exp(-2j * np.pi * frequency * np.arange(len(signal)) / rate)
    return 2 * np.mean(signal * turning)


@pytest.mark.parametrize("label", list(PACES))
def test_an_attended_source_is_as_strong_as_stated_and_the_others_are_silent(label):
    levels = Levels()
    signals = source_signals([Span(0, 20, label)], SimulationSettings(seconds=20), np.random.default_rng(0))
    middle = dict(zip(REGIONS, signals[:, 2500:4750], strict=True))  # nine whole seconds
    assert abs(amplitude_at(middle[label], PACES[label])) == pytest.approx(levels.response, rel=1e-3)
    for region in set(REGIONS) - {label}:
        weak = np.abs(middle[region]).max()
        assert weak == pytest.approx(levels.response * levels.unattended, abs=1e-3 * levels.response)


def test_a_response_keeps_step_with_its_stimulus_through_the_recording():
    spans = [Span(0, 10, "visual"), Span(10, 10, "rest"), Span(20, 10, "visual")]
    signals = source_signals(spans, SimulationSettings(seconds=30), np.random.default_rng(0))
    row = signals[list(REGIONS).index("visual")]
    first, rest, last = (amplitude_at(row[start : start + 1000], 12.0) for start in (750, 3250, 5750))
    assert first == pytest.approx(last, abs=1e-12)
    assert rest / first == pytest.approx(Levels().unattended, rel=1e-3)


def test_radial_currents_are_turned():
    region = Region((0.0, 0.0, 0.09), (0.0, 0.5, 1.0))
    np.testing.assert_allclose(tangential(region), (0, 1, 0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seconds": 0.2}, "at least 1 s"),
        ({"seconds": float("nan")}, "at least 1 s"),
        ({"sampling_rate": 20.0}, "at least 100 Hz"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_what_cannot_be_simulated_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        SimulationSettings(**change)
