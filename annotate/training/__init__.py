"""Training on token shards: a PyTorch dataset, a model's rows for the tags, and the loss against a teacher."""

from annotate.training.dataset import ShardDataset
from annotate.training.distillation import teacher_kl
from annotate.training.embeddings import add_tag_embeddings, padded_vocabulary_size

__all__ = ["ShardDataset", "add_tag_embeddings", "padded_vocabulary_size", "teacher_kl"]
