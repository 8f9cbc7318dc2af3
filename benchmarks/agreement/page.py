"""AGREEMENT.md from what the cases found."""

from __future__ import annotations

from typing import Any

from benchmarks.agreement.joint import NUTS
from benchmarks.agreement.problems import (
    DAYS,
    DRIFT_FACTOR,
    EMBED_DIM,
    JOINT_EMBED,
    JOINT_ITEMS,
    JOINT_LEVELS,
    LEAST_VECTOR,
    MOST_OF_ONE,
    N_ITEMS,
    N_LEVELS,
)

MEAN_ERROR, STATE_RATIO, DRIFT_RATIO, TWO = 0.03, (0.98, 1.02), (0.9, 1.1), 2.0

HEAD = f"""# Agreement with NUTS

Made by `make agreement` (`python -m benchmarks.agreement`). The oracle is long MCMC on the Pyro
program that defines the model. Outcomes are drawn from that program, at random times over {DAYS}
days.

| column | |
|---|---|
| error | mean of the absolute differences of posterior means, in the oracle's posterior sds |
| by noise | what that would be if both were right: Monte-Carlo error alone |
| bias | root mean square difference without noise, from two halves of the draws; never below 0 |
| sd ratio, +- | mean of our posterior sd over the oracle's, and its standard error by noise |
| goal | error up to {MEAN_ERROR}, sd ratio {STATE_RATIO[0]} to {STATE_RATIO[1]}; see below |

A goal missed with "(noise)" is missed by less than two standard errors, or its bias is within the
goal. "Sites" are those of the largest bound on the evidence: what `trajectory` does.
"""

KNOWN = f"""
## States at known globals

{N_ITEMS} items, texts of {EMBED_DIM} dimensions, {N_LEVELS} rating levels; drift per sqrt day
from 0.08 in the first to 0.37 in the last state dimension. NUTS on the innovations, two chains.
"Logits" are what the state adds to the predictor of every item, at all steps: sums over all state
dimensions; of choice, where only differences count, less that in the average item. Choices:
"matched" is what `trajectory` does, expectation propagation from Laplace's approximation along the
few directions that a choice says most of; "12 draws" what it does among so many items that this
would take long: the guide of the fit, without correlation between dimensions, each step of its
sites at one draw of the states.
"""

JOINT = f"""
## States and globals together

50 users with 30 events, {JOINT_ITEMS} items, one state dimension, texts of {JOINT_EMBED}
dimensions, {JOINT_LEVELS} rating levels; everything hidden. The world is the first drawn from the
prior, by seed, with a drift scale within a factor of {DRIFT_FACTOR:g} of its prior's centre, item
vectors of mean length {LEAST_VECTOR} or more and no outcome with more than {MOST_OF_ONE:.0%} of the
events. Ours: `fit_globals`, draws by `model/members.py` with its default sweeps, a smoother at
each. NUTS of Pyro is too slow here: in its time its chains do not meet, see R-hat, and its rows
have no verdict. The oracle is compiled Hamiltonian Monte Carlo on the same density, held by a test
to Pyro's program; its chains do meet. "Interest" is the predictor `x.(y + m) + b` at users' steps
of the two most and the two least frequent items, which no sign of the state changes; of choice,
where only differences count, less that in the average item. Of a single number `error` has one
term: look at `by noise`. The goal of the drift scale is a ratio of {DRIFT_RATIO[0]} to
{DRIFT_RATIO[1]}.
"""

COLUMNS = ("error", "by noise", "bias", "sd ratio", "+-", "effective draws", "goal")


def page(found: dict[str, dict[str, Any] | None]) -> str:
    """All of it; a case without figures is said to be missing."""
    text = HEAD
    for kind, about in (("states", KNOWN), ("joint", JOINT)):
        text += about
        for name, case in found.items():
            if ("joint" in name) != (kind == "joint"):
                continue
            text += f"\n### {name}\n\n"
            text += "Not run yet.\n" if case is None else _section(case)
    return text


def _section(case: dict[str, Any]) -> str:
    setting = case["setting"]
    joint = setting["kind"] == "joint"
    told = _joint_line(case) if joint else _states_line(case)
    keys = ["ours", "oracle", "what"] if joint else ["ours", "what"]
    head = [{"what": "number" if joint else "steps"}.get(key, key) for key in keys]
    lines = [told, "", "| " + " | ".join([*head, *COLUMNS]) + " |"]
    lines.append("|---" * (len(head) + len(COLUMNS)) + "|")
    for row in case["rows"]:
        cells = [str(row[key]) for key in keys] + [
            f"{row['error']:.3f}",
            f"{row['error_expected']:.3f}",
            f"{row['bias']:.3f}",
            f"{row['ratio']:.3f}",
            f"{row['ratio_error']:.3f}",
            f"{row['effective_draws']:,.0f}",
            verdict(row),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _states_line(case: dict[str, Any]) -> str:
    size = case["setting"]["size"]
    return (
        f"Users: {size['n_users']}, steps: {size['n_steps']}, state_dim: {size['state_dim']}; "
        f"{case['n_draws']:,} draws of NUTS in {case['seconds']:.0f} s, "
        f"worst R-hat {case['r_hat']:.3f}."
    )


def _joint_line(case: dict[str, Any]) -> str:
    setting = case["setting"]
    nuts = setting["nuts_chains"] * setting["nuts_draws"]
    return (
        f"Ours: {setting['our_draws']} draws in {case['our_seconds']:.0f} s. "
        f"HMC: {case['n_draws']:,} moves in {case['seconds']:.0f} s, worst R-hat "
        f"{case['r_hat']:.3f}. NUTS: {nuts:,} draws in {case['nuts_seconds']:.0f} s, "
        f"worst R-hat {case['nuts_r_hat']:.3f}."
    )


def verdict(row: dict[str, Any]) -> str:
    """Whether the goal is met, for rows that have one; `noise` where that may be why it is not."""
    what, error = str(row["what"]), TWO * row["ratio_error"]
    if NUTS in (row["ours"], row.get("oracle")):
        return ""
    if "oracle" in row and "interest" not in what:
        goal = _within("sd", row["ratio"], DRIFT_RATIO, error)
        return ("missed: " + goal if goal else "met") if "drift" in what else ""
    words = [_within("sd", row["ratio"], STATE_RATIO, error)]
    if row["error"] > MEAN_ERROR:
        words.insert(0, "error (noise)" if row["bias"] <= MEAN_ERROR else "error")
    missed = [word for word in words if word]
    return f"missed: {', '.join(missed)}" if missed else "met"


def _within(word: str, ratio: float, goal: tuple[float, float], error: float) -> str:
    if goal[0] <= ratio <= goal[1]:
        return ""
    return f"{word} (noise)" if goal[0] - error <= ratio <= goal[1] + error else word
