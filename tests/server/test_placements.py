"""How deep each placement asks its sources."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from server.config import ContextItems, PlacementConfig
from server.placements import heads_missing, plan
from towers.settings import CandidateSettings, HeadWeights

TRAINED = CandidateSettings(two_tower=12, buy_again=10, popular=8, similar=6)
ROOMY = CandidateSettings(two_tower=100, buy_again=150, popular=50, similar=50)


def settings(
    placement: PlacementConfig, trained: CandidateSettings = TRAINED, *, seeded: bool = True
) -> tuple[int, ...]:
    chosen = plan({"home": placement}, trained)["home"].settings(seeded=seeded)
    return chosen.two_tower, chosen.buy_again, chosen.popular, chosen.similar


def test_where_the_sources_fill_every_page_nothing_is_changed() -> None:
    assert settings(PlacementConfig(), ROOMY) == (100, 150, 50, 50)
    assert settings(PlacementConfig(context_items=ContextItems.CART), ROOMY) == (100, 150, 50, 50)


def test_a_product_page_asks_for_neighbours_alone_and_without_a_known_item_as_the_home_page_does() -> None:
    product = PlacementConfig(context_items=ContextItems.SEED)
    assert settings(product, ROOMY) == (0, 0, 0, 150)
    assert settings(product, ROOMY, seeded=False) == (100, 150, 50, 50)


def test_the_deepest_source_goes_on_until_the_largest_page_is_full() -> None:
    assert settings(PlacementConfig(page_size_max=30)) == (30, 10, 8, 6)
    assert settings(PlacementConfig(page_size_max=30, context_items=ContextItems.SEED)) == (0, 0, 0, 30)
    assert settings(PlacementConfig(page_size_max=30, context_items=ContextItems.SEED), seeded=False) == (30, 10, 8, 6)
    only_popular = PlacementConfig(page_size_max=30, candidates={"two_tower": 0, "buy_again": 0})
    assert settings(only_popular) == (0, 0, 30, 6)


def test_a_placement_s_own_settings_win() -> None:
    assert settings(PlacementConfig(candidates={"two_tower": 200, "popular": 0}), ROOMY) == (200, 150, 0, 50)


@pytest.mark.parametrize("candidates", [{"towers": 3}, {"popular": -1}, {"similar": "many"}])
def test_a_source_that_does_not_exist_or_a_wrong_depth_is_refused_by_name(candidates: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(candidates))):
        PlacementConfig(candidates=candidates)


def test_a_placement_weighs_heads_and_a_head_that_the_ranker_has_not_is_named() -> None:
    home = PlacementConfig(heads=HeadWeights(buys=1, value=0.5))
    assert plan({"home": home}, TRAINED)["home"].heads.on == ("buys", "value")
    assert plan({"home": PlacementConfig()}, TRAINED)["home"].heads == HeadWeights()
    assert heads_missing({"home": home}, ("buys", "value")) == ""
    found = heads_missing({"cart": PlacementConfig(), "home": home}, ("buys", "rating"))
    assert found.startswith("placements.home.heads.value is 0.5, but the ranker has only buys, rating")


def test_a_placement_where_no_head_counts_is_refused() -> None:
    with pytest.raises(ValidationError, match="every weight is 0"):
        PlacementConfig(heads={"buys": 0})
