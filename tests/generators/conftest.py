from model_fixtures import copy_model, edit_json, tiny  # noqa: F401
