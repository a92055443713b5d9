from model_fixtures import copy_model, tiny  # noqa: F401
