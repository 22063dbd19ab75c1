"""How a MEG model wants its recordings: ``ModelInput`` as ``preprocessor_config.json``, and back, checked."""

from collections.abc import Mapping
from typing import Any

from core.errors import DataError
from core.records import from_plain, to_plain
from core.sensors import MEG_KINDS, ModelInput

EXTRACTOR = "meg2vec"
_TYPE = "feature_extractor_type"


def to_preprocessor(model_input: ModelInput) -> dict[str, Any]:
    """Content of ``preprocessor_config.json``."""
    plain: dict[str, Any] = to_plain(model_input)
    return plain | {_TYPE: EXTRACTOR}


def from_preprocessor(preprocessor: Mapping[str, Any]) -> ModelInput:
    """Make the record of what :func:`to_preprocessor` returned.

    Raises:
        DataError: it is something else.
    """
    if preprocessor.get(_TYPE) != EXTRACTOR:
        raise DataError(f"Got {_TYPE} {preprocessor.get(_TYPE)!r}; expected {EXTRACTOR!r}.")
    return from_plain(ModelInput, {key: value for key, value in preprocessor.items() if key != _TYPE})


def check_fits(model_input: ModelInput, config: Mapping[str, Any]) -> None:
    """Compare what recordings are brought to with what the network takes.

    Args:
        model_input: Of ``preprocessor_config.json``.
        config: Content of ``config.json``.

    Raises:
        DataError: rates, channels or statistics differ.
    """
    rate, sensors = model_input.preparation.sampling_rate, model_input.sensors
    if rate != config["sampling_rate"]:
        raise DataError(
            f"Recordings are brought to {rate} Hz, but the model's sampling_rate is {config['sampling_rate']}."
        )
    if (sensors is None) != (config["sensor_input"] == "positions"):
        given = "no sensors" if sensors is None else f"{len(sensors)} sensors"
        raise DataError(
            f"Recordings are brought to {given}, but the model's sensor_input is {config['sensor_input']!r}."
        )
    if sensors is not None and len(sensors) != config["in_channels"]:
        raise DataError(
            f"Recordings have {len(sensors)} channels, but the model's in_channels is {config['in_channels']}."
        )
    expected = (len(MEG_KINDS) if sensors is None else len(sensors),)
    shapes = (model_input.statistics.mean.shape, model_input.statistics.std.shape)
    if shapes != (expected, expected):
        raise DataError(f"Got statistics of shapes {shapes[0]} and {shapes[1]}; expected {expected}.")
