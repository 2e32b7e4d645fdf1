"""What the lesson's numbers say, in sentences that the numbers choose: with another seed they are other sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from throughtime.report.notation import short_number as number

if TYPE_CHECKING:  # the lesson is measured in a layer below this one, which is handed its record
    from throughtime.experiments.learning import Learning
    from throughtime.experiments.lesson import Lesson, Scaled
    from throughtime.experiments.optimizers import Disadvantage, Rates, TrackingRun
    from throughtime.experiments.order import Comparison
    from throughtime.experiments.reach import Reach

LAST = 100
"""Updates that an error is averaged over."""
ROSE = 0.05
"""By so much the accuracy of a network must have grown in the last quarter for it to count as still rising."""


def order(compared: Comparison, names: dict[str, str]) -> list[str]:
    """What the intervals allow to say of order, and what they do not.

    Args:
        compared: networks on one problem.
        names: what they are called on the page, where it is another name.
    """
    gaps = {gap.other: gap for gap in compared.differences}
    scores = {one.name: one.score for one in compared.contenders}
    control = next((gap for name, gap in gaps.items() if "shuffled" in name), None)
    said = []
    if control is not None:
        told = f"it loses {number(control.mean, 3)} ({number(control.low, 3)} to {number(control.high, 3)})"
        if control.low > 0:
            said.append(f"Without the order {told}: so much is order worth to it here.")
        elif control.high < 0:
            said.append(f"Without the order {told}: below 0, so that without it, it was better.")
        else:
            said.append(f"Without the order {told}: the interval includes 0, so no worth of order is shown here.")
        blind = next(gap for name, gap in gaps.items() if "blind" in name)
        kept = scores[control.other] - scores[blind.other]
        if blind.low > 0 and kept > 0.5 * blind.mean:
            said.append(
                f"Most of its lead over the {names.get(blind.other, blind.other)} has another reason: with shuffled words it "
                f"still has {number(scores[control.other], 3)}, against {number(scores[blind.other], 3)}."
            )
    for name, gap in gaps.items():
        if gap is control:
            continue
        if gap.low == gap.high == 0:
            said.append(f"The recurrent network and the {names.get(name, name)} are equally good.")
        elif gap.low <= 0 <= gap.high:
            said.append(f"The interval of the difference to the {names.get(name, name)} includes 0: no difference is shown.")
    return said


def slider(scaled: Sequence[Scaled]) -> str:
    """Whether any position of the slider brings the whole gradient back.

    Args:
        scaled: without and with shared weights.
    """
    best = max(scaled, key=lambda one: max(one.left))
    most = max(best.left)
    scale = best.scales[best.left.index(most)]
    at = f"{number(most, 2)} times as large, at × {scale:.2f} with {'shared weights' if best.tied else 'weights of their own'}"
    if most >= 1:
        return f"Yes, with these weights: it comes to be {at}."
    falls = all(one.left[-1] < max(one.left) for one in scaled)
    return f"No: at most {at}." + (
        " It rises and falls again, because large sums flatten the sigmoid." if falls else " Further right the slider ends."
    )


def clipping(runs: tuple[Learning, Learning], start: Reach) -> str:
    """What clipping did for an LSTM with large weights.

    Args:
        runs: without and with clipping.
        start: of the same network before its first update.
    """
    ends = [0.0 if run.diverged_at else run.accuracy[-1] for run in runs]
    free, held = map(_end, runs)
    said = f"Before the first update a step multiplies its gradient by exp({number(start.gain, 3)}) on average. "
    if ends[1] <= ends[0] + ROSE:
        return said + f"Clipping was no help here: without it the run {free}, with clipping it {held}."
    said += f"Without clipping this run {free}; with clipping it {held}. "
    peaks = [run.peak or 0.0 for run in runs]
    if runs[0].diverged_at:
        return said + f"Without clipping the largest gradient before that was {number(peaks[0], 3)}."
    told = f"at most {number(peaks[0], 3)}, against {number(peaks[1], 3)} before they were clipped"
    if peaks[0] > peaks[1]:
        return said + f"The gradients without clipping were the larger ones: {told}."
    return said + (
        f"The gradients without clipping were not the larger ones: {told}. A few long steps early on may be enough to spoil a "
        "run; these charts do not show it."
    )


def learners(runs: Sequence[Learning]) -> str:
    """Which networks learned a task, and which cannot be told from guessing.

    Args:
        runs: all networks on one task.
    """
    done = [f"“{run.name}” after {run.learned_after} updates" for run in runs if run.learned_after is not None]
    said = f"{len(done) or 'No one'} of {len(runs)} networks had 95 % right{f': {_listed(done)}' if done else ''}. "
    # Two standard errors of the share that is right by guessing.
    lost = [run for run in runs if run.score <= run.guessing + 2 * math.sqrt(run.guessing * (1 - run.guessing) / run.scored)]
    if lost:
        least, most = (number(end(run.score for run in lost), 3) for end in (min, max))
        ended = f"at {least}" if least == most else f"between {least} and {most}"
        told = _listed([f"“{run.name}”" for run in lost])
        said += f"No better than guessing, which is right in {number(lost[0].guessing, 3)}: {told}, {ended}."
    return said.strip()


def either(first: Sequence[Learning], second: Sequence[Learning]) -> str:
    """Which networks learned one task and not the other.

    Args:
        first: all networks on a task.
        second: some of them on another.
    """
    before = {run.name: run.learned_after is not None for run in first}
    found = [run for run in second if before[run.name] != (run.learned_after is not None)]
    return " ".join(
        f"Within these updates “{run.name}” learned {run.task if run.learned_after else first[0].task}, but not "
        f"{first[0].task if run.learned_after else run.task}: one task does not tell how a network fares on another."
        for run in found
    )


def absent(name: str) -> str:
    """What it means that a number measured for a statement is not there.

    Args:
        name: of the number.
    """
    return "not within the sequence" if name.startswith("horizon") else "never" if name.startswith("updates") else "not defined"


def exchanged(lesson: Lesson) -> str:
    """What exchanging two words does to the prediction.

    Args:
        lesson: with the sentence and the exchanged one.
    """
    first = lesson.sentence
    case = next(
        case
        for case in lesson.cases
        if case.words != first.words
        and case.network.tied == first.network.tied
        and case.network.cell.nonlinearity == first.network.cell.nonlinearity
    )
    was, now = number(first.updates[0].y_hat), number(case.updates[0].y_hat)
    return f"ŷ is {now}, and was {was}." if was != now else f"With these weights ŷ stays {was}, in four digits."


def rising(learned: Sequence[Learning]) -> str:
    """Which networks had not learned the task, but were getting better when training ended.

    Args:
        learned: all networks.
    """
    names = []
    for run in learned:
        before = -(-len(run.accuracy) // 4)
        early, late = run.accuracy[:-before], run.accuracy[-before:]
        if run.learned_after is None and early and max(late) > max(early) + ROSE:
            names.append(f"“{run.name}”")
    return f"Still getting better when training ended: {_listed(names)}." if names else ""


def graph(lesson: Lesson) -> str:
    """Of the important graph: which rate is above SGD's, and which loss falls sooner.

    Args:
        lesson: with the sentence under SGD and under Adagrad.
    """
    found, alpha = lesson.adagrad, lesson.sentence.alpha
    last = found.network.steps
    name, out = found.network.input_weight(last), found.network.output_weight
    said = []
    for weight in (name, out):
        rates = [float(update.rates[weight].ravel()[0]) for update in found.updates]
        stays = "above" if min(rates) > alpha else "below" if max(rates) < alpha else "first above, later below"
        said.append(
            f"that of {plain(weight)} is {stays} SGD's {number(alpha)} ({number(rates[0], 3)} to {number(rates[-1], 3)})"
        )
    sizes = [abs(float(found.updates[0].gradients[weight].ravel()[0])) for weight in (name, out)]
    ratio = sizes[1] / sizes[0] if sizes[0] else 0.0
    told = f"Each weight has its own rate: {', '.join(said)}. "
    if ratio > 2:
        told += (
            f"The first gradient of {plain(out)} is {number(ratio, 2)} times that of {plain(name)}, so its rate is smaller. "
        )
    losses = lesson.sentence.losses[-1], found.losses[-1]
    slower = losses[1] > losses[0]
    told += (
        f"Adagrad's loss falls {'more slowly' if slower else 'sooner'} than SGD's: after {len(found.updates)} updates "
        f"{number(losses[1], 3)} against {number(losses[0], 3)}. Neither α was tuned: {number(found.alpha)} for Adagrad, "
        f"{number(alpha)} for SGD."
    )
    squares = {key: float(gradient.ravel()[0]) ** 2 for key, gradient in found.updates[0].gradients.items()}
    share = squares[out] / sum(squares.values()) if sum(squares.values()) else 0.0
    if slower and share > 0.5:
        told += f" {plain(out)} does most of the work here: it has {number(100 * share, 3)} % of the first squared gradient."
    return told


def rare(rates: Rates) -> str:
    """What the rate of a rare word is beside that of a frequent one.

    Args:
        rates: with a run of Adagrad.
    """
    run = next(run for run in rates.runs if run.optimizer == "Adagrad")
    ends = [next((rate for rate in reversed(of.rate) if rate is not None), 0.0) for of in (run.frequent, run.rare)]
    told = f"At the end the rate of the frequent word is {number(ends[0], 3)}, that of the rare one {number(ends[1], 3)}"
    return told + (": each gradient of the rare one counts for more." if ends[1] > ends[0] else ".")


def shrinking(found: Disadvantage) -> str:
    """Whether Adagrad had stopped to learn, and who was best.

    Args:
        found: all optimizers after a moving target.
    """
    runs = {run.optimizer: run for run in found.moving}, {run.optimizer: run for run in found.spiked}
    adagrad = runs[0]["Adagrad"]
    rates = [rate for rate in adagrad.rate if rate is not None]
    said = f"Adagrad's rate only shrinks, here from {number(rates[0], 3)} to {number(rates[-1], 3)}. "
    costs = [sum(adagrad.losses[first - 1 : last - 1]) / (last - first) for first, last in pairwise(found.moves)]
    if len(costs) > 1:
        grew = "learning slows" if costs[-1] > costs[0] else "learning did not slow"
        ends = f"{number(costs[0], 3)} at first, {number(costs[-1], 3)} at last"
        said += f"Its mean error from one move to the next was {ends}: {grew}. "
    falls = [_ends(run.losses[found.moves[-1] - 1 :]) for run in (adagrad, runs[1]["Adagrad"])]
    if all(end < start for start, end in falls):
        still = " and after the spike ".join(f"from {number(start, 3)} to {number(end, 3)}" for start, end in falls)
        said += f"It has not stopped: after the last move its error still falls, {still}. "
    best = [min(kind.values(), key=_error).optimizer for kind in runs]
    if best[0] == best[1]:
        return said + f"{best[0]} has the smallest error in both columns."
    return said + f"{best[0]} has the smallest error where the target moves, {best[1]} after the spike."


def forgetting(found: Disadvantage) -> str:
    """How soon the others' rates came back after the spike.

    Args:
        found: all optimizers after a moving target, without and with a spike.
    """
    said = []
    for without, spiked in zip(found.moving, found.spiked, strict=True):
        if spiked.optimizer not in ("RMSprop", "Adam"):
            continue
        pairs = list(zip(without.rate, spiked.rate, strict=True))[found.spike_at - 1 :]
        back = next((t for t, (one, other) in enumerate(pairs, found.spike_at) if one and other and other >= one / 2), None)
        if back is not None:
            said.append(
                f"That of {spiked.optimizer} is back at half of what it would be without the spike after update {back:,}."
            )
        else:
            one, other = pairs[-1]
            said.append(
                f"That of {spiked.optimizer} is not, by update {len(without.rate):,}: "
                f"{number(other, 3)}, against {number(one, 3)} without."
            )
    return " ".join(said)


def harmless(lesson: Lesson) -> str:
    """Whether Adagrad's falling rate did harm where the target stays.

    Args:
        lesson: with the words and the sentence.
    """
    ends = {run.optimizer: run.tried[run.alpha] for run in lesson.rates.runs}
    better = [name for name in ends if ends[name] < ends["Adagrad"]]
    said = f"On the words above, the loss of the last {lesson.rates.updates // 5} updates was "
    said += ", ".join(f"{number(loss, 3)} with {name}" for name, loss in ends.items())
    said += f": {' and '.join(better)} did better than Adagrad. " if better else ": Adagrad did best. "
    losses = lesson.sentence.losses[-1], lesson.adagrad.losses[-1]
    return said + f"On the one sentence Adagrad was {'slower' if losses[1] > losses[0] else 'faster'} than SGD."


def plain(name: str) -> str:
    """A name of the textbook in one line of text.

    Example:
        >>> plain("w_4"), plain("w^4"), plain("alpha_t^1")
        ('w₄', 'w⁴', 'αₜ¹')
    """
    base, _, above = name.replace("alpha", "α").partition("^")
    base, _, below = base.partition("_")
    return (
        base
        + below.translate(str.maketrans("0123456789t", "₀₁₂₃₄₅₆₇₈₉ₜ"))
        + above.translate(str.maketrans("0123456789t", "⁰¹²³⁴⁵⁶⁷⁸⁹ᵗ"))
    )


def _end(run: Learning) -> str:
    """How a run ended."""
    if run.diverged_at is None:
        return f"ended at an accuracy of {number(run.accuracy[-1], 3)}"
    return f"broke off at update {run.diverged_at}, where its loss or gradient was no finite number"


def _listed(names: Sequence[str]) -> str:
    """Names in a row, the last after an "and"."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _error(run: TrackingRun) -> float:
    """Mean of the last updates."""
    return sum(run.losses[-LAST:]) / len(run.losses[-LAST:])


def _ends(losses: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last quarter."""
    quarter = -(-len(losses) // 4)
    return sum(losses[:quarter]) / quarter, sum(losses[-quarter:]) / quarter
