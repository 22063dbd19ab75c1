"""The comparison table, filled from measurements: what each model shows, and whether the numbers tell them apart.

A verdict never says more than the numbers do: where intervals overlap there is no difference, where there is no
interval only differences over a stated size are named, and numbers that depend on the count of rows are compared at
like counts, or at counts where they hardly do. No cause is named and no meaning is given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from core.analysis.clusters import all_alike
from core.findings import Curve, LayersFindings, ModelFindings, Similarity

LIKE_N = 1.1
"""Factor within which counts of rows are alike: an encoder may pad itself to a frame more a recording. A rank of n
independent rows of d dims is short of its limit by a factor of about exp(-d / 2n), or with fewer rows than dims grows
as n (Page 1993): a tenth more rows lift it by a tenth at most, half of what is called a trend."""

ROWS_PER_DIM = 10
"""Rows a dim from which ranks, shares and fits hardly depend on the count: a rank is then within 5 % of its limit."""

FAR_N = 2.0
"""Factor by which counts may differ even then. The rates of speech encoders (50 a second, 75 for EnCodec) are within
it; neighbouring rows are alike, so that :data:`ROWS_PER_DIM` promises less than it would of independent ones."""

CENTRED = 0.1
"""Largest |mean| / std that counts as zero-centred: the mean then holds under 1 % of the mean square."""

STANDS_OUT = 1.1
"""Factor by which a peak is over the next layer to stand out: deviations come without an interval."""

RANGE_DIFFERS = 1.5
"""Factor between two spreads of variances from which they are called different: they come without an interval."""

SHARP_DROP = 0.1
"""How far the similarity of two neighbouring layers is below the median of all neighbours at a sharp boundary. A tenth
of the scale can be seen in the matrix; where there are intervals, they must be apart as well."""

RISE = 0.05
"""How much more like the first layer the last one is than the least similar one, for a rise at the top."""

EXPLAINED_DIFFERS = 0.05
"""Difference of explained shares (over their floors) from which they are called different: they have no interval."""

TREND = 1.2
"""Factor between the first and the last layer's effective rank from which it rises or falls; ranks have no interval."""

ANISOTROPY_DIFFERS = 0.1
"""Difference of mean cosines that is named; they are exact for these rows, but have no interval for others."""

FEWEST_RECORDINGS = 3
"""Recordings from which groups of layers and the least similar layers are claimed: two say nothing of a third."""

WIDEST = 1.0
"""Width of an interval, on a scale from -1 to 1, from which the same is not claimed either."""

MOST_NAMED = 6
"""Layers or pairs that are named where they are not told apart; the rest is counted."""

OVERLAP = "No difference beyond the interval."
NO_INTERVAL = "Not told apart: an interval is missing."
NOT_COMPUTED = "not computed"
NOT_COMPARED = "Not compared: "

STEP = "step much below the others"
STEPS = "steps much below the others"

_KINDS = {"cka": "CKA", "cosine": "cosine", "pwcca": "PWCCA"}


@dataclass(frozen=True)
class ComparisonRow:
    """One line of the table.

    Attributes:
        aspect: What is looked at.
        first: What the first model shows.
        second: What the second one shows; empty for one model.
        verdict: What the numbers support about the two; empty for one model.
    """

    aspect: str
    first: str
    second: str
    verdict: str


@dataclass(frozen=True)
class _Value:
    """A number with its interval, if it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = f" [{self.low:.2f}, {self.high:.2f}]" if self.has_interval else ""
        return f"{self.value:.2f}{interval}" if np.isfinite(self.value) else NOT_COMPUTED

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return self.low is not None and self.high is not None and bool(np.isfinite([self.low, self.high]).all())


@dataclass(frozen=True)
class _Aspect:
    """How one line is made.

    Attributes:
        name: What is looked at.
        describe: Says what a model shows.
        judge: Says what two models' numbers support.
        n: Gives the rows behind a number; None where there is no such number.
        depends_on_n: Whether the number would be another one with more rows. Means, deviations, variances and cosines
            would not, nor would unbiased CKA; PWCCA keeps more axes of more rows.
        fewest: Layers that both models must have.
    """

    name: str
    describe: Callable[[ModelFindings], str]
    judge: Callable[[ModelFindings, ModelFindings], str]
    n: Callable[[ModelFindings], int | None]
    depends_on_n: Callable[[ModelFindings], bool] = lambda model: False
    fewest: int = 1


def compared(findings: LayersFindings) -> tuple[ModelFindings, ...]:
    """Return the models in the columns: the two asked for; else the one and its random weights; else the one."""
    asked = [model for model in findings.models if not model.control]
    controls = [model for model in findings.models if model.control]
    return tuple((asked if len(asked) > 1 else asked + controls)[:2])


def compare_models(findings: LayersFindings) -> tuple[ComparisonRow, ...]:
    """Fill the table for :func:`compared`: two models, a model and its random weights, or one model by itself."""
    models = compared(findings)
    aspects = (*_ASPECTS, *_property_aspects(findings, models))
    rows = [_row(aspect, models) for aspect in aspects]
    cross = findings.cross
    return (*rows, *([_cross_row(cross)] if cross is not None and len(models) > 1 else []))


def _row(aspect: _Aspect, models: Sequence[ModelFindings]) -> ComparisonRow:
    first, second = models[0], models[1] if len(models) > 1 else None
    if second is None:
        return ComparisonRow(aspect.name, aspect.describe(first), "", "")
    return ComparisonRow(aspect.name, aspect.describe(first), aspect.describe(second), _verdict(aspect, first, second))


def _verdict(aspect: _Aspect, first: ModelFindings, second: ModelFindings) -> str:
    """Judge, unless the numbers do not compare; where their counts of rows differ, they are told."""
    ours, theirs = aspect.n(first), aspect.n(second)
    if ours is None or theirs is None:
        return aspect.judge(first, second)
    if set(first.table.recordings) != set(second.table.recordings):
        return f"{NOT_COMPARED}the recordings differ."
    if min(len(first.layers), len(second.layers)) < aspect.fewest:
        return f"{NOT_COMPARED}it takes at least {aspect.fewest} layers."
    if aspect.depends_on_n(first) and not counts_compare((ours, first.dim), (theirs, second.dim)):
        return f"{NOT_COMPARED}it depends on the number of rows, {ours:,} against {theirs:,}."
    verdict = aspect.judge(first, second)
    told = ours != theirs and not verdict.startswith(NOT_COMPARED)
    return f"{verdict} From {ours:,} against {theirs:,} rows." if told else verdict


def counts_compare(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether numbers that depend on the count of rows compare.

    Args:
        first: Rows of one model, and its dims.
        second: Those of the other.
    """
    more, fewer = max(first[0], second[0]), min(first[0], second[0])
    plenty = all(n >= ROWS_PER_DIM * dim for n, dim in (first, second))
    return more <= (FAR_N if plenty else LIKE_N) * fewer


# Words


def _named(first: ModelFindings, second: ModelFindings) -> tuple[str, str]:
    return first.model, second.model


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def _span(layers: Sequence[int]) -> str:
    return f"{layers[0]}" if len(layers) == 1 else f"{layers[0]}–{layers[-1]}"


def _and(names: Sequence[str]) -> str:
    """Join names as people do, and count those beyond :data:`MOST_NAMED`.

    >>> _and(["4", "6"]), _and([str(layer) for layer in range(9)])
    ('4 and 6', '0, 1, 2, 3, 4, 5 and 3 more')
    """
    named = [*names[:MOST_NAMED], *([f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else [])]
    return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))


def _tied(others: Sequence[str], n_others: int, word: str) -> str:
    """Say which others are not told apart from the one that was named; ``word`` is what they are, in the singular."""
    if not others:
        return f"apart from all other {word}s"
    if len(others) == n_others > 1:
        return f"not told apart from any other {word}"
    return f"not told apart from {word}{'s' * (len(others) > 1)} {_and(others)}"


def _largest(values: Sequence[tuple[float, int]], form: Callable[[float], str]) -> str:
    """Name the largest value of a layer beside the next: there is no interval that would tell them apart."""
    ordered = sorted(values, key=lambda value: value[0], reverse=True)[:2]
    return "largest " + ", ".join(f"{form(value)} at layer {layer}" for value, layer in ordered)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _apart(first: _Value, second: _Value) -> str:
    """Say which of two values is higher beyond the intervals: ``first``, ``second``, ``neither`` or ``unknown``."""
    if not (first.has_interval and second.has_interval):
        return "unknown"
    assert first.low is not None and first.high is not None and second.low is not None and second.high is not None
    if first.low > second.high:
        return "first"
    return "second" if second.low > first.high else "neither"


def _judged(first: _Value, second: _Value, names: tuple[str, str], what: str) -> str:
    """Put :func:`_apart` into words."""
    if not (np.isfinite(first.value) and np.isfinite(second.value)):
        return f"{NOT_COMPARED}{what} was not computed for both."
    higher = _apart(first, second)
    if higher == "unknown":
        return NO_INTERVAL
    if higher == "neither":
        return OVERLAP
    name = names[0] if higher == "first" else names[1]
    return f"{what[:1].upper()}{what[1:]} is higher in {name}, by {abs(first.value - second.value):.2f}."


# Training state and rows


def training_mark(model: ModelFindings) -> str:
    """Say how labels took part in training, empty where they did not: Whisper was never anything but trained on them.

    Returns:
        ``fine-tuned``, ``trained on labels`` or an empty string.
    """
    if not model.fine_tuned:
        return ""
    kinds = f"{model.facts.get('architecture', '')} {model.facts.get('model_type', '')}".lower()
    return "trained on labels" if "whisper" in kinds else "fine-tuned"


def _training(model: ModelFindings) -> str:
    return "random weights" if model.control else training_mark(model) or "not marked as fine-tuned"


def _judge_training(first: ModelFindings, second: ModelFindings) -> str:
    if _training(first) == _training(second):
        return "Same training state."
    return f"Training states differ: {_training(first)} against {_training(second)}."


def _rows(model: ModelFindings) -> str:
    return f"{model.n_rows:,} rows from {model.n_frames:,} frames, {model.dim} dims, layers {_span(model.layers)}"


def _judge_rows(first: ModelFindings, second: ModelFindings) -> str:
    counts = first.n_rows, second.n_rows
    share = 1 - min(counts) / max(counts)
    same = f"Rows differ by {_percent(share)}" if share else "Same number of rows"
    strides = [model.facts.get("frame_stride") for model in (first, second)]
    if not all(isinstance(stride, float | int) and stride > 0 for stride in strides) or strides[0] == strides[1]:
        return f"{same}."
    rates = " against ".join(f"{1 / stride:.4g}" for stride in strides if stride)
    return f"{same}; frame rates differ, {rates} a second."


# Stages and similarity


def _stages(model: ModelFindings) -> str:
    similarity, clusters = model.similarity, model.similarity.clusters
    doubt = _doubt(model)
    if len(model.layers) < 2:
        return "only one layer"
    if np.isnan(similarity.matrix).all():
        return NOT_COMPUTED
    if len(clusters) > 1:
        groups = ", ".join(_span(cluster) for cluster in clusters)
        return f"{len(clusters)} groups of layers: {groups}; {doubt or 'groups have no interval'}"
    # Rounded down, so that it holds for all layers.
    least = f"{np.floor(100 * np.nanmin(similarity.matrix)) / 100:.2f}"
    kind = _KINDS[similarity.kind]
    alike = all_alike(similarity.matrix)
    steps = "in single steps" if sharp_boundaries(similarity) else "without steps"
    told = f"all layers alike ({kind} at least {least})" if alike else f"no groups: {kind} falls {steps}, to {least}"
    return f"{told}; {doubt}" if doubt else told


def _doubt(model: ModelFindings) -> str:
    """Say why groups and the least similar layers are not claimed; empty where nothing speaks against it."""
    similarity, n = model.similarity, len(model.table.recordings)
    if n < FEWEST_RECORDINGS:
        return f"not claimed, from {n} recording{'s' * (n != 1)} only"
    if similarity.low is None or similarity.high is None or np.isnan(similarity.high - similarity.low).all():
        return ""
    widest = float(np.nanmax(similarity.high - similarity.low))
    return f"not claimed, intervals are up to {widest:.1f} wide" if widest >= WIDEST else ""


def _judge_stages(first: ModelFindings, second: ModelFindings) -> str:
    doubts = [model.model for model in (first, second) if _doubt(model)]
    if doubts:
        return f"Not told apart: groups are not claimed for {_list(doubts)}."
    ours, theirs = (len(model.similarity.clusters) for model in (first, second))
    if max(ours, theirs) < 2:
        alike = [model.model for model in (first, second) if all_alike(model.similarity.matrix)]
        return "No groups in either" + (f"; layers are all alike in {alike[0]} only." if len(alike) == 1 else ".")
    if first.similarity.clusters == second.similarity.clusters:
        return "Same groups."
    if ours != theirs:
        told = " against ".join(f"{n} groups" if n > 1 else "no groups" for n in (ours, theirs))
        return f"{told[:1].upper()}{told[1:]}; groups have no interval."
    return "As many groups, with other borders; borders have no interval."


def _at(similarity: Similarity, row: int, column: int) -> _Value:
    if similarity.low is None or similarity.high is None:
        return _Value(float(similarity.matrix[row, column]))
    ends = (float(end[row, column]) for end in (similarity.low, similarity.high))
    return _Value(float(similarity.matrix[row, column]), *ends)


def sharp_boundaries(similarity: Similarity) -> tuple[tuple[int, int], ...]:
    """Find neighbouring layers that are much less alike than neighbours are.

    Their similarity is ``SHARP_DROP`` below the median of all neighbours; where there are intervals, its upper end is
    below the median of the lower ends as well.
    """
    steps = [_at(similarity, place, place + 1) for place in range(len(similarity.rows) - 1)]
    if len(steps) < 3 or np.isnan([step.value for step in steps]).all():
        return ()
    median = float(np.nanmedian([step.value for step in steps]))
    lows = [step.low for step in steps if step.low is not None]
    bound = float(np.nanmedian(lows)) if lows else np.inf
    sharp = [step.value < median - SHARP_DROP and (step.high is None or step.high < bound) for step in steps]
    return tuple(pair for pair, is_sharp in zip(pairwise(similarity.rows), sharp, strict=True) if is_sharp)


def _neighbours(model: ModelFindings) -> str:
    similarity = model.similarity
    steps = np.diagonal(similarity.matrix, 1)
    if len(steps) < 3 or np.isnan(steps).all():
        return "too few layers"
    values = {pair: _at(similarity, place, place + 1) for place, pair in enumerate(pairwise(similarity.rows))}
    pairs = sharp_boundaries(similarity)
    pattern = f"{STEPS} at {_pairs(pairs)}" if pairs else f"no {STEP}"
    kind = _KINDS[similarity.kind]
    least = _least({f"{a}–{b}": value for (a, b), value in values.items()}, "pair")
    return f"{pattern}; {kind} {np.nanmedian(steps):.2f} (median), {least}"


def _least(values: Mapping[str, _Value], word: str) -> str:
    """Name the least value and what is not told apart from it; without intervals, the next one beside it."""
    known = {name: value for name, value in values.items() if np.isfinite(value.value)}
    ordered = sorted(known, key=lambda name: known[name].value)
    least = known[ordered[0]]
    where = f"least {least} at {word} {ordered[0]}"
    if not least.has_interval:
        return f"{where}, " + "".join(f"{known[name]} at {name}, " for name in ordered[1:2]) + "no interval"
    ties = [name for name in known if name != ordered[0] and _apart(known[name], least) != "first"]
    return f"{where}, {_tied(ties, len(known) - 1, word)}"


def _pairs(pairs: Sequence[tuple[int, int]]) -> str:
    return _list([f"{a}–{b}" for a, b in pairs])


def _judge_neighbours(first: ModelFindings, second: ModelFindings) -> str:
    if first.similarity.low is None or second.similarity.low is None:
        return NO_INTERVAL
    ours, theirs = sharp_boundaries(first.similarity), sharp_boundaries(second.similarity)
    if ours == theirs:
        return f"{STEPS[:1].upper()}{STEPS[1:]} in the same places." if ours else f"No {STEP} in either."
    alone = [pair for pair in set(ours) ^ set(theirs) if _steps_differ(pair, first.similarity, second.similarity)]
    if not alone:
        return OVERLAP
    sides = (_pairs([pair for pair in pairs if pair in alone]) for pairs in (ours, theirs))
    return f"{STEPS[:1].upper()}{STEPS[1:]} in one model only: {' against '.join(sides)}."


def _steps_differ(pair: tuple[int, int], first: Similarity, second: Similarity) -> bool:
    """Whether two models' similarities of these neighbours are apart; so they are where one lacks the pair."""
    if any(pair not in pairwise(similarity.rows) for similarity in (first, second)):
        return True
    places = [similarity.rows.index(pair[0]) for similarity in (first, second)]
    ours, theirs = (_at(one, place, place + 1) for one, place in zip((first, second), places, strict=True))
    return _apart(ours, theirs) in ("first", "second")


def rises_at_top(similarity: Similarity) -> bool:
    """Whether the last layer is more like the first than the least similar one is, beyond ``RISE`` and intervals."""
    last, least = len(similarity.rows) - 1, _least_like_first(similarity)
    if least is None or least == last:
        return False
    top, bottom = _at(similarity, 0, last), _at(similarity, 0, least)
    return top.value - bottom.value > RISE and _apart(top, bottom) in ("first", "unknown")


def _least_like_first(similarity: Similarity) -> int | None:
    to_first = similarity.matrix[0]
    return None if len(to_first) < 3 or np.isnan(to_first).all() else int(np.nanargmin(to_first))


def _first_last(model: ModelFindings) -> str:
    similarity = model.similarity
    if _least_like_first(similarity) is None or np.isnan(similarity.matrix[0, 1:]).all():
        return "too few layers"
    ends = _at(similarity, 0, len(similarity.rows) - 1)
    floor = f", not above the noise floor of {similarity.noise_floor:.2f}" if _is_noise(ends, similarity) else ""
    rise = "rises again at the top" if rises_at_top(similarity) else "does not rise at the top"
    to_first = {str(layer): _at(similarity, 0, place) for place, layer in enumerate(similarity.rows) if place}
    doubt = _doubt(model)
    told = f"{_least(to_first, 'layer')}; {doubt or rise}"
    return f"{ends} from layer {similarity.rows[0]} to {similarity.rows[-1]}{floor}; {told}"


def _is_noise(value: _Value, similarity: Similarity) -> bool:
    return abs(value.value) <= similarity.noise_floor


def _judge_first_last(first: ModelFindings, second: ModelFindings) -> str:
    ours, theirs = (_at(model.similarity, 0, len(model.layers) - 1) for model in (first, second))
    if _is_noise(ours, first.similarity) and _is_noise(theirs, second.similarity):
        return "Both within the noise floor."
    verdict = _judged(ours, theirs, _named(first, second), "the similarity of first and last layer")
    rises = [model.model for model in (first, second) if rises_at_top(model.similarity)]
    if verdict == NO_INTERVAL or len(rises) != 1 or _doubt(first) or _doubt(second):
        return verdict
    return f"{verdict} Only in {rises[0]} is a rise at the top beyond the interval."


# Means and variances


def _offset(model: ModelFindings) -> tuple[float, int]:
    """Return the largest |mean| / std of a layer, and the layer; infinite where a layer is constant but not zero."""
    sizes = [
        (abs(layer.mean) / layer.std if layer.std > 0 else (np.inf if layer.mean else 0.0), layer.index)
        for layer in model.statistics
    ]
    return max(sizes)


def _centred(model: ModelFindings) -> str:
    size, layer = _offset(model)
    word = "zero-centred" if size <= CENTRED else "not zero-centred"
    return f"{word}: |mean| / std is {size:.3f} at most, at layer {layer}"


def _judge_centred(first: ModelFindings, second: ModelFindings) -> str:
    centred = [_offset(model)[0] <= CENTRED for model in (first, second)]
    if centred[0] == centred[1]:
        return f"Both {'are' if centred[0] else 'are not'} zero-centred (limit {CENTRED})."
    return f"Only {_named(first, second)[centred.index(True)]} is zero-centred (limit {CENTRED})."


def variance_peak(model: ModelFindings) -> tuple[int, float]:
    """Return the layer with the largest standard deviation, and how many times the next largest it is."""
    ordered = sorted(model.statistics, key=lambda layer: layer.std, reverse=True)
    if len(ordered) < 2:
        return ordered[0].index, 1.0
    return ordered[0].index, ordered[0].std / ordered[1].std if ordered[1].std > 0 else np.inf


def _peak(model: ModelFindings) -> str:
    layer, factor = variance_peak(model)
    if len(model.layers) < 2:
        return "only one layer"
    std = max(statistics.std for statistics in model.statistics)
    word = "stands out" if factor >= STANDS_OUT else "does not stand out"
    return f"layer {layer} (std {std:.3g}), {word}: {factor:.2f} times the next"


def _judge_peak(first: ModelFindings, second: ModelFindings) -> str:
    peaks = [variance_peak(model) for model in (first, second)]
    flat = [model.model for model, peak in zip((first, second), peaks, strict=True) if peak[1] < STANDS_OUT]
    if flat:
        return f"Not told apart: no peak stands out in {_list(flat)}."
    if peaks[0][0] == peaks[1][0]:
        return f"Same layer, {peaks[0][0]}."
    return f"Layer {peaks[0][0]} against layer {peaks[1][0]}."


def _spread(model: ModelFindings) -> tuple[float, int]:
    """Return the largest ratio of a layer's .95 to its .05 quantile of variances, free of scale; and the layer."""
    spreads = [(_ratio(layer.variance_quantiles), layer.index) for layer in model.statistics]
    return max(spreads)


def _ratio(quantiles: Mapping[str, float]) -> float:
    return quantiles["0.95"] / quantiles["0.05"] if quantiles["0.05"] > 0 else np.inf


def _variance_range(model: ModelFindings) -> str:
    tops = [(layer.variance_quantiles["1"], layer.index) for layer in model.statistics]
    factors = [(_ratio(layer.variance_quantiles), layer.index) for layer in model.statistics]
    largest = [_largest(values, lambda value: f"{value:.3g}") for values in (tops, factors)]
    return f"variance of a dim: {largest[0]}; factor of the 95 % quantile over the 5 % one: {largest[1]}"


def _judge_range(first: ModelFindings, second: ModelFindings) -> str:
    ours, theirs = _spread(first)[0], _spread(second)[0]
    if not (np.isfinite(ours) and np.isfinite(theirs)):
        return f"{NOT_COMPARED}some dims do not vary."
    if max(ours, theirs) < RANGE_DIFFERS * min(ours, theirs):
        return f"No difference over a factor of {RANGE_DIFFERS}; ranges have no interval."
    wider = _named(first, second)[int(theirs > ours)]
    return f"Wider in {wider}, {max(ours, theirs) / min(ours, theirs):.1f} times; ranges have no interval."


# Axes, ranks, anisotropy


def _excess(model: ModelFindings) -> list[tuple[float, float, int]]:
    """Return the share of the first two axes, that of noise, and the layer, for each layer."""
    return [
        (float(layer.explained[:2].sum()), float(layer.noise_floor[:2].sum()), layer.index)
        for layer in model.projections
    ]


def _explained(model: ModelFindings) -> str:
    shares = _excess(model)
    ends = shares[:1] if len(shares) < 2 else [shares[0], shares[-1]]
    texts = [f"{_percent(share)} at layer {layer} (noise {_percent(floor)})" for share, floor, layer in ends]
    over = _largest([(share - floor, layer) for share, floor, layer in shares], _percent)
    return f"{' to '.join(texts)}; over noise {over}"


def _judge_explained(first: ModelFindings, second: ModelFindings) -> str:
    ends = [_excess(model)[-1] for model in (first, second)]
    over = [share - floor for share, floor, _ in ends]
    if abs(over[0] - over[1]) < EXPLAINED_DIFFERS:
        return f"No difference over {_percent(EXPLAINED_DIFFERS)} at the last layer; shares have no interval."
    higher = _named(first, second)[int(over[1] > over[0])]
    return f"At the last layer more over noise in {higher}, by {_percent(abs(over[0] - over[1]))}; no interval."


def rank_trend(model: ModelFindings) -> str:
    """Say whether the effective rank ``rises``, ``falls`` or is ``level`` from the first layer to the last."""
    first, last = model.statistics[0].effective_rank, model.statistics[-1].effective_rank
    if last > TREND * first:
        return "rises"
    return "falls" if first > TREND * last else "level"


def _ranks(model: ModelFindings) -> list[tuple[float, int]]:
    return [(layer.effective_rank, layer.index) for layer in model.statistics]


def _rank(model: ModelFindings) -> str:
    ranks = _ranks(model)
    if len(ranks) < 2:
        return f"{ranks[0][0]:.1f} of {model.dim} dims, only one layer"
    first, last = (f"{value:.1f} at layer {layer}" for value, layer in (ranks[0], ranks[-1]))
    largest = _largest(ranks, lambda value: f"{value:.1f}")
    return f"{rank_trend(model)} from {first} to {last}, of {model.dim} dims; {largest}; no interval"


def _judge_rank(first: ModelFindings, second: ModelFindings) -> str:
    ours, theirs = rank_trend(first), rank_trend(second)
    tops = [f"{value:.1f} at layer {layer}" for value, layer in (max(_ranks(model)) for model in (first, second))]
    largest = f"largest {' against '.join(dict.fromkeys(tops))}; ranks have no interval."
    if ours == theirs:
        return f"Both {_BOTH[ours]} from first to last layer; {largest}"
    return f"{ours[:1].upper()}{ours[1:]} against {theirs} from first to last layer; {largest}"


_BOTH = {"rises": "rise", "falls": "fall", "level": "are level"}


def _most_anisotropic(model: ModelFindings) -> tuple[float, int]:
    return max((layer.anisotropy, layer.index) for layer in model.statistics)


def _anisotropy(model: ModelFindings) -> str:
    cosines = [(layer.anisotropy, layer.index) for layer in model.statistics]
    between = f"between {min(cosines)[0]:.2f} and {max(cosines)[0]:.2f}, " if len(cosines) > 1 else ""
    return f"mean cosine {between}{_largest(cosines, lambda value: f'{value:.2f}')}; no interval"


def _judge_anisotropy(first: ModelFindings, second: ModelFindings) -> str:
    ours, theirs = _most_anisotropic(first)[0], _most_anisotropic(second)[0]
    if not abs(ours - theirs) >= ANISOTROPY_DIFFERS:
        return f"Largest values differ by less than {ANISOTROPY_DIFFERS}."
    higher = _named(first, second)[int(theirs > ours)]
    return f"Largest value larger in {higher}, by {abs(ours - theirs):.2f}; no interval."


# Properties


def _property_aspects(findings: LayersFindings, models: Sequence[ModelFindings]) -> list[_Aspect]:
    titles = {curve.name: curve.title for model in models for curve in model.curves}
    return [_property_aspect(findings, name, title) for name, title in titles.items()]


def _property_aspect(findings: LayersFindings, name: str, title: str) -> _Aspect:
    def describe(model: ModelFindings) -> str:
        curve = _curve(model, name)
        return _best(curve, _control_curve(findings, model, name)) if curve else _reason(model, name)

    def judge(first: ModelFindings, second: ModelFindings) -> str:
        ours, theirs = _curve(first, name), _curve(second, name)
        if ours is None or theirs is None:
            return f"{NOT_COMPARED}missing for one of the two."
        if ours.split != theirs.split:
            return f"{NOT_COMPARED}split by {ours.split} against {theirs.split}."
        return _judged(_peak_of(ours)[0], _peak_of(theirs)[0], _named(first, second), "the best layer's value")

    def n(model: ModelFindings) -> int | None:
        curve = _curve(model, name)
        return curve.n if curve else None

    return _Aspect(title, describe, judge, n, lambda model: True)


def _curve(model: ModelFindings, name: str) -> Curve | None:
    return next((curve for curve in model.curves if curve.name == name), None)


def _reason(model: ModelFindings, name: str) -> str:
    return f"{NOT_COMPUTED}: {model.skipped[name]}" if name in model.skipped else NOT_COMPUTED


def _control_curve(findings: LayersFindings, model: ModelFindings, name: str) -> Curve | None:
    controls = [other for other in findings.models if other.control and other.model.startswith(f"{model.model} (")]
    return _curve(controls[0], name) if controls else None


def _peak_of(curve: Curve) -> tuple[_Value, int]:
    """Return the highest value with its interval, and its place."""
    if np.isnan(curve.values).all():
        return _Value(float("nan")), 0
    place = int(np.nanargmax(curve.values))
    if curve.low is None or curve.high is None:
        return _Value(float(curve.values[place])), place
    return _Value(float(curve.values[place]), float(curve.low[place]), float(curve.high[place])), place


def _best(curve: Curve, control: Curve | None) -> str:
    best, place = _peak_of(curve)
    if not np.isfinite(best.value):
        return NOT_COMPUTED
    parts = [_top(curve, best, place), _ties(curve, place)]
    if curve.shuffled is not None and np.isfinite(curve.shuffled[place]):
        parts.append(f"shuffled labels {curve.shuffled[place]:.2f}")
    if curve.chance is not None:
        parts.append(f"chance {curve.chance:.2f}")
    if control is not None:
        parts.append(_against_control(best, _peak_of(control)[0]))
    return "; ".join(part for part in parts if part)


def _top(curve: Curve, best: _Value, place: int) -> str:
    if best.has_interval:
        return f"best at layer {curve.layers[place]}: {best}"
    known = [(value, layer) for value, layer in zip(curve.values, curve.layers, strict=True) if np.isfinite(value)]
    return _largest(known, lambda value: f"{value:.2f}")


def _ties(curve: Curve, place: int) -> str:
    """Name the layers whose intervals overlap the best one's."""
    if curve.low is None or curve.high is None or not np.isfinite(curve.low[place]):
        return "no interval"
    if len(curve.layers) < 2:
        return "the only layer"
    ties = [layer for layer, high in zip(curve.layers, curve.high, strict=True) if high >= curve.low[place]]
    return _tied([str(layer) for layer in ties if layer != curve.layers[place]], len(curve.layers) - 1, "layer")


def _against_control(best: _Value, control: _Value) -> str:
    words = {"first": "above", "second": "below", "neither": "not told apart from", "unknown": "no interval, beside"}
    apart = _apart(best, control)
    by = f", by {abs(best.value - control.value):.2f}" if apart in ("first", "second") else ""
    return f"{words[apart]} random weights at their best: {control}{by}"


# Two models


def _cross_row(cross: Similarity) -> ComparisonRow:
    """Name the most similar pair of layers, with its interval and the floor."""
    if np.isnan(cross.matrix).all():
        return ComparisonRow("Most similar layers", NOT_COMPUTED, NOT_COMPUTED, NOT_COMPUTED)
    row, column = np.unravel_index(int(np.nanargmax(cross.matrix)), cross.matrix.shape)
    value = _at(cross, int(row), int(column))
    floor = f"noise floor {cross.noise_floor:.2f} at {cross.n_floor:,} rows"
    noise = "not above the " if _is_noise(value, cross) else ""
    same = _same_depth(cross)
    return ComparisonRow(
        "Most similar layers",
        f"layer {cross.rows[row]}",
        f"layer {cross.columns[column]}",
        f"{_KINDS[cross.kind]} {value}; {_rivals(cross, int(row), int(column))}; {noise}{floor}{same}.",
    )


def _rivals(cross: Similarity, row: int, column: int) -> str:
    """Name the pairs that are not told apart from the most similar one, most similar first."""
    best = _at(cross, row, column)
    if not best.has_interval:
        return "no interval that tells it from others"
    places = [(int(a), int(b)) for a, b in np.argwhere(np.isfinite(cross.matrix)) if (a, b) != (row, column)]
    ties = [place for place in places if _apart(best, _at(cross, *place)) != "first"]
    ties.sort(key=lambda place: -cross.matrix[place])
    return _tied([f"{cross.rows[a]} / {cross.columns[b]}" for a, b in ties], len(places), "pair")


def _same_depth(cross: Similarity) -> str:
    """Count the layers of the first model that are most like the same layer of the second."""
    if cross.rows != cross.columns or np.isnan(cross.matrix).any():
        return ""
    same = int((cross.matrix.argmax(axis=1) == np.arange(len(cross.rows))).sum())
    return f"; by value alone, {same} of {len(cross.rows)} layers are most like the layer of the same number"


def _similarity_n(model: ModelFindings) -> int:
    return model.similarity.n


def _is_pwcca(model: ModelFindings) -> bool:
    return model.similarity.kind == "pwcca"


_ASPECTS = (
    _Aspect("Training state", _training, _judge_training, lambda model: None),
    _Aspect("Rows", _rows, _judge_rows, lambda model: None),
    _Aspect("Processing stages", _stages, _judge_stages, _similarity_n, _is_pwcca, fewest=2),
    _Aspect("Zero-centred features", _centred, _judge_centred, lambda model: model.n_rows),
    _Aspect("Largest deviation", _peak, _judge_peak, lambda model: model.n_rows, fewest=2),
    _Aspect("Variance range", _variance_range, _judge_range, lambda model: model.n_rows),
    _Aspect("Similarity of neighbouring layers", _neighbours, _judge_neighbours, _similarity_n, _is_pwcca, fewest=4),
    _Aspect("Similarity of first and last layer", _first_last, _judge_first_last, _similarity_n, _is_pwcca, fewest=3),
    _Aspect(
        "Variance on two principal axes",
        _explained,
        _judge_explained,
        lambda model: model.projections[0].n_fitted,
        lambda model: True,
    ),
    _Aspect("Effective rank", _rank, _judge_rank, lambda model: model.n_used, lambda model: True, fewest=2),
    _Aspect("Anisotropy", _anisotropy, _judge_anisotropy, lambda model: model.n_rows),
)
