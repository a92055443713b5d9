from model_fixtures import copy_model, edit_json, one_thread, spans, tiny  # noqa: F401
