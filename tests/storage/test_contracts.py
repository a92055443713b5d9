"""Contracts: every one loads, and what breaks one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from annotate.errors import StorageError
from annotate.storage.contracts import arrow_type, contract, shipped

NAMES = sorted(path.stem for path in shipped("schemas").glob("*.json"))


def test_the_contracts_of_the_design_are_there() -> None:
    assert {"corpus", "verdicts", "spans", "annotations", "placements", "manifest", "quarantine"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_contract_loads_and_accepts_an_empty_table(name: str) -> None:
    found = contract(name)
    assert found.name == name
    empty = found.schema.empty_table()
    assert found.check(empty, "here") is empty


@pytest.mark.parametrize("name", NAMES)
def test_a_contract_is_described(name: str) -> None:
    spec = json.loads((shipped("schemas") / f"{name}.json").read_text("utf-8"))
    assert spec["description"].endswith(".")
    for column in spec["columns"]:
        assert column["description"].endswith("."), column["name"]
        assert set(column) <= {"name", "type", "nullable", "optional", "description"}
        assert all(isinstance(arrow_type(kind), pa.DataType) for kind in column["type"].split(" | "))


QUARANTINE = contract("quarantine").schema.empty_table()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (QUARANTINE.drop_columns(["row"]), "it has no column 'row' (int64)"),
        (
            QUARANTINE.set_column(1, "row", pa.array([], pa.int32())),
            "column 'row' should be int64, found int32",
        ),
        (QUARANTINE.append_column("x", pa.array([], pa.int8())), "column 'x' (int8) should not be there"),
        (
            pa.table([pa.nulls(2, field.type) for field in QUARANTINE.schema], names=QUARANTINE.column_names),
            "column 'shard' may have no nulls, found 2",
        ),
    ],
)
def test_what_breaks_a_contract_names_file_column_expected_and_found(table: pa.Table, expected: str) -> None:
    with pytest.raises(StorageError) as error:
        contract("quarantine").check(table, "out/quarantine/x.parquet")
    assert error.value.message == f"out/quarantine/x.parquet breaks the contract 'quarantine': {expected}"
    assert error.value.hint is not None
    assert "schemas/quarantine.json" in error.value.hint


def test_columns_of_one_other_type(tmp_path: Path) -> None:
    del tmp_path
    spans = contract("annotations").schema.empty_table()
    contract("annotations").check(spans.append_column("niceness", pa.array([], pa.float32())), "here")
    with pytest.raises(StorageError, match="column 'niceness' should be float32, found double"):
        contract("annotations").check(spans.append_column("niceness", pa.array([], pa.float64())), "here")


def test_columns_of_any_type_and_several_types() -> None:
    corpus = contract("corpus").schema.empty_table()
    contract("corpus").check(corpus.append_column("more", pa.array([], pa.list_(pa.int8()))), "here")
    contract("corpus").check(corpus.set_column(1, "id", pa.array([], pa.uint64())), "here")
    with pytest.raises(StorageError, match="column 'id' should be large_string or int64 or uint64, found double"):
        contract("corpus").check(corpus.set_column(1, "id", pa.array([], pa.float64())), "here")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("int64", pa.int64()),
        ("list<float32>", pa.list_(pa.float32())),
        (
            "list<struct<tag: string, at: list<int32>, m: map<string, int64>>>",
            pa.list_(
                pa.struct([("tag", pa.string()), ("at", pa.list_(pa.int32())), ("m", pa.map_(pa.string(), pa.int64()))])
            ),
        ),
    ],
)
def test_types_are_parsed(text: str, kind: pa.DataType) -> None:
    assert arrow_type(text) == kind
