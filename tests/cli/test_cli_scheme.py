"""`annotate scheme`."""

import pytest

from annotate.tags.scheme_file import presets


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
