"""Lists of ids that a takedown names."""

from annotate.stages.shared.listed_ids import read_ids


def test_only_a_line_feed_ends_an_id(tmp_path):
    """Else an id of a corpus could take out another document, by a sign that only some readers take for an end."""
    (tmp_path / "ids.txt").write_bytes("x\u2028victim\r\n one \n\nx\x0bvictim\n".encode())
    assert read_ids(tmp_path / "ids.txt") == ("x\u2028victim", "one", "x\x0bvictim")
