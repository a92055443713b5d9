"""The Arrow type that a column of a corpus has in the shards (it "travels as" that type), and the common type of two.

A type says how a writer laid values out, so pandas, Polars and Spark write the same values as different types. All
string types travel as large_string, all binary types as large_binary, lists of any layout as large_list, and
dictionaries as their values. Arrow has all its kernels for these types, their offsets have 64 bits, and both Polars
and pyarrow read them. Any field may be null. Values are equal to those of the file. Whether a type can travel is known
from the schema alone; one that can't is refused by name.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from annotate.text.arrays import one_array
from annotate.text.utf8 import invalid_utf8

Mask = npt.NDArray[np.bool_]

MAX_DIGITS = 38  # of a decimal that Polars can read
_OFFSET = re.compile(r"[+-]\d\d:?\d\d")
_AS_THEY_ARE = (
    *(pt.is_null, pt.is_boolean, pt.is_integer, pt.is_floating, pt.is_date32, pt.is_time64),
    pt.is_fixed_size_binary,
)


class UnsupportedType(ValueError):
    """A type can't travel; the message says why, as in `the type ... is one that can't be written to Parquet`."""


def travelling(kind: pa.DataType) -> pa.DataType:
    """The type that a column of some type travels as.

    Raises:
        UnsupportedType: it can't travel.
    """
    if any(holds(kind) for holds in _AS_THEY_ARE):
        return kind
    if is_any_string(kind):
        return pa.large_string()
    if pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind):
        return pa.large_binary()
    if pt.is_dictionary(kind):
        return travelling(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _extension(kind)
    if pt.is_fixed_size_list(kind):
        return pa.list_(travelling(kind.value_type), kind.list_size)
    if is_any_list(kind):
        return pa.large_list(travelling(kind.value_type))
    if pt.is_map(kind):
        return pa.map_(travelling(kind.key_type), travelling(kind.item_type))
    if pt.is_struct(kind):
        return _struct(kind)
    return _measured(kind)


def _measured(kind: pa.DataType) -> pa.DataType:
    """The type that times and decimals travel as.

    Times in seconds travel in milliseconds, since Parquet has no seconds. Polars crashes on a time zone that is an
    offset, such as `+05:30`: such timestamps travel in UTC, as the same instants.
    """
    if pt.is_timestamp(kind):
        zone = "UTC" if kind.tz and _OFFSET.fullmatch(kind.tz) else kind.tz
        return pa.timestamp("ms" if kind.unit == "s" else kind.unit, zone)
    if pt.is_duration(kind):
        return pa.duration("ms") if kind.unit == "s" else kind
    if pt.is_time32(kind):
        return pa.time32("ms")
    if pt.is_date64(kind):
        return pa.date32()
    if pt.is_decimal(kind):
        if kind.precision > MAX_DIGITS:
            raise UnsupportedType(f"Polars could not read the type {kind}, of more than {MAX_DIGITS} digits")
        return pa.decimal128(kind.precision, kind.scale)
    raise UnsupportedType(f"the type {kind} is one that can't be written to Parquet")


def _struct(kind: pa.DataType) -> pa.DataType:
    names = [field.name for field in kind]
    if not names:
        raise UnsupportedType("an object without fields can't be written to Parquet")
    if len({*names}) < len(names):
        raise UnsupportedType(f"the type {kind} has more than one field of a name")
    return pa.struct([(field.name, travelling(field.type)) for field in kind])


def _extension(kind: pa.BaseExtensionType) -> pa.DataType:
    """The extension types of Arrow itself travel as they are, others as their storage type.

    Which other types are known depends on the modules that a process has imported.
    """
    storage = travelling(kind.storage_type)
    name = getattr(kind, "extension_name", "")
    if name == "arrow.json":
        return pa.json_(storage)
    if name == "arrow.opaque":
        return pa.opaque(storage, kind.type_name, kind.vendor_name)
    known = ("arrow.uuid", "arrow.bool8", "arrow.fixed_shape_tensor")
    return kind if name in known and storage == kind.storage_type else storage


def id_type(kind: pa.DataType) -> pa.DataType | None:
    """The type that ids of a column are converted to, or None if the column can't hold ids."""
    if pt.is_dictionary(kind):
        kind = kind.value_type
    if is_any_string(kind) or pt.is_null(kind):
        return pa.large_string()
    if kind == pa.uint64():
        return pa.uint64()
    return pa.int64() if pt.is_integer(kind) else None


def is_any_string(kind: pa.DataType) -> bool:
    """Whether values of a type are strings, in any layout."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def is_any_list(kind: pa.DataType) -> bool:
    """Whether values of a type are lists, in any layout, of any or of one fixed length."""
    layouts = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    return any(holds(kind) for holds in layouts)


def one_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of two types without loss, or None if there is none.

    Null goes with any type, integers go with integers, floats with floats, decimals with decimals, times of day with
    times of day. Lists, maps and objects go together if their values do; a field that one object lacks is null. The
    order of types does not matter: the function is commutative and associative.

    Args:
        one: a type that `travelling` gave.
        other: another one.
    """
    if one == other or pt.is_null(other):
        return one
    if pt.is_null(one):
        return other
    if pt.is_integer(one) and pt.is_integer(other):
        return _wider_integer(one, other)
    if pt.is_floating(one) and pt.is_floating(other):
        return max(one, other, key=lambda kind: int(kind.bit_width))
    if pt.is_time(one) and pt.is_time(other):
        units = ("s", "ms", "us", "ns")
        return max(one, other, key=lambda kind: units.index(kind.unit))
    if pt.is_decimal(one) and pt.is_decimal(other):
        scale = max(one.scale, other.scale)
        digits = scale + max(one.precision - one.scale, other.precision - other.scale)
        return pa.decimal128(digits, scale) if digits <= MAX_DIGITS else None
    return _one_nested(one, other)


def _wider_integer(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    wider = max(one, other, key=lambda kind: int(kind.bit_width))
    if pt.is_signed_integer(one) == pt.is_signed_integer(other):
        return wider
    signed, unsigned = (one, other) if pt.is_signed_integer(one) else (other, one)
    bits = max(signed.bit_width, 2 * unsigned.bit_width)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits)


def _one_nested(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if is_any_list(one) and is_any_list(other):
        value = one_type(one.value_type, other.value_type)
        if value is None:
            return None
        sizes = [kind.list_size if pt.is_fixed_size_list(kind) else -1 for kind in (one, other)]
        return pa.list_(value, sizes[0]) if min(sizes) >= 0 and sizes[0] == sizes[1] else pa.large_list(value)
    if pt.is_map(one) and pt.is_map(other):
        key, item = one_type(one.key_type, other.key_type), one_type(one.item_type, other.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if pt.is_struct(one) and pt.is_struct(other):
        types: dict[str, pa.DataType] = {field.name: field.type for field in one}
        for field in other:
            joined = one_type(types.get(field.name, pa.null()), field.type)
            if joined is None:
                return None
            types[field.name] = joined
        names = [field.name for field in one]
        alike = names == [field.name for field in other]
        return pa.struct([(name, types[name]) for name in (names if alike else sorted(types))])
    return None


def converted(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Convert a column to a type that `travelling` or `one_type` gave for it; values are equal."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return pa.chunked_array([_converted(chunk, kind) for chunk in chunks], kind)


def _converted(array: pa.Array, kind: pa.DataType) -> pa.Array:
    found = array.type
    if found == kind:
        return array
    if pt.is_dictionary(found):
        # Values are converted before they are taken: some types have no `take`, and here each value is there once.
        return _converted(array.dictionary, kind).take(array.indices)
    if isinstance(kind, pa.BaseExtensionType):
        storage = array.storage if isinstance(found, pa.BaseExtensionType) else array
        return pa.ExtensionArray.from_storage(kind, _converted(storage, kind.storage_type))
    if isinstance(found, pa.BaseExtensionType):
        return _converted(array.storage, kind)
    if pt.is_null(found):
        return pa.nulls(len(array), kind)
    if pt.is_struct(found):
        return _converted_struct(array, kind)
    if pt.is_map(found):
        offsets, (keys, items) = _parted(array, (array.keys, array.items))
        keys, items = _converted(keys, kind.key_type), _converted(items, kind.item_type)
        return pa.MapArray.from_arrays(offsets, keys, items, type=kind, mask=_nulls(array))
    if pt.is_fixed_size_list(kind):
        size = kind.list_size
        values = _converted(array.values.slice(array.offset * size, len(array) * size), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=_nulls(array))
    if is_any_list(found):
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.append(0, np.cumsum(lengths, dtype=np.int64)))
        values = _converted(array.flatten(), kind.value_type)
        return pa.LargeListArray.from_arrays(offsets, values, type=kind, mask=_nulls(array))
    return array.cast(kind)


def _converted_struct(array: pa.StructArray, kind: pa.DataType) -> pa.Array:
    there = {field.name: array.field(i) for i, field in enumerate(array.type)}
    fields = [
        _converted(there[field.name], field.type) if field.name in there else pa.nulls(len(array), field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(fields, fields=list(kind), mask=_nulls(array))


def _parted(array: pa.Array, values: tuple[pa.Array, ...]) -> tuple[pa.Array, tuple[pa.Array, ...]]:
    """Offsets of lists, shifted to begin at 0, and the values of these lists alone."""
    offsets = array.offsets
    first, last = offsets[0].as_py(), offsets[-1].as_py()
    return pc.subtract(offsets, offsets[0]), tuple(each.slice(first, last - first) for each in values)


def _nulls(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None


def malformed(column: pa.ChunkedArray) -> Mask:
    """Which values of a column hold a string, at any depth, that is not valid UTF-8: bool `[n]`.

    If all are valid, this costs one pass of Arrow's own validation.
    """
    return np.concatenate([np.empty(0, np.bool_), *(_malformed(chunk) for chunk in column.chunks)])


def _malformed(array: pa.Array) -> Mask:
    kind = array.type
    none = np.zeros(len(array), np.bool_)
    if pt.is_large_string(kind):
        return invalid_utf8(array)
    if isinstance(kind, pa.BaseExtensionType):
        return _malformed(array.storage)
    if not (is_any_list(kind) or pt.is_map(kind) or pt.is_struct(kind)):
        return none
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        pass
    else:
        return none
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    if pt.is_struct(kind):
        return valid & np.logical_or.reduce([_malformed(array.field(i)) for i in range(kind.num_fields)])
    if pt.is_fixed_size_list(kind):
        size = kind.list_size
        inner = _malformed(array.values.slice(array.offset * size, len(array) * size))
        return valid & inner.reshape(len(array), size).any(axis=1)
    offsets, values = _parted(array, (array.keys, array.items) if pt.is_map(kind) else (array.values,))
    seen = np.append(0, np.cumsum(np.logical_or.reduce([_malformed(each) for each in values])))
    edges = offsets.to_numpy()
    return valid & (seen[edges[1:]] > seen[edges[:-1]])


def without(column: pa.ChunkedArray, rows: Mask) -> pa.ChunkedArray:
    """A column with nulls at some rows."""
    if not rows.any():
        return column
    return pa.chunked_array([one_array(column).take(pa.array(np.arange(len(rows)), mask=rows))])
