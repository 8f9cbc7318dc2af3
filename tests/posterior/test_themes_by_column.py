"""Themes from a column: categories, tags, yes and no, bands of numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bayes_interest.errors import InputError
from bayes_interest.events.read import read_items
from bayes_interest.posterior.themes_by_column import themes_by_column


def table(**columns: object) -> pd.DataFrame:
    length = len(next(iter(columns.values())))  # type: ignore[call-overload]
    return pd.DataFrame({"item_id": [f"i{n}" for n in range(length)], **columns})


def test_a_theme_per_category_the_largest_first() -> None:
    items = table(genre=["b", "a", None, "b", " ", "a", "c", "b"])
    wanted = {"b": ["i0", "i3", "i7"], "a": ["i1", "i5"], "c": ["i6"]}
    for source in (items, read_items(items)):
        found = themes_by_column(source, "genre")
        assert found == wanted
        assert list(found) == ["b", "a", "c"]


def test_a_cell_may_hold_several() -> None:
    wanted = {"drama": ["i0", "i1"], "comedy": ["i0"], "war": ["i2"]}
    assert themes_by_column(table(genre=["drama|comedy", "drama |", "war|war"]), "genre") == wanted
    lists = [["drama", "comedy"], ("drama",), np.array(["war"])]
    assert themes_by_column(table(genre=lists), "genre") == wanted
    slashes = table(genre=["drama/comedy", "drama", "war"])
    assert themes_by_column(slashes, "genre", separator="/") == wanted
    assert list(themes_by_column(slashes, "genre", separator="")) == [
        "drama",
        "drama/comedy",
        "war",
    ]


def test_an_ordered_categorical_keeps_its_order_and_yes_has_a_no() -> None:
    sizes = pd.Categorical(["L", "S", "L", "M"], categories=["S", "M", "L", "XL"], ordered=True)
    assert list(themes_by_column(table(size=sizes), "size")) == ["S", "M", "L"]
    found = themes_by_column(table(free=[True, False, True]), "free")
    assert found == {"free": ["i0", "i2"], "not free": ["i1"]}


def test_numbers_become_bands_of_equal_size_with_names() -> None:
    items = table(sentiment=[0.9, -0.5, 0.1, -0.9, 0.0, 0.5, np.nan])
    found = themes_by_column(items, "sentiment")
    assert found == {
        "low sentiment (-0.9 to -0.5)": ["i1", "i3"],
        "middle sentiment (0 to 0.1)": ["i2", "i4"],
        "high sentiment (0.5 to 0.9)": ["i0", "i5"],
    }
    two = themes_by_column(items, "sentiment", n_bands=2)
    assert [name.split()[0] for name in two] == ["low", "high"]
    assert [len(ids) for ids in two.values()] == [3, 3]
    six = themes_by_column(items, "sentiment", n_bands=6)
    assert list(six.values()) == [["i3"], ["i1"], ["i4"], ["i2"], ["i5"], ["i0"]]


def test_edges_and_names_of_bands() -> None:
    items = table(sentiment=[0.9, -0.5, 0.2, -0.2, 0.0])
    named = ["sad", "plain", "cheerful"]
    found = themes_by_column(items, "sentiment", edges=[-0.2, 0.2], names=named)
    assert found == {"sad": ["i1"], "plain": ["i3", "i4"], "cheerful": ["i0", "i2"]}
    far = themes_by_column(items, "sentiment", edges=[-0.2, 5.0], names=named)
    assert list(far) == ["sad", "plain"]  # nothing is cheerful


def test_ties_make_fewer_bands_and_never_split() -> None:
    found = themes_by_column(table(stars=[5, 5, 5, 5, 1]), "stars")
    assert sorted(map(len, found.values())) == [1, 4]
    assert themes_by_column(table(stars=[3, 3]), "stars") == {"stars 3 to 3": ["i0", "i1"]}


def test_what_does_not_fit_is_named() -> None:
    items = table(genre=["a", "b"], stars=[1.0, 2.0], none=[None, None])
    for column, options, said in (
        ("theme", {}, "items have no column 'theme', only item_id,"),
        ("none", {}, "column 'none' of the items is empty"),
        ("genre", {"edges": [1.0]}, "edges= and names= are for numbers"),
        ("genre", {"names": ["a"]}, "edges= and names= are for numbers"),
        ("stars", {"n_bands": 1}, "n_bands=1: expected a whole number >= 2"),
        ("stars", {"names": ["a", "b", "c", "d"]}, "expected 2 different names, one for each"),
        ("stars", {"names": ["a", "a"]}, "expected 2 different names"),
        ("stars", {"edges": [2.0, 1.0]}, r"edges=\[2.0, 1.0\]: expected one or more finite, incr"),
        ("stars", {"edges": "12"}, "edges='12': expected numbers"),
    ):
        with pytest.raises(InputError, match=said):
            themes_by_column(items, column, **options)  # type: ignore[arg-type]
