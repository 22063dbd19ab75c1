"""Load a folder in transformers' format strictly: no guessed key, no weight left to chance, no user's pickle."""

import copy
import dataclasses
import difflib
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.checkpoints import encodec_package
from core.errors import CheckpointError, StrataError
from core.models.encodec import codebooks_of
from core.models.loaded import LoadedModel
from core.models.model_input import check_fits, from_preprocessor

SUPPORTED = {
    "wav2vec2": "Wav2Vec2Model",
    "hubert": "HubertModel",
    "wavlm": "WavLMModel",
    "data2vec-audio": "Data2VecAudioModel",
    "wav2vec2-bert": "Wav2Vec2BertModel",
    "whisper": "WhisperEncoder",
    "encodec": "EncodecModel",
    "meg2vec": "Meg2VecModel",
    "wav2vec2_2d": "Wav2Vec2_2DModel",
}
# Strata's own architectures: transformers does not know them.
_OWN = ("meg2vec", "wav2vec2_2d")
# Families that take raw samples at a rate, and in a scale, that only preprocessor_config.json knows.
_RAW_SAMPLES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")

_CONVOLUTIONS = ("conv_dim", "conv_kernel", "conv_stride")
_TRANSFORMER = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
# Without these a config falls back to defaults silently, and the weights or the times come out as another model's.
REQUIRED_KEYS = {
    "wav2vec2": (*_CONVOLUTIONS, *_TRANSFORMER, "feat_extract_norm", "do_stable_layer_norm"),
    "hubert": (*_CONVOLUTIONS, *_TRANSFORMER, "feat_extract_norm", "do_stable_layer_norm"),
    "wavlm": (*_CONVOLUTIONS, *_TRANSFORMER, "feat_extract_norm", "do_stable_layer_norm"),
    "data2vec-audio": (*_CONVOLUTIONS, *_TRANSFORMER),
    "wav2vec2-bert": _TRANSFORMER,
    "whisper": ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins"),
    "encodec": ("sampling_rate", "audio_channels", "num_filters", "upsampling_ratios", "hidden_size"),
    "meg2vec": (*_CONVOLUTIONS, *_TRANSFORMER, "feat_extract_norm", "do_stable_layer_norm", "in_channels",
                "sampling_rate", "sensor_input"),
    "wav2vec2_2d": (*_CONVOLUTIONS, *_TRANSFORMER, "feat_extract_norm", "do_stable_layer_norm", "in_channels",
                    "grid_height", "grid_width", "sites_per_grid", "use_spatial_embedding", "num_recording_sites"),
}  # fmt: skip
# Keys that published configs carry although today's transformers no longer reads them. None of them is ever used.
LEGACY_KEYS = frozenset(
    {
        # fairseq's masking and dropout settings, in configs of wav2vec 2.0, HuBERT and WavLM from 2021
        *(
            "feat_extract_dropout",
            "hidden_dropout_prob",
            "attention_dropout_prob",
            "replace_prob",
            "layer_norm_epsilon",
        ),
        *("mask_channel_length", "mask_channel_min_space", "mask_channel_other", "mask_channel_prob"),
        *("mask_channel_selection", "mask_time_min_space", "mask_time_other", "mask_time_selection"),
        *("no_mask_channel_overlap", "no_mask_time_overlap", "freeze_feat_extract_train", "num_ctc_classes"),
        # what every config of transformers 4 could hold: generation and export settings
        *("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "temperature"),
        *("diversity_penalty", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "prefix"),
        *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences"),
        *("output_scores", "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "use_cache"),
        *("remove_invalid_values", "exponential_decay_length_penalty", "cross_attention_hidden_size", "sep_token_id"),
        *("add_cross_attention", "tie_encoder_decoder", "tie_word_embeddings", "tf_legacy_loss", "torchscript"),
        *("use_bfloat16", "pruned_heads", "finetuning_task", "decoder_start_token_id", "is_decoder"),
        *("tokenizer_class", "task_specific_params", "forced_decoder_ids", "gradient_checkpointing"),
        # bookkeeping
        *("torch_dtype", "auto_map", "attn_implementation"),
    }
)
# Fields of transformers' config that are about how to run, not what the model is: Strata decides those.
_RUN_FIELDS = frozenset(
    {"dtype", "output_attentions", "output_hidden_states", "return_dict", "chunk_size_feed_forward"}
)
# Drawn at training time only; a checkpoint without it embeds exactly the same.
UNUSED_WEIGHTS = ("masked_spec_embed",)
# Parts of a checkpoint beside the encoder, left aside on purpose: those of pre-training, and those fitted to labels.
PRETRAINING_HEADS = ("quantizer.", "project_hid.", "project_q.", "label_embs_concat", "final_proj.", "adapter.",
                     "head.quantizer.", "head.project_hid.", "head.project_q.")  # fmt: skip
LABEL_HEADS = ("lm_head.", "classifier.", "projector.", "tdnn.", "objective.", "layer_weights", "decoder.", "proj_out.",
               "feature_extractor.weight", "feature_extractor.bias")  # fmt: skip
# What larger models call the encoder inside them.
_INNER_MODELS = (*("wav2vec2", "hubert", "wavlm", "data2vec_audio", "wav2vec2_bert", "model"), *_OWN)
WHISPER_KEYS = {r"^(model\.)?encoder\.": ""}
_CONFIG_FILES = ("config.json", "preprocessor_config.json", "processor_config.json")
_SHARD_INDEX = "model.safetensors.index.json"
# What each family's feature extractor computes in Strata, by key of preprocessor_config.json: a value or a config key.
_EXTRACTOR: dict[str, dict[str, Any]] = {
    "wav2vec2-bert": {"sampling_rate": 16_000, "stride": 2},
    "whisper": {"sampling_rate": 16_000, "hop_length": 160, "n_fft": 400, "feature_size": "num_mel_bins"},
    "encodec": {"sampling_rate": "sampling_rate", "feature_size": "audio_channels"},
}
_RATES = range(1_000, 400_000)


def load_model(folder: Path, name: str, *, from_user: bool) -> LoadedModel:
    """Load the model in ``folder``.

    Args:
        folder: Holds config.json and weights.
        name: What to call it in results.
        from_user: True for a folder a person points to: unknown config keys and pickles are refused. False for a
            snapshot of a hub, whose configs may carry keys we do not know, and whose ``.bin`` weights are read with
            ``weights_only``.

    Raises:
        CheckpointError: a missing or unreadable file, an unsupported type, a config key or weight that is missing,
            misspelt or does not fit.
    """
    if official := encodec_package.find_file(folder, name):
        return _load_official(official, name)
    raw = read_config(folder, name)
    warnings = check_config_keys(raw, name, strict=from_user)
    files = weight_files(folder, name, allow_bin=not from_user)
    preprocessor, more = read_preprocessor(folder, name, raw)
    model, left_aside = _load_weights(folder, name, raw, safe=files[0].suffix == ".safetensors")
    sha256, config_sha256 = checkpoint_hashes(folder, name, from_user=from_user)
    model.eval().float()
    architecture = _architecture(raw)
    return LoadedModel(
        name=name,
        folder=folder,
        model=model,
        preprocessor=preprocessor,
        sha256=sha256,
        architecture=architecture,
        fine_tuned=_is_fine_tuned(raw["model_type"], architecture, left_aside),
        warnings=(*warnings, *more, *_cut_off(raw)),
        config_sha256=config_sha256,
    )


def _load_official(file: encodec_package.PackageFile, name: str) -> LoadedModel:
    """Load a checkpoint of the encodec package; nothing is read before its checksum is found right."""
    sha256, config_sha256 = encodec_package.hashes(file, name)
    return LoadedModel(
        name=name,
        folder=file.path.parent,
        model=encodec_package.load_network(file, name),
        preprocessor={},
        sha256=sha256,
        architecture="EncodecModel",
        fine_tuned=False,
        config_sha256=config_sha256,
    )


def randomised(loaded: LoadedModel, seed: int) -> LoadedModel:
    """Make the control of a model: the same architecture and preprocessing, with weights as before any training.

    The weights are drawn as the architecture's own class draws them for its config; torch's generators are left as they
    were. What the class does not draw (norms at one and zero, Whisper's sinusoids) is as in any untrained model.

    Args:
        loaded: The trained model; it stays as it is.
        seed: Same seed, same weights.
    """
    import torch

    # A generator of its own cannot be handed to a network's initialisation. torch.manual_seed would seed GPUs as well.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(_control_seed(seed))
        network = type(loaded.model)(copy.deepcopy(loaded.model.config))
        if loaded.model_type == "encodec":
            _draw_codebooks(network)
    network.eval().float()
    settings = loaded.config_sha256 or hashlib.sha256(loaded.model.config.to_json_string().encode()).hexdigest()
    return dataclasses.replace(
        loaded,
        name=f"{loaded.name} (random weights)",
        model=network,
        sha256=f"random-{seed}-{settings[:32]}",
        fine_tuned=False,
    )


def _draw_codebooks(codec: Any) -> None:
    """Give an untrained codec codebooks, as the encodec package draws them: transformers leaves them at zero."""
    import torch

    for layer in codebooks_of(codec):
        torch.nn.init.kaiming_uniform_(layer.codebook.embed)


def _control_seed(seed: int) -> int:
    """A seed that no training has begun with: a control drawn as its model once was would still resemble it."""
    return int.from_bytes(hashlib.sha256(f"control {seed}".encode()).digest()[:8], "big") >> 1


def checkpoint_hashes(folder: Path, name: str, *, from_user: bool) -> tuple[str, str]:
    """Hash the weight files, and the files that say how they are used, without loading the model."""
    if official := encodec_package.find_file(folder, name):
        return encodec_package.hashes(official, name)
    configs = (path for path in map(folder.joinpath, _CONFIG_FILES) if path.is_file())
    return sha256_of(weight_files(folder, name, allow_bin=not from_user)), sha256_of(configs)


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Read config.json and check that Strata knows the model type."""
    if not folder.is_dir():
        raise CheckpointError(f"Model folder {folder} does not exist. Check the path given as the model.")
    raw = _read_json(folder / "config.json", name)
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in SUPPORTED:
        raise CheckpointError(
            f"{name}: {folder / 'config.json'} has model_type {model_type!r}; Strata reads "
            f"{', '.join(sorted(SUPPORTED))}. Use a model of one of these types."
        )
    return raw


def _read_json(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f"{name}: {path.name} is missing from {path.parent}. Give a folder in transformers' format: config.json, "
            "preprocessor_config.json and model.safetensors."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(
            f"{name}: {path} cannot be read as JSON ({error}). Restore it from where the model came from."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{name}: {path} holds a {type(content).__name__}; expected a JSON object. Restore the original file."
        )
    return content


def check_config_keys(raw: dict[str, Any], name: str, *, strict: bool) -> list[str]:
    """Refuse missing and unknown keys of a config.

    Returns:
        Warnings for unknown keys where ``strict`` is off.
    """
    known = _known_keys(raw["model_type"])
    tolerated = _tolerated_keys(raw["model_type"])
    unknown = [key for key in raw if key not in tolerated and not key.startswith("_")]
    missing = [key for key in REQUIRED_KEYS[raw["model_type"]] if key not in raw]
    hints = _did_you_mean(unknown, known)
    if missing:
        raise CheckpointError(
            f"{name}: config.json lacks {', '.join(missing)}{hints}; without it the weights or the frame times would "
            "be guessed. Restore the original config.json."
        )
    if unknown and strict:
        raise CheckpointError(
            f"{name}: config.json has keys that no {raw['model_type']} model knows: {', '.join(unknown)}{hints}. "
            "Remove them or correct their spelling."
        )
    return [f"config.json has keys Strata does not know and leaves aside: {', '.join(unknown)}."] if unknown else []


def _tolerated_keys(model_type: str) -> set[str]:
    """Keys that may stand in a config: of Strata's own models their own, of others what published ones ever held."""
    if model_type in _OWN:
        return _known_keys(model_type)
    return set(LEGACY_KEYS).union(*(_known_keys(relative) for relative in SUPPORTED if relative not in _OWN))


def _did_you_mean(unknown: list[str], known: set[str]) -> str:
    matches = {key: difflib.get_close_matches(key, known, n=1, cutoff=0.8) for key in unknown}
    return "".join(f" (did you mean {match[0]!r} by {key!r}?)" for key, match in matches.items() if match)


def _known_keys(model_type: str) -> set[str]:
    """Keys that are read from a config of this type, and other names that transformers takes for them."""
    config_class = _config_class(model_type)
    return _fields(model_type) | set(config_class().to_dict()) | set(config_class.attribute_map)


def _fields(model_type: str) -> set[str]:
    return {field.name for field in dataclasses.fields(_config_class(model_type))}


def _config_class(model_type: str) -> Any:
    if model_type == "meg2vec":
        from core.models.meg2vec import Meg2VecConfig

        return Meg2VecConfig
    if model_type == "wav2vec2_2d":
        from core.models.wav2vec2_2d import Wav2Vec2_2DConfig

        return Wav2Vec2_2DConfig
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[model_type]


def read_preprocessor(folder: Path, name: str, raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Read how samples are prepared, from preprocessor_config.json or from inside processor_config.json.

    Returns:
        The settings, completed by the defaults of transformers, and a warning for each default that matters.

    Raises:
        CheckpointError: a broken file, or settings that are not what this family's encoder computes.
    """
    path, found = _find_preprocessor(folder, name)
    model_type = raw["model_type"]
    for key, expected in _EXTRACTOR.get(model_type, {}).items():
        value = raw.get(expected) if isinstance(expected, str) else expected
        if key in found and found[key] != value:
            raise CheckpointError(
                f"{name}: {path} has {key} {found[key]!r}; expected {value!r} for a {model_type} model. "
                "Restore the original file."
            )
    if model_type == "meg2vec":
        _check_model_input(path, name, found, raw)
    return _raw_sample_settings(path, name, found) if model_type in _RAW_SAMPLES else (found, [])


def _check_model_input(path: Path, name: str, found: dict[str, Any], raw: dict[str, Any]) -> None:
    """Refuse a MEG model that does not say how its recordings are prepared, or says what does not fit its config."""
    try:
        check_fits(from_preprocessor(found), raw)
    except StrataError as error:
        what = error if path.is_file() else "it is missing."
        raise CheckpointError(f"{name}: {path} cannot be used: {what} Restore the original file.") from error


def _find_preprocessor(folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return path, _read_json(path, name)
    # transformers 5 keeps the settings of all of a model's processors in one file.
    together = folder / "processor_config.json"
    inside = _read_json(together, name).get("feature_extractor") if together.is_file() else None
    return (together, inside) if isinstance(inside, dict) else (path, {})


def _raw_sample_settings(path: Path, name: str, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check and complete what the encoders of raw samples need: ``sampling_rate`` and ``do_normalize``."""
    settings = {"sampling_rate": 16_000, "do_normalize": True} | found
    rate, normalise = settings["sampling_rate"], settings["do_normalize"]
    if type(rate) is not int or rate not in _RATES:
        raise CheckpointError(
            f"{name}: {path} has sampling_rate {rate!r}; expected whole Hz, such as 16000. Restore the original file."
        )
    if type(normalise) is not bool:
        raise CheckpointError(
            f"{name}: {path} has do_normalize {normalise!r}; expected true or false. Restore the original file."
        )
    assumed = {"sampling_rate": "16 kHz input", "do_normalize": "normalisation to zero mean and unit variance"}
    missing = [words for key, words in assumed.items() if key not in found]
    where = f"{path.name} does not say" if path.is_file() else f"There is no {path.name}"
    return settings, [f"{where}; {' and '.join(missing)} were assumed."] if missing else []


def weight_files(folder: Path, name: str, *, allow_bin: bool) -> list[Path]:
    """The weight files of a folder, sorted: safetensors, or a pickle where allowed (to be read weights-only)."""
    if official := encodec_package.find_file(folder, name):
        return [official.path]
    index = folder / _SHARD_INDEX
    single = folder / "model.safetensors"
    safe = [single] if single.is_file() else _shards(index, name) if index.is_file() else []
    for path in safe:
        _check_safetensors(path, name)
    if safe:
        return safe
    bins = sorted(folder.glob("pytorch_model*.bin"))
    if bins and allow_bin:
        return bins
    pickles = bins + sorted(
        path for suffix in ("bin", "pt", "pth", "ckpt", "pkl") for path in folder.glob(f"*.{suffix}")
    )
    if pickles:
        raise CheckpointError(
            f"{name}: {folder} holds only a pickle ({pickles[0].name}), which could run code when opened. Convert it "
            "where you trust it: save_pretrained(folder) of transformers writes model.safetensors."
        )
    raise CheckpointError(f"{name}: {folder} holds no weights. Put model.safetensors beside config.json.")


def _shards(index: Path, name: str) -> list[Path]:
    """Files named by the index of a model in several safetensors; all of them in the index's own folder."""
    weight_map = _read_json(index, name).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) and weight_map else {None}
    for shard in names:
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise CheckpointError(
                f"{name}: {index} names {shard!r} as a weight file; expected .safetensors in the same folder. "
                "Restore the original file."
            )
    return [index.parent / shard for shard in sorted(names)]  # type: ignore[type-var, operator]


def _check_safetensors(path: Path, name: str) -> None:
    """Read the header, which also proves that the file has its full length."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{name}: {path} is missing, damaged or cut short ({_one_line(error)}). Download or copy it again."
        ) from error


def sha256_of(files: Iterable[Path]) -> str:
    """Hash the bytes of files, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _load_weights(folder: Path, name: str, raw: dict[str, Any], *, safe: bool) -> tuple[Any, list[str]]:
    """Build the model and fill it; also return the names of weights beside the encoder."""
    import torch

    mapping = {"key_mapping": WHISPER_KEYS} if raw["model_type"] == "whisper" else {}
    try:
        with _quiet_transformers():
            model, report = _model_class(raw["model_type"]).from_pretrained(
                str(folder),
                config=_build_config(raw),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they come back in the report, with their names
                local_files_only=True,
                use_safetensors=safe,
                weights_only=True,
                dtype=torch.float32,
                **mapping,
            )
    except Exception as error:  # transformers raises whatever its parts raise
        raise CheckpointError(
            f"{name}: the model in {folder} cannot be loaded ({_one_line(error)}). Config and weights must belong "
            "together; restore both from the same source."
        ) from error
    return model, _check_report(report, name)


def _build_config(raw: dict[str, Any]) -> Any:
    """The config object from the keys that describe the network; anything else in the file has no effect."""
    wanted = _fields(raw["model_type"]) - _RUN_FIELDS
    return _config_class(raw["model_type"])(**{key: value for key, value in raw.items() if key in wanted})


def _model_class(model_type: str) -> Any:
    if model_type == "whisper":
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return WhisperEncoder
    if model_type == "meg2vec":
        from core.models.meg2vec import Meg2VecModel

        return Meg2VecModel
    if model_type == "wav2vec2_2d":
        from core.models.wav2vec2_2d import Wav2Vec2_2DModel

        return Wav2Vec2_2DModel
    import transformers

    return getattr(transformers, SUPPORTED[model_type])


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence transformers' loading report and progress bar: the report is checked and raised by us instead."""
    from transformers.utils import logging as transformers_logging

    bars, logger = transformers_logging.is_progress_bar_enabled(), logging.getLogger("transformers")
    level = logger.level
    transformers_logging.disable_progress_bar()
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _check_report(report: dict[str, Any], name: str) -> list[str]:
    """Raise where weights are missing, of another shape or unknown; return the names of those left aside."""
    missing = sorted(key for key in report["missing_keys"] if not key.endswith(UNUSED_WEIGHTS))
    mismatched = sorted(f"{key} {tuple(got)}, not {tuple(due)}" for key, got, due in report["mismatched_keys"])
    beside = sorted(key for key in report["unexpected_keys"] if not key.endswith(UNUSED_WEIGHTS))
    unexpected = [key for key in beside if not _without_prefix(key).startswith((*PRETRAINING_HEADS, *LABEL_HEADS))]
    for what, keys in (("lack", missing), ("do not fit the config:", mismatched), ("hold unexpected", unexpected)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(
                f"{name}: the weights {what} {', '.join(keys[:3])}{more}. Config and weights must belong together; "
                "restore both from the same source."
            )
    return beside


def _without_prefix(key: str) -> str:
    """A weight's name without the name of the model inside a larger one, such as ``wav2vec2.``."""
    head, _, rest = key.partition(".")
    return rest if head in _INNER_MODELS else key


def _architecture(raw: dict[str, Any]) -> str:
    """The class that saved the checkpoint, as far as the config says."""
    named = raw.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else SUPPORTED[raw["model_type"]]


def _cut_off(raw: dict[str, Any]) -> list[str]:
    """A warning where the class that made the checkpoint computes more after the last block."""
    keys = [key for key in ("add_adapter", "use_intermediate_ffn_before_adapter") if raw.get(key)]
    said = "the layers after the last block are left out, and the last state is that block's"
    return [f"The config has {' and '.join(keys)}; {said}."] if keys else []


def _is_fine_tuned(model_type: str, architecture: str, left_aside: Iterable[str]) -> bool:
    """Whether labels took part: Whisper always, else a class or weights that only labels can train."""
    if model_type == "whisper":
        return True
    pretrained = architecture == SUPPORTED[model_type] or architecture.endswith("ForPreTraining")
    return not pretrained or any(_without_prefix(key).startswith(LABEL_HEADS) for key in left_aside)


def _one_line(error: BaseException) -> str:
    """An error's words on one line, without what follows the first 300 characters."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
