"""The strict frontier against brute force, on random series."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.read.frontier import search, search_by_event, strict_frontier

times = st.integers(0, 12)
rows = st.lists(st.tuples(times, times), max_size=12, unique=True).map(sorted)


@given(rows, st.lists(times, max_size=8))
@settings(max_examples=400)
def test_the_frontier_finds_what_brute_force_finds(points, moments):
    event, ingest = (np.array([p[i] for p in points], dtype=np.int64) for i in (0, 1))
    found = search(strict_frontier(event, ingest), np.array(moments, dtype=np.int64))
    visible = [[i for i, p in enumerate(points) if max(p) <= moment] for moment in moments]
    assert found.tolist() == [max(seen, default=-1) for seen in visible]


@given(rows)
def test_the_frontier_is_strictly_increasing_in_known_at_and_ordered_in_event_time(points):
    event, ingest = (np.array([p[i] for p in points], dtype=np.int64) for i in (0, 1))
    frontier = strict_frontier(event, ingest)
    assert (np.diff(frontier.known_at) > 0).all()
    assert (np.diff(event[frontier.rows]) >= 0).all()


def test_a_bulk_backfill_leaves_one_row_so_no_engine_has_to_break_a_tie():
    event = np.arange(1000)
    frontier = strict_frontier(event, np.full(1000, 5000))
    assert frontier.rows.tolist() == [999]


def test_older_data_that_arrives_later_does_not_hide_newer_data():
    """A restatement of an older period must not win (HKUDS/Vibe-Trading#771)."""
    event, ingest = np.array([10, 10, 20]), np.array([11, 40, 21])
    assert search(strict_frontier(event, ingest), np.array([30, 50])).tolist() == [2, 2]


def test_a_join_on_event_time_alone_takes_the_last_revision():
    assert search_by_event(np.array([1, 2, 2]), np.array([0, 1, 2, 9])).tolist() == [-1, 0, 2, 2]
