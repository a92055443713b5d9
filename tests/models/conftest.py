from model_fixtures import copy_model, edit_json, spans, tiny  # noqa: F401
