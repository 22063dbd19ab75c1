"""One file a family of models; :func:`build_encoder` picks by the config's model type."""

from core.embed.encoder import Encoder
from core.errors import CheckpointError
from core.models.loaded import LoadedModel

_CONV_FAMILIES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")


def build_encoder(loaded: LoadedModel) -> Encoder:
    """Wrap a loaded model in the encoder contract.

    Raises:
        CheckpointError: there is no encoder for this type or shape of model.
    """
    if loaded.model_type != "encodec" and loaded.model.config.num_hidden_layers < 1:
        raise CheckpointError(f"{loaded.name}: the config says no transformer block at all. Use a model with some.")
    if loaded.model_type in _CONV_FAMILIES:
        from core.embed.encoders.wav2vec2 import Wav2Vec2Encoder

        return Wav2Vec2Encoder(loaded)
    if loaded.model_type == "wav2vec2-bert":
        from core.embed.encoders.w2v_bert import W2vBertEncoder

        return W2vBertEncoder(loaded)
    if loaded.model_type == "whisper":
        from core.embed.encoders.whisper import WhisperWindowEncoder

        return WhisperWindowEncoder(loaded)
    if loaded.model_type == "encodec":
        from core.embed.encoders.encodec import build_encodec

        return build_encodec(loaded)
    if loaded.model_type == "meg2vec":
        from core.embed.encoders.meg2vec import Meg2VecEncoder

        return Meg2VecEncoder(loaded)
    raise CheckpointError(f"{loaded.name}: no encoder is written for model type {loaded.model_type!r}.")
