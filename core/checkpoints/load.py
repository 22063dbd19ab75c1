"""Load a folder in transformers' format strictly: no guessed key, no weight left to chance, no user's pickle."""

import dataclasses
import difflib
import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.errors import CheckpointError
from core.models.loaded import LoadedModel

SUPPORTED = {
    "wav2vec2": "Wav2Vec2Model",
    "hubert": "HubertModel",
    "wavlm": "WavLMModel",
    "data2vec-audio": "Data2VecAudioModel",
    "wav2vec2-bert": "Wav2Vec2BertModel",
    "whisper": "WhisperEncoder",
    "encodec": "EncodecModel",
}

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
}
# Keys that published configs of these families carry although today's transformers no longer reads them.
LEGACY_KEYS = frozenset(
    {
        "freeze_feat_extract_train",
        "no_mask_channel_overlap",
        "no_mask_time_overlap",
        "mask_channel_length",
        "mask_channel_min_space",
        "mask_channel_other",
        "mask_channel_prob",
        "mask_channel_selection",
        "mask_time_min_space",
        "mask_time_other",
        "mask_time_selection",
        "num_ctc_classes",
        "num_feat_extract_layers",
        "gradient_checkpointing",
        "hidden_dropout_prob",
        "feat_extract_dropout",
        "replace_prob",
        "conv_pos_kernel_size",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "model_type",
        "architectures",
        "auto_map",
        "use_weighted_layer_sum",
        "classifier_proj_size",
        "tokenizer_class",
        "max_length",
        "suppress_tokens",
        "begin_suppress_tokens",
        "forced_decoder_ids",
        "task_specific_params",
        "use_cache",
        "return_dict",
        "_name_or_path",
        "_commit_hash",
        "attn_implementation",
        "_attn_implementation",
        "attention_dropout_prob",
        "layer_norm_epsilon",
        "is_encoder_decoder",
        "expect_mel_length",
        "num_negatives_per_positive",
        "normalize_output",
    }
)
# Drawn at training time only; a checkpoint without it embeds exactly the same.
UNUSED_WEIGHTS = ("masked_spec_embed",)
# A pre-trained or fine-tuned checkpoint holds heads beside the encoder; they are left aside on purpose.
HEADS = ("quantizer.", "project_hid.", "project_q.", "lm_head.", "classifier.", "projector.", "label_embs_concat",
         "final_proj.", "decoder.", "proj_out.", "adapter.", "tdnn.", "objective.", "feature_extractor_head.",
         "layer_weights", "adapter_layer")  # fmt: skip
WHISPER_KEYS = {r"^(model\.)?encoder\.": ""}


def load_model(folder: Path, name: str, *, from_user: bool) -> LoadedModel:
    """Load the model in ``folder``.

    Args:
        folder: Holds config.json and weights.
        name: What to call it in results.
        from_user: True for a folder a person points to: unknown config keys and pickles are refused. False for a
            snapshot of a hub, whose older configs carry keys we may not know, and whose ``.bin`` weights are read
            with ``weights_only``.

    Raises:
        CheckpointError: a missing or unreadable file, an unsupported type, a config key or weight that is missing,
            misspelt or does not fit.
    """
    raw = read_config(folder, name)
    warnings = check_config_keys(raw, name, strict=from_user)
    files = weight_files(folder, name, allow_bin=not from_user)
    model = _load_weights(folder, name, raw)
    model.eval().float()
    architecture = (raw.get("architectures") or [SUPPORTED[raw["model_type"]]])[0]
    return LoadedModel(
        name=name,
        folder=folder,
        model=model,
        preprocessor=_read_json(folder / "preprocessor_config.json", name, missing_ok=True),
        sha256=sha256_of(files),
        architecture=architecture,
        fine_tuned=_is_fine_tuned(architecture),
        warnings=tuple(warnings),
    )


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Read config.json and check that Strata knows the model type."""
    if not folder.is_dir():
        raise CheckpointError(f"Model folder {folder} does not exist. Check the path given as the model.")
    raw = _read_json(folder / "config.json", name)
    model_type = raw.get("model_type")
    if model_type not in SUPPORTED:
        raise CheckpointError(
            f"{name}: config.json has model_type {model_type!r}; Strata reads {', '.join(sorted(SUPPORTED))}."
        )
    return raw


def _read_json(path: Path, name: str, *, missing_ok: bool = False) -> dict[str, Any]:
    if not path.is_file():
        if missing_ok:
            return {}
        raise CheckpointError(f"{name}: {path.name} is missing from {path.parent}. Expected a transformers folder.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise CheckpointError(f"{name}: {path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{name}: {path} holds {type(content).__name__}; expected a JSON object.")
    return content


def check_config_keys(raw: dict[str, Any], name: str, *, strict: bool) -> list[str]:
    """Refuse missing and misspelt keys; return warnings for unknown ones where ``strict`` is off."""
    known = _known_keys(raw["model_type"])
    unknown = [key for key in raw if key not in known and key not in LEGACY_KEYS]
    missing = [key for key in REQUIRED_KEYS[raw["model_type"]] if key not in raw]
    for key in unknown:
        close = difflib.get_close_matches(key, known - raw.keys(), n=1, cutoff=0.8)
        if close:
            raise CheckpointError(f"{name}: config.json has the key {key!r}; did you mean {close[0]!r}? Correct it.")
    if missing:
        raise CheckpointError(
            f"{name}: config.json lacks {', '.join(missing)}; without it the weights or the frame times would be "
            "guessed. Restore the original config.json."
        )
    if unknown and strict:
        raise CheckpointError(
            f"{name}: config.json has unknown keys: {', '.join(unknown)}. Remove them or correct their spelling."
        )
    return [f"config.json has keys Strata does not know: {', '.join(unknown)}"] if unknown else []


def _known_keys(model_type: str) -> set[str]:
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    fields = (
        {field.name for field in dataclasses.fields(config_class)} if dataclasses.is_dataclass(config_class) else set()
    )
    return fields | set(config_class().to_dict())


def weight_files(folder: Path, name: str, *, allow_bin: bool) -> list[Path]:
    """The weight files of a folder, sorted; safetensors first, a pickle only where allowed (and then weights only)."""
    safe = sorted(folder.glob("*.safetensors"))
    if safe:
        return safe
    pickles = sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth"), *folder.glob("*.ckpt")])
    if pickles and allow_bin and pickles[0].name.startswith("pytorch_model"):
        return pickles
    if pickles:
        raise CheckpointError(
            f"{name}: {folder} holds only a pickle ({pickles[0].name}), which could run code when opened. Convert it "
            "where you trust it: model.save_pretrained(folder, safe_serialization=True) writes model.safetensors."
        )
    raise CheckpointError(f"{name}: {folder} holds no weights. Expected model.safetensors beside config.json.")


def sha256_of(files: Iterable[Path]) -> str:
    """Hash the bytes of files, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _load_weights(folder: Path, name: str, raw: dict[str, Any]) -> Any:
    import torch

    model_class = _model_class(raw["model_type"])
    mapping = {"key_mapping": WHISPER_KEYS} if raw["model_type"] == "whisper" else {}
    try:
        with _quiet_transformers():
            model, report = model_class.from_pretrained(
                str(folder),
                output_loading_info=True,
                local_files_only=True,
                dtype=torch.float32,
                weights_only=True,
                **mapping,
            )
    except CheckpointError:
        raise
    except Exception as error:  # transformers raises whatever its parts raise
        raise CheckpointError(f"{name}: the model in {folder} cannot be loaded: {_first_line(error)}") from error
    _check_report(report, name)
    return model


def _model_class(model_type: str) -> Any:
    if model_type == "whisper":
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return WhisperEncoder
    import transformers

    return getattr(transformers, SUPPORTED[model_type])


class _quiet_transformers:
    """Silence transformers' loading report and progress bar: the report is checked and raised by us instead."""

    def __enter__(self) -> None:
        from transformers.utils import logging as transformers_logging

        self.bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        self.logger = logging.getLogger("transformers")
        self.level = self.logger.level
        self.logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging as transformers_logging

        self.logger.setLevel(self.level)
        if self.bars:
            transformers_logging.enable_progress_bar()


def _check_report(report: dict[str, Any], name: str) -> None:
    missing = sorted(key for key in report["missing_keys"] if not key.endswith(UNUSED_WEIGHTS))
    mismatched = sorted(str(item) for item in report["mismatched_keys"])
    unexpected = sorted(key for key in report["unexpected_keys"] if not _is_head(key))
    for what, keys in (("lack", missing), ("do not fit the config in", mismatched), ("hold unexpected", unexpected)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(
                f"{name}: the weights {what} {', '.join(keys[:3])}{more}. Config and weights must belong together; "
                "restore both from the same source."
            )


def _is_head(key: str) -> bool:
    return any(part in key for part in HEADS) or key.endswith(UNUSED_WEIGHTS)


def _is_fine_tuned(architecture: str) -> bool:
    return architecture.endswith(("ForCTC", "Classification", "ForXVector", "ForConditionalGeneration"))


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
