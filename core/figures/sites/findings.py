"""What the figures of sites read: the records of core.tasks.sites.requests, which stand on a floor above."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from core.figures.layers.style import number

SMALLEST_P = 0.001


class Agreed(Protocol):
    """As :class:`core.tasks.sites.requests.Agreement`."""

    @property
    def spearman(self) -> float:
        """Rank correlation."""
        ...

    @property
    def p(self) -> float:
        """Of Mantel's test."""
        ...

    @property
    def n_pairs(self) -> int:
        """Pairs of sites."""
        ...


class Recovered(Protocol):
    """As :class:`core.tasks.sites.requests.Recovery`."""

    @property
    def what(self) -> str:
        """Hemisphere or region."""
        ...

    @property
    def accuracy(self) -> float:
        """Balanced, leave one out."""
        ...

    @property
    def shuffled(self) -> tuple[float, float, float]:
        """Lower quartile, median and 95th percentile with shuffled labels."""
        ...

    @property
    def p(self) -> float:
        """Share of shuffles that do as well."""
        ...

    @property
    def n(self) -> int:
        """Sites that count."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        ...


class SiteFindings(Protocol):
    """As :class:`core.tasks.sites.requests.SiteSimilarity`, as far as figures read it."""

    @property
    def model(self) -> str:
        """Its name."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sites."""
        ...

    @property
    def ids(self) -> tuple[int, ...]:
        """Of the sites."""
        ...

    @property
    def similarity(self) -> np.ndarray:
        """(n, n)."""
        ...

    @property
    def untrained(self) -> np.ndarray:
        """(n, n)."""
        ...

    @property
    def order(self) -> np.ndarray:
        """(n,)."""
        ...

    @property
    def nearest(self) -> Mapping[str, tuple[tuple[str, float], ...]]:
        """By site."""
        ...

    @property
    def positions(self) -> np.ndarray:
        """(n, 3)."""
        ...

    @property
    def flat(self) -> np.ndarray:
        """(n, 2)."""
        ...

    @property
    def regions(self) -> tuple[str, ...]:
        """(n,)."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """(n,)."""
        ...

    @property
    def distance(self) -> Agreed | None:
        """With minus the distance."""
        ...

    @property
    def untrained_distance(self) -> Agreed | None:
        """The same before training."""
        ...

    @property
    def signal(self) -> Agreed | None:
        """With the correlation of raw signals."""
        ...

    @property
    def recoveries(self) -> tuple[Recovered, ...]:
        """Of hemisphere and region."""
        ...

    @property
    def maps(self) -> Mapping[str, np.ndarray]:
        """Flat pictures of the embeddings."""
        ...


class Comparison(Protocol):
    """As :class:`core.tasks.sites.requests.CompareFindings`, as far as figures read it."""

    @property
    def model(self) -> str:
        """Its name."""
        ...

    @property
    def sites(self) -> tuple[str, str]:
        """The two."""
        ...

    @property
    def source(self) -> str:
        """Whose signal it is."""
        ...

    @property
    def mean_difference(self) -> float:
        """Over tokens and dims."""
        ...

    @property
    def relative(self) -> float:
        """Over the mean absolute state."""
        ...

    @property
    def map(self) -> np.ndarray:
        """(rows, columns)."""
        ...

    @property
    def grid(self) -> np.ndarray:
        """(height, width)."""
        ...

    @property
    def frequencies(self) -> np.ndarray:
        """(rows,) Hz."""
        ...

    @property
    def times(self) -> np.ndarray:
        """(columns,) seconds."""
        ...


def p_text(p: float) -> str:
    """Write a p value as papers do.

    >>> p_text(0.0123), p_text(0.0001)
    ('p = 0.012', 'p < 0.001')
    """
    return f"p < {SMALLEST_P:g}" if p < SMALLEST_P else f"p = {p:.2g}"


def agreement_text(found: Agreed | None) -> str:
    """Write a correlation with its p value: ``0.62 (p < 0.001)``.

    >>> agreement_text(None)
    'unknown'
    """
    return "unknown" if found is None else f"{number(round(found.spearman, 2))} ({p_text(found.p)})"


def upper_pairs(matrix: np.ndarray) -> np.ndarray:
    """Values of all pairs of sites, once each: those above the diagonal."""
    return np.asarray(matrix[np.triu_indices(len(matrix), 1)])
