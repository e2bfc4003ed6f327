"""A thinned curve shows what the whole one shows."""

import numpy as np

from pipeline.ground.report.decimate import extremes, means


def test_every_spike_survives_whatever_its_size_and_place() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=100_003)
    spikes = random.choice(len(values), 50, replace=False)
    values[spikes] = 100.0 + np.arange(50)
    kept = extremes(values, buckets=500)
    assert len(kept) <= 2 * 500 + 2
    assert (np.diff(kept) > 0).all()
    assert {0, len(values) - 1} <= set(kept.tolist())
    for bucket in np.array_split(np.arange(len(values) // 201 * 201), len(values) // 201):  # 201 to a stretch
        inside = kept[(kept >= bucket[0]) & (kept <= bucket[-1])]
        assert values[inside].max() == values[bucket].max()
        assert values[inside].min() == values[bucket].min()


def test_the_extremes_of_every_column_are_kept() -> None:
    first, second = np.zeros(5000), np.zeros(5000)
    first[1234], second[4321] = -1.0, 1.0
    assert {1234, 4321} <= set(extremes(first, second, buckets=10).tolist())


def test_gaps_hide_nothing_and_few_rows_are_all_kept() -> None:
    values = np.full(1000, np.nan)
    values[321] = 7.0
    assert 321 in extremes(values, buckets=5)
    assert extremes(np.arange(9.0), buckets=5).tolist() == list(range(9))
    assert extremes(np.array([]), buckets=5).tolist() == []


def test_means_leave_out_what_is_not_finite() -> None:
    at, loss = means(np.arange(6.0), np.array([1.0, np.nan, 3.0, np.nan, np.nan, np.nan]), buckets=2)
    assert at.tolist() == [1.0, 4.0]
    assert loss[0] == 2.0
    assert np.isnan(loss[1])
    assert [column.tolist() for column in means(np.array([]), np.array([]), buckets=3)] == [[], []]
