"""One function for each thing a user can do; the command line, the app and README's examples all call these."""

from core.checkpoints.find import ModelEntry, list_models
from core.embed.corpus import CorpusSummary
from core.tasks.embedding import embed, embed_many

__all__ = ["CorpusSummary", "ModelEntry", "embed", "embed_many", "list_models"]
