"""The kernel of `record_transformer` against what its rules say in Python."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder import _native
from forwarder._native import EventBatch, EventStream

KEYS = st.sampled_from(["", "a", "b", "ab", "ba", "k" * 40, "k" * 300])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=40)
    | st.binary(max_size=9)
)
RECORDS = st.dictionaries(
    KEYS, VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(KEYS, VALUES, max_size=3)
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(RECORDS, max_size=4),
    st.dictionaries(KEYS, st.integers().map(str) | KEYS.map(lambda key: f'${{record["{key}"]}}')),
    st.lists(KEYS, max_size=3),
    st.none() | st.lists(KEYS, max_size=3),
)
def test_as_in_python(
    records: list[dict[str, Any]], sets: dict[str, str], removed: list[str], kept: list[str] | None
) -> None:
    transformer, unknown = _native.RecordTransformer.compile(
        dict(sets), remove_keys=removed, keep_keys=kept, renew_time_key=None, auto_typecast=True, ruby=False,
        hostname="h",
    )  # fmt: skip
    assert not unknown
    good, failed, raised, _, _ = transformer.apply(
        EventBatch([("t", EventStream.from_events((5, r) for r in records))])
    )
    assert not failed
    assert not raised
    expected = []
    for record in records:
        new = dict(record) if kept is None else {key: record[key] for key in kept if key in record}
        for key, text in sets.items():
            new[key] = record.get(text[len('${record["') : -len('"]}')]) if text.startswith("$") else text
        expected.append([(key, value) for key, value in new.items() if key not in removed])
    found = [list(record.items()) for _, stream in good.streams() for _, record in stream]
    assert found == expected
