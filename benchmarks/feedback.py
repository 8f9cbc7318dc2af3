"""Closed loops: our rankings against mabwiser's bandits; writes FEEDBACK.md and FEEDBACK.png.

    python -m benchmarks.feedback

Rivals get the same item vectors and the same warm-up log, and the best of a stated grid of
settings, chosen by cumulative regret on seeds of their own. So is the exploration of `thompson`;
the rest of ours are the defaults. Finished loops are kept in `--work` and not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from bayes_interest.evaluation.feedback import simulate_feedback, summarize_feedback
from bayes_interest.evaluation.policies import ModelRanking
from benchmarks.bandits import FORMS, MeanSettings, Settings

OUT = Path(__file__).parent
THOMPSON, LIN_UCB, LIN_GREEDY, MEAN_GREEDY = "thompson", "LinUCB", "LinGreedy", "EpsilonGreedy"
RIVALS = (LIN_UCB, LIN_GREEDY, MEAN_GREEDY)
OURS = {name: ModelRanking(name) for name in ("mean", "upper", "lower", "p_top_k")} | {
    "thompson, exploration 1": ModelRanking(THOMPSON),
    "mean, users alone learn": ModelRanking("mean", learn_items=False),
}
EXPLORATION = (0.1, 0.25, 0.5, 1.0)
TARGET = 0.8
TUNING_SEEDS = (1000, 1001, 1002)
SIZES: dict[str, Any] = {"n_users": 60, "n_items": 40, "n_rounds": 60, "warmup_days": 90.0}
WORLDS: dict[str, dict[str, Any]] = {
    "drifting": {"drift_scales": (0.03, 0.06, 0.1), "warmup_events": 20},
    "slow, short histories": {"drift_scales": (0.01, 0.02, 0.04), "warmup_events": 8},
}
QUICK: dict[str, Any] = {"n_users": 20, "n_items": 12, "n_rounds": 6, "warmup_days": 40.0}


def grid(quick: bool) -> dict[str, list[Any]]:
    """Every setting that a rival may choose from."""
    alphas, windows = ((0.3,), (None,)) if quick else ((0.05, 0.15, 0.5), (None, 30.0))
    shared = list(product(FORMS, (1.0, 10.0), windows))
    return {
        LIN_UCB: [Settings(f, lam, alpha=a, window_days=w) for f, lam, w in shared for a in alphas],
        LIN_GREEDY: [
            Settings(f, lam, epsilon=e, window_days=w) for f, lam, w in shared for e in (0.01, 0.05)
        ],
        MEAN_GREEDY: [MeanSettings(e) for e in (0.01, 0.05, 0.1)],
        THOMPSON: [ModelRanking(THOMPSON, exploration=e) for e in EXPLORATION],
    }


def tuned(world: dict[str, Any], quick: bool, file: Path) -> dict[str, Any]:
    """The best setting of every rival and of thompson; kept by its words in `file` (JSON)."""
    best: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    every, chosen = grid(quick), {}
    seeds = TUNING_SEEDS[:1] if quick else TUNING_SEEDS
    for name, settings in every.items():
        named = {repr(one): one for one in settings}
        if name not in best:
            found = simulate_feedback(named, seeds=seeds, progress=False, **world)
            best[name] = str(summarize_feedback(found)["policy"].iloc[0])
            file.write_text(json.dumps(best, indent=1))
        chosen[name] = named[best[name]]
    return chosen


def looped(policies: Mapping[str, Any], n_seeds: int, world: dict[str, Any], file: Path) -> Any:
    """The loops of some policies, one after the other; what is in `file` (CSV) is not run again."""
    kept = [pd.read_csv(file)] if file.exists() else []
    done = set(kept[0]["policy"]) if kept else set()
    todo = {name: one for name, one in policies.items() if f"{name} {one!r}" not in done}
    if todo:
        table = simulate_feedback(todo, seeds=range(n_seeds), **world)
        table["policy"] = [f"{name} {todo[name]!r}" for name in table["policy"]]
        kept.append(table)
        pd.concat(kept, ignore_index=True).to_csv(file, index=False)
    found = pd.concat(kept, ignore_index=True)
    names = {f"{name} {one!r}": name for name, one in policies.items()}
    return found[found["policy"].isin(names)].assign(policy=lambda t: t["policy"].map(names))


def text(results: list[dict[str, Any]], n_seeds: int) -> str:
    """FEEDBACK.md."""
    parts = [
        HEAD.format(
            n_seeds=n_seeds,
            n_tuning=len(TUNING_SEEDS),
            target=TARGET,
            exploration=EXPLORATION,
            **SIZES,
        )
    ]
    for one in results:
        world, table = one["world"], one["summary"]
        parts.append(
            f"## {one['name']}: drift {world['drift_scales']} per sqrt day, about "
            f"{world['warmup_events']} warm-up events per user\n"
        )
        parts.append(_table(table))
        verdicts = [_verdict(one["table"], rival) for rival in RIVALS]
        parts.append("\n" + "\n".join(f"- {verdict}" for verdict in verdicts))
        chosen = "\n".join(f"- {name}: `{setting!r}`" for name, setting in one["best"].items())
        parts.append(f"\nSettings that were chosen:\n\n{chosen}\n")
    return "\n".join(parts)


def _table(table: pd.DataFrame) -> str:
    lines = ["| policy | cumulative regret | 90 % | taken per round |", "|---|---:|---|---:|"]
    for row in table.itertuples():
        lines.append(
            f"| {row.policy} | {row.cumulative_regret:.2f} | {row.lower:.2f} to {row.upper:.2f} "
            f"| {row.taken:.3f} |"
        )
    return "\n".join(lines)


def _verdict(table: pd.DataFrame, rival: str) -> str:
    found = summarize_feedback(table, reference=rival).set_index("policy")
    words = []
    for name in (THOMPSON, "mean"):
        row = found.loc[name]
        met = "at most" if row["ratio"] <= TARGET else "**not** at most"
        words.append(
            f"{name} {row['ratio']:.2f} ({row['ratio_lower']:.2f} to {row['ratio_upper']:.2f}), "
            f"{met} {TARGET}"
        )
    return f"cumulative regret over that of {rival}: {'; '.join(words)}"


HEAD = """# Closed loops against bandits

Made by `python -m benchmarks.feedback`; needs `mabwiser` (benchmarks/requirements.txt).

Each round every one of {n_users} users is shown one of {n_items} items; it is taken or ignored by
the truth, which drifts on; the policy sees that, and the next round comes a day later, {n_rounds}
times. Regret is the expected number of items missed per user against the best item of the
moment, summed over rounds; means over {n_seeds} seeds, 90 % intervals from resampled seeds. Truth
is drawn from the family that our model assumes, which favours it. Before the loop all policies get
the same item vectors and the same log of random impressions over {warmup_days:g} days.

Ours: the defaults with four state dimensions (the truth has three), fitted once on the warm-up
log, then online updates of users and items (`learn_items`): text weights are not learned further,
the rivals' weights are. `thompson` has an `exploration` of its own, chosen as the rivals' settings
are, from {exploration}; with 1 it is plain Thompson sampling.

Rivals, all of mabwiser: `LinUCB`; `LinGreedy`, a ridge mean with a share epsilon of chance (the
coin is tossed per user by the adapter); `EpsilonGreedy`, an item's plain mean. Linear ones come in
three forms (benchmarks/bandits.py): a regression per user over item vectors, one per item over the
user's history, one for all over both and their products; and with all data or those of the last 30
days. Form, window, lambda in (1, 10), alpha in (0.05, 0.15, 0.5) and epsilon in (0.01, 0.05; also
0.1 for the plain mean) are those of the lowest regret over {n_tuning} other seeds of the world.
Where a chosen setting lies at the edge of the grid, a wider search might help the rival still.

The target: Thompson's cumulative regret at most {target} times that of LinUCB and of the
epsilon-greedy means.
"""


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Cumulative regret by round, a panel per world."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(6 * len(results), 4), squeeze=False)
    for axis, one in zip(axes[0], results, strict=True):
        by = one["table"].groupby(["policy", "round"])["cumulative_regret"]
        for name in one["summary"]["policy"]:
            mean, half = by.mean()[name], 1.645 * by.sem()[name]
            style = "--" if name in RIVALS else "-"
            axis.plot(mean.index, mean, style, label=name)
            axis.fill_between(mean.index, mean - half, mean + half, alpha=0.15)
        axis.set(title=one["name"], xlabel="round", ylabel="cumulative regret per user")
        axis.set_ylim(0, 1.6 * max(by.mean()[name].iloc[-1] for name in RIVALS))
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=OUT / "FEEDBACK.md")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--work", type=Path, default=Path("out/feedback"))
    parser.add_argument("--quick", action="store_true", help="proves that it runs; means nothing")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    results = []
    for name in args.worlds:
        world = (QUICK if args.quick else SIZES) | WORLDS[name]
        file = args.work / f"{name.replace(', ', '-').replace(' ', '-')}-{args.seeds}"
        best = tuned(world, args.quick, file.with_suffix(".json"))
        print(name, best, flush=True)
        policies = OURS | best | {"random": "random"}
        table = looped(policies, args.seeds, world, file.with_suffix(".csv"))
        summary = summarize_feedback(table)
        print(summary.to_string(), flush=True)
        results.append(
            {"name": name, "world": world, "best": best, "table": table, "summary": summary}
        )
        args.out.write_text(text(results, args.seeds))
        draw(results, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
