"""`annotate scheme`."""

import pytest
from tokenizers import AddedToken, Tokenizer, models

from annotate.tags.scheme_file import presets

NICE = """document_dropout = 0.1

[[family]]
name = "niceness"
layout = "begin-end"
tags = { nice = "niceness >= q(0.7, by=source)", naughty = "else" }
"""


def tokenizer_file(folder, size, *, ordinary=(), special=()):
    """A tokenizer of words, and no more; saved as tokenizer.json."""
    words = ["unknown", *ordinary, *special]
    words += [f"w{i}" for i in range(size - len(words))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="unknown"))
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.mark.parametrize("name", presets())
def test_each_preset_is_written_and_shown(annotate, tmp_path, name):
    path = tmp_path / "mine.toml"
    code, out, _ = annotate("scheme", "new", str(path), "--preset", name)
    assert code == 0 and f"annotate scheme check {path}" in out
    assert path.read_text() == presets()[name]
    code, out, _ = annotate("scheme", "check", str(path))
    assert code == 0
    told, _, shown = out.partition("On sample text")
    tags = {word for word in told.split() if word.startswith("<")}
    assert any(tag in shown for tag in tags)
    assert "Rain fell all night" in shown


def test_what_goes_wrong(annotate, tmp_path):
    there = tmp_path / "there.toml"
    there.write_text('[[family]]\nname = "f"\ntags = { a = "x >" }\n')
    code, _, err = annotate("scheme", "new", str(there))
    assert code == 2 and "exists" in err
    code, _, err = annotate("scheme", "check", str(there))
    assert code == 2 and f"{there}, line 3: tag 'a'" in err
    code, _, err = annotate("scheme", "new", str(tmp_path / "no" / "x.toml"))
    assert code == 2 and "there is no folder" in err
    code, _, err = annotate("scheme", "check", str(tmp_path / "none.toml"))
    assert code == 2 and "no such tag scheme" in err and "--preset" in err


def test_ids_of_the_tags(annotate, tmp_path):
    (tmp_path / "s.toml").write_text(NICE)
    told = ("scheme", "check", str(tmp_path / "s.toml"), "--tokenizer")
    code, out, _ = annotate(*told, tokenizer_file(tmp_path, 1000, special=["<unused0>", "<unused1>"]))
    assert code == 0
    assert "documents of each source by themselves: q(niceness, 0.7)" in out
    assert [f"{line.split()[0]} {line.split()[2]}" for line in out.splitlines() if line.startswith("  <")][:4] == [
        "<nice> 1000", "<naughty> 1001", "</nice> 1002", "</naughty> 1003",
    ]  # fmt: skip
    assert "1,000 ids without the tags, 1,004 with them: 16 bits a token" in out
    assert "2 tokens of it may be free, such as <unused0>" in out and "Rain fell all night" in out
    code, out, _ = annotate(*told, tokenizer_file(tmp_path, 1 << 16), "--multiple", "128")
    assert code == 0 and "65,536 ids without the tags, 65,664 with them, padded to a multiple of 128: 32 bits" in out
    assert "do not fit beside the others in 16 bits" in out and "may be free" not in out
    slots = [f"<unused{i}>" for i in range(4)]
    reserved = [word for slot in slots for word in ("--reserved", slot)]
    code, out, _ = annotate(*told, tokenizer_file(tmp_path, 1000, special=slots), *reserved)
    assert code == 0 and "<nice> is 1\n" in out and "1,000 with them: 16 bits a token" in out


@pytest.mark.parametrize(
    ("ordinary", "options", "said"),
    [
        (["</nice>"], [], "s.toml, line 6: the tokenizer has an ordinary token that is spelled </nice>"),
        ([], ["--reserved", "w1"], "4 tokens need as many different reserved slots, got 1"),
        (
            [],
            [word for slot in ("w1", "w2", "w3", "none") for word in ("--reserved", slot)],
            "s.toml, line 6: the tokenizer has no token 'none' to put </naughty> on",
        ),
        ([], ["--multiple", "0"], "padded to must be at least 1"),
    ],
)
def test_a_tag_that_is_not_one_token_is_named_with_its_line(annotate, tmp_path, ordinary, options, said):
    (tmp_path / "s.toml").write_text(NICE)
    file = tokenizer_file(tmp_path, 10, ordinary=ordinary)
    code, out, err = annotate("scheme", "check", str(tmp_path / "s.toml"), "--tokenizer", file, *options)
    assert (code, out) == (2, "") and said in err


def test_options_that_need_a_tokenizer(annotate, tmp_path):
    (tmp_path / "s.toml").write_text(NICE)
    code, _, err = annotate("scheme", "check", str(tmp_path / "s.toml"), "--multiple", "8")
    assert code == 2 and "Name one with --tokenizer" in err
    code, _, err = annotate("scheme", "check", str(tmp_path / "s.toml"), "--tokenizer", str(tmp_path / "none.json"))
    assert code == 2 and "there is no such file" in err
