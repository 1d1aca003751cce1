"""Learning rate, weight decay and EMA momentum of each step, as functions of the step alone.

Shapes of the curves: facebookresearch/vjepa2, src/utils/schedulers.py. Unlike there, every curve ends at the last step:
the released cooldown stops at 80 % of its way.
"""

import math

from echolung.pretraining.plans import OptimiserPlan


def learning_rate(step: int, plan: OptimiserPlan) -> float:
    """Return the learning rate of a step, counted from 0.

    Of n steps the first w = ⌊warmup · n⌋ warm up and the last c = ⌊cooldown · n⌋ cool down:

        step < w             start_lr + (lr − start_lr) · step / w
        w ≤ step < n − c     lr + (final_lr − lr) · (1 − cos πx) / 2, x from 0 at w to 1 at n − c − 1
        n − c ≤ step         final_lr + (cooldown_lr − final_lr) · (step − (n − c − 1)) / c, so cooldown_lr at n − 1
    """
    warmup, cooldown = int(plan.warmup * plan.steps), int(plan.cooldown * plan.steps)
    last = plan.steps - cooldown - 1
    if step < warmup:
        return _linear(plan.start_lr, plan.lr, step / warmup)
    if step <= last:
        return _cosine(plan.lr, plan.final_lr, _share(step, warmup, last))
    return _linear(plan.final_lr, plan.cooldown_lr, (step - last) / cooldown)


def weight_decay(step: int, plan: OptimiserPlan) -> float:
    """Return the weight decay of a step: a cosine from `weight_decay` at step 0 to `final_weight_decay` at the last."""
    return _cosine(plan.weight_decay, plan.final_weight_decay, _share(step, 0, plan.steps - 1))


def momentum(step: int, plan: OptimiserPlan) -> float:
    """Return the EMA momentum of a step: a line from `ema` at step 0 to `final_ema` at the last."""
    return _linear(plan.ema, plan.final_ema, _share(step, 0, plan.steps - 1))


def _share(step: int, first: int, last: int) -> float:
    return (step - first) / (last - first) if last > first else 0.0


def _linear(start: float, end: float, share: float) -> float:
    return start + (end - start) * share if share < 1 else end


def _cosine(start: float, end: float, share: float) -> float:
    return _linear(start, end, (1 - math.cos(math.pi * share)) / 2)
