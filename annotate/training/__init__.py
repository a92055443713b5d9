"""Training on token shards: a PyTorch dataset, and a model's rows for the tags."""

from annotate.training.dataset import ShardDataset
from annotate.training.embeddings import add_tag_embeddings, padded_vocabulary_size

__all__ = ["ShardDataset", "add_tag_embeddings", "padded_vocabulary_size"]
