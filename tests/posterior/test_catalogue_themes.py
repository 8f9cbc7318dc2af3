"""Themes that are found: groups with the names of their words, and axes between two poles."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import ConfigError, DataWarning, InputError, ItemError
from bayes_interest.interest_model import InterestModel
from bayes_interest.posterior.catalogue_themes import discover_themes, raw, themes_between
from bayes_interest.posterior.typical_words import typical_words, words_of
from bayes_interest.text.hashing import HashingEncoder
from tests.fitted import encoder, model

WORDS = {"jazz": "jazz saxophone", "chess": "chess opening", "soup": "soup carrots"}
TEXTS = [
    {"item_id": f"{name}{n}", "text": f"the {words} of number {n}"}
    for name, words in WORDS.items()
    for n in range(5)
]
ITEMS = pd.DataFrame([*TEXTS, {"item_id": "mute", "text": ""}])
NAMED = ITEMS.head(15)


@cache
def fitted() -> InterestModel:
    """Of people who each like one of three kinds."""
    rng = np.random.default_rng(2)
    ids, kinds = NAMED["item_id"].to_numpy(), list(WORDS)
    rows = [
        (f"u{user}", item, 1.6e9 + 86_400.0 * n, float(item.startswith(kinds[user % 3])))
        for user in range(24)
        for n, item in enumerate(rng.permutation(ids))
    ]
    rows.append(("u0", "mute", 1.6e9 + 86_400.0 * 30, 1.0))
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "value"])
    config = ModelConfig(emission="bernoulli", state_dim=3, rates=False)
    run = FitConfig(max_epochs=12, n_members=1, progress=False, learning_rate=0.1, holdout=0.0)
    return InterestModel(config, HashingEncoder(64)).fit(events, ITEMS, run)


@pytest.mark.parametrize("by", ["interest", "text"])
def test_the_kinds_are_found_and_named(by: str) -> None:
    found = discover_themes(fitted(), NAMED, 3, n_words=2, by=by)  # type: ignore[arg-type]
    assert {frozenset(ids) for ids in found.values()} == {
        frozenset(f"{name}{n}" for n in range(5)) for name in WORDS
    }
    for name, ids in found.items():
        assert set(name.split(", ")) == set(WORDS[ids[0][:-1]].split())


def test_they_depend_on_the_seed_and_on_nothing_else() -> None:
    ask = [discover_themes(fitted(), NAMED, 5, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert ask[0] == ask[1]
    assert list(ask[0]) == list(ask[1])
    assert any(other != ask[0] for other in ask[2:])
    assert sum(map(len, ask[0].values())) == len(NAMED)
    assert len(set(ask[0])) == 5


def test_they_can_be_asked_about() -> None:
    themes = discover_themes(fitted(), NAMED, 3, n_words=1)
    found = fitted().interest(["u0"], themes=themes).set_index("theme")["mean"]
    liked = next(name for name, ids in themes.items() if "jazz1" in ids)
    assert found.idxmax() == liked


def test_items_that_point_nowhere_are_counted() -> None:
    with pytest.warns(DataWarning, match=r"1 of 16 items have nothing .* item 'mute' among them"):
        found = discover_themes(fitted(), ITEMS, 3, by="text")
    assert "mute" not in {item for ids in found.values() for item in ids}


def test_groups_without_words_have_numbers() -> None:
    silent = NAMED.assign(text="7 - 7")
    assert sorted(discover_themes(fitted(), silent, 3)) == ["theme 1", "theme 2", "theme 3"]
    alike = NAMED.assign(text="all the same words")
    names = list(discover_themes(fitted(), alike, 3))
    assert len(set(names)) == 3


def test_words_of_any_script() -> None:
    assert list(words_of("Jazz, 1959 a café_2!")) == ["jazz", "café"]
    assert list(words_of("爵士乐 live")) == ["爵士", "士乐", "爵士乐", "live"]
    chinese = ["机器学习入门", "机器学习的数学", "家常菜谱", "素菜谱大全", "深度机器学习", "菜谱"]
    group = np.array([0, 0, 1, 1, 0, 1])
    first, second = typical_words(chinese, group, 2)
    assert first[0] == "机器学习"
    assert second[0] == "菜谱"


def test_common_words_and_one_long_text_do_not_name_a_group() -> None:
    texts = ["und tea cup", "und tea pot", "und tea", "und car " + "wheel " * 50, "und car", "car"]
    first, second = typical_words(texts, np.array([0, 0, 0, 1, 1, 1]), 1)
    assert (first, second) == (["tea"], ["car"])
    stems = typical_words(["garden gardens gardening rose"] * 3, np.zeros(3, dtype=int), 3)
    assert len(stems[0]) == 2  # of one stem once


def test_a_word_of_several_groups_counts_less_in_each() -> None:
    texts = ["plot tea cup", "plot tea", "plot cat", "plot cat dog", "bus", "bus", "bus", "bus"]
    first, second, third = typical_words(texts, np.array([0, 0, 1, 1, 2, 2, 2, 2]), 1)
    assert (first, second, third) == (["tea"], ["cat"], ["bus"])


def test_items_lie_between_poles_by_their_texts() -> None:
    found = themes_between(fitted(), "soup carrots", "jazz saxophone")
    assert list(found) == ["soup carrots", "between", "jazz saxophone"]
    for name in ("soup carrots", "jazz saxophone"):
        assert {item[:4] for item in found[name]} == {name[:4]}
    assert {item[:5] for item in found["between"]} == {"chess"}
    back = themes_between(fitted(), "jazz saxophone", "soup carrots")
    assert set(back["jazz saxophone"]) == set(found["jazz saxophone"])
    five = themes_between(fitted(), "soup", "jazz", n_bands=5)
    assert list(five) == ["soup", "between 1", "between 2", "between 3", "jazz"]
    assert [len(ids) for ids in five.values()] == [3] * 5


def test_poles_may_be_items_or_vectors() -> None:
    names = ["cold", "lukewarm", "hot"]
    ends = ["soup1", "soup2"], ["jazz1", "jazz2"]
    by_items = themes_between(fitted(), *ends, names=names)
    assert set(by_items["hot"]) == {f"jazz{n}" for n in range(5)}
    door = model("bernoulli")
    vectors, ids = raw(door.posterior), door.posterior.vocabulary.items.ids
    kept, known = encoder("bernoulli").lookup(ids)
    assert known.all()
    np.testing.assert_allclose(vectors, kept, rtol=1e-4, atol=1e-5)
    axis = np.zeros(7)
    axis[2] = 1.0
    found = themes_between(door, -axis, axis, names=names)
    place = dict(zip(ids, kept[:, 2] / np.linalg.norm(kept, axis=1), strict=True))
    assert [i for band in found.values() for i in band] == sorted(place, key=place.__getitem__)
    some = themes_between(door, -axis, axis, items=list(ids[:4]), n_bands=2, names=["a", "b"])
    assert sorted(some["a"] + some["b"]) == sorted(ids[:4])


def test_what_is_refused() -> None:
    door = fitted()
    for error, said, ask in (
        (InputError, "poles that are not two texts need names=, 3", (["jazz1"], ["soup1"])),
        (InputError, "have the same vector: there is no axis", ("jazz", "jazz")),
        (ItemError, "item 'ghost' is unknown to the model .*low", (["ghost"], "jazz")),
        (InputError, r"low=\['mute'\]: expected items that have a text", (["mute"], "jazz")),
        (InputError, "item 'mute' has no text or vector", ("soup", "jazz", ["mute", "jazz1"])),
        (InputError, "n_bands=3: .* from 2 to .*, 2", ("a b", "c", ["jazz1", "jazz2"])),
    ):
        with pytest.raises(error, match=said):
            themes_between(door, *ask)  # type: ignore[arg-type]
    with pytest.raises(ItemError, match="low is a text, and this model has no text encoder"):
        themes_between(model("bernoulli"), "sad", "cheerful")
    for options, said in (
        ({"n_themes": 0}, "n_themes=0: expected a whole number >= 1"),
        ({"n_words": 1.5}, "n_words=1.5: expected"),
        ({"seed": -1}, "seed=-1: expected a whole number >= 0"),
        ({"by": "magic"}, "by='magic': expected one of interest, text"),
    ):
        with pytest.raises(ConfigError, match=said):
            discover_themes(door, NAMED, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="n_themes=40, but only 15 of the items differ"):
        discover_themes(door, NAMED, 40)
    with pytest.raises(ItemError, match="item 'ghost' is unknown"):
        discover_themes(door, pd.DataFrame({"item_id": ["ghost"], "text": ["boo"]}))


def test_a_model_without_texts_has_no_poles() -> None:
    door = model("bernoulli")
    bare = InterestModel(door.config, door.encoder)
    bare._posterior = replace(
        door.posterior, has_text=np.zeros_like(door.posterior.has_text)
    )  # fmt: skip
    with pytest.raises(InputError, match="expected items that have a text or vector"):
        themes_between(bare, ["i00001"], ["i00002"], names=["a", "b", "c"])
