from __future__ import annotations

import numpy as np
import xxhash

from towers.features.vocabularies import (
    WORD_BUCKETS,
    WORDS_MAX,
    Quantiles,
    Vocabulary,
    user_buckets,
    word_buckets,
)


def test_seen_values_have_codes_from_one_and_unseen_ones_have_zero() -> None:
    vocabulary = Vocabulary.of(["tea", "cup", "tea"])
    assert vocabulary.values == ("cup", "tea")
    assert len(vocabulary) == 3
    assert vocabulary.codes(["tea", "pot", "cup", ""]).tolist() == [2, 0, 1, 0]


def test_an_empty_vocabulary_knows_nothing_but_zero() -> None:
    assert len(Vocabulary.of([])) == 1
    assert Vocabulary.of([]).codes(["tea"]).tolist() == [0]


def test_a_number_is_the_bin_that_it_lies_in() -> None:
    quantiles = Quantiles.of(np.arange(1.0, 101.0), quantile_count=4)
    assert len(quantiles) == 3 + 2
    assert quantiles.codes([-5, 25, 26, 51, 76, 1_000]).tolist() == [1, 1, 2, 3, 4, 4]


def test_a_constant_number_needs_one_edge_alone() -> None:
    quantiles = Quantiles.of(np.full(20, 7.0))
    assert quantiles.edges == (7.0,)
    assert quantiles.codes([6, 7, 8]).tolist() == [1, 2, 2]


def test_users_are_hashed_into_buckets_above_the_one_of_the_unknown() -> None:
    ids = [f"user-{number}" for number in range(500)]
    buckets = user_buckets(ids, 8)
    assert sorted(set(buckets.tolist())) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert buckets[3] == xxhash.xxh64_intdigest(b"user-3") % 8 + 1
    assert user_buckets(["user-3"], 8).tolist() == [buckets[3]]


def test_without_buckets_every_user_is_unknown() -> None:
    assert user_buckets(["a", "b"], 0).tolist() == [0, 0]
    assert user_buckets([], 8).tolist() == []


def test_words_are_lower_cased_hashed_and_padded_with_zero() -> None:
    table = word_buckets(["Green Tea", "tea, green!", "", "word " * 40])
    assert table.shape == (4, WORDS_MAX)
    assert table[0, :2].tolist() == table[1, 1::-1].tolist()
    assert not table[0, 2:].any()
    assert not table[2].any()
    assert table[3].all()
    assert table.max() < WORD_BUCKETS
