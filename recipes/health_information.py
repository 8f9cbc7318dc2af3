"""Health information, HIGH STAKES: order approved pages, with care, and leave the rest to people.

Do not: infer illness, target, price, insure or employ by these numbers; decide anything about a
person automatically; show the numbers to third parties; rank treatments. An interest in a page is
neither a need nor a diagnosis. What everybody should see (warnings, emergency numbers) is never
ranked. Ask for consent, keep logs short, and let people switch this off and delete their history.
"""

import numpy as np
import pandas as pd

import bayes_interest as bi

PAGES = {
    "sleep": ["winding down", "shift work and light", "naps", "a bedroom that is dark"],
    "movement": ["stairs and short walks", "stretching at a desk", "swimming for beginners"],
    "food": ["reading a label", "beans and lentils", "cooking for one", "salt"],
}
rng = np.random.default_rng(6)
items = pd.DataFrame(
    [(f"{t}-{n}", f"{t}: {text}") for t, texts in PAGES.items() for n, text in enumerate(texts)],
    columns=["item_id", "text"],
)
theme = items["item_id"].str.split("-").str[0].to_numpy()
# General advice that an editor has approved for everyone: the only candidates there are.
approved = items.loc[items["item_id"] != "sleep-1", "item_id"].tolist()
edited = ["movement-0", "food-0", "sleep-0"]  # the editor's list: the fallback


def visits(reader: int, n: int) -> pd.DataFrame:
    """Pages offered; value 1 is "found helpful"."""
    shown = rng.integers(len(items), size=n)
    helpful = rng.random(n) < np.where(theme[shown] == list(PAGES)[reader % 3], 0.8, 0.25)
    when = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.sort(rng.random(n)) * 60, "D")
    ids = items["item_id"].to_numpy()[shown]
    user = f"pseudonym-{reader:02d}"
    return pd.DataFrame(
        {"user_id": user, "item_id": ids, "timestamp": when, "value": helpful.astype(float)}
    )


log = pd.concat([visits(n, 40 if n else 2) for n in range(30)])  # reader 0 has hardly come
model = bi.InterestModel(bi.ModelConfig(state_dim=2), bi.HashingEncoder(32))
# n_members=1 for a quick look; in earnest leave it at its default, whose intervals are wider.
run = bi.FitConfig(max_epochs=25, holdout=0.0, n_members=1, progress=False)
model.fit(log, items, run)

# Careful: by the lower bound, and the editor's list where the slate is not sure enough.
pages = model.rank(
    ["pseudonym-00", "pseudonym-01"], k=3, by="lower", candidates=approved,
    exclude_seen=False, abstain=0.55, fallback=edited,
)  # fmt: skip
print(pages[["user_id", "item_id", "lower", "slate_certainty", "basis"]].round(2))

# Only what is surely helpful; an empty list is a good answer, and says why.
readers = ["pseudonym-00", "pseudonym-01"]
sure = model.above(readers, p=0.6, c=0.9, candidates=approved, exclude_seen=False)
print(sure.users[["user_id", "n_items", "why"]])
