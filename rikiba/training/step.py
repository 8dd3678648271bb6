"""One training step and one pass of validation, and who is to blame when a loss is not finite."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from rikiba.calculators.autograd import evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.data.batching import Batch
from rikiba.potentials.base import Potential, Program

from .distributed import Processes
from .loss import TERMS, Loss, error_sums, mean
from .loss import counts as label_counts
from .state import TrainingState


class NonFiniteLossError(ArithmeticError):
    """A loss or its gradient is NaN or infinite; the message names the frame."""


def train_step(
    state: TrainingState,
    batch: Batch,
    counts: Tensor,
    loss: Loss,
    processes: Processes,
    gradient_clip: float | None,
) -> None:
    """Loss, gradient, clip, optimiser, average. `counts` are the labels of the batch over all processes.

    Raises NonFiniteLossError, leaving the parameters as they were.
    """
    sums = loss_sums(state.potential, batch, loss)
    total = loss.combine(mean(sums, counts))
    for p in state.parameters:
        p.grad = None
    if total.requires_grad:
        total.backward(inputs=state.parameters)
    processes.sum_gradients(state.parameters)
    sums = processes.sum(sums.detach())
    gradients = [p.grad for p in state.parameters if p.grad is not None]
    norm = get_total_norm(gradients)
    if not bool(torch.isfinite(norm + sums.sum())):
        raise NonFiniteLossError(_blame(state.potential, batch, loss, state.epoch))
    if gradient_clip is not None:
        clip_grads_with_norm_(state.parameters, gradient_clip, norm)
    state.optimizer.step()
    state.average.update()
    state.sums += sums.cpu()
    state.counts += counts.cpu()


def loss_sums(potential: Potential, batch: Batch, loss: Loss) -> Tensor:
    """The sums of the loss with history, one a term."""
    predicted = evaluate(
        potential,
        batch.system,
        batch.pairs,
        forces=loss.needs_forces,
        stress=loss.needs_stress,
        create_graph=True,
    )
    return loss.sums(predicted, batch.labels, batch.system, batch.weights)


def validate(
    potential: Potential,
    batches: Iterable[Batch],
    loss: Loss,
    processes: Processes,
    program: Program | None = None,
) -> tuple[float, Tensor, Tensor]:
    """(loss, its terms, error sums) over all batches of all processes; frame weights count in the loss.

    With `program`, that of the potential, predictions come from it instead of automatic differentiation.
    Raises NonFiniteLossError, in every process, where a prediction is not finite.
    """
    bad: Batch | None = None
    device = next(potential.parameters()).device
    total = torch.zeros(5, len(TERMS), dtype=torch.float64, device=device)
    for batch in batches:
        wanted = {"forces": loss.needs_forces, "stress": loss.needs_stress}
        if program is None:
            predicted = evaluate(potential, batch.system, batch.pairs, **wanted)
        else:
            predicted = run_program(program, batch.system, batch.pairs, **wanted)
        terms = loss.sums(predicted, batch.labels, batch.system, batch.weights)
        errors = error_sums(predicted, batch.labels, batch.system)
        if bad is None and not bool(torch.isfinite(terms.sum() + errors.sum())):
            bad = batch
        total += torch.cat([terms[None], label_counts(batch.labels)[None], errors.T])
    total = processes.sum(total).cpu()
    if not bool(torch.isfinite(total).all()):
        frames = "another process's frames" if bad is None else f"one of the frames {list(bad.frames)}"
        sources = "" if bad is None else f" ({', '.join(s for s in bad.sources if s) or 'sources not named'})"
        raise NonFiniteLossError(
            f"The validation error is not finite at {frames}{sources}. Look at them: atoms on top of each "
            f"other are the usual cause."
        )
    terms = mean(total[0], total[1])
    return float(loss.combine(terms)), terms, total[2:].T


def _blame(potential: Potential, batch: Batch, loss: Loss, epoch: int) -> str:
    """Evaluate the batch one frame at a time and name the first that is not finite."""
    parameters = [p for p in potential.parameters() if p.requires_grad]
    for k in range(len(batch)):
        system = batch.system[k]
        alone = Batch(
            system=system,
            pairs=find_pairs(system, batch.pairs.cutoff),
            labels=batch.labels.select(batch.system, [k]),
            weights={name: w[k : k + 1] for name, w in batch.weights.items()},
            frames=batch.frames[k : k + 1],
            sources=batch.sources[k : k + 1],
        )
        sums = loss_sums(potential, alone, loss)
        gradients = (
            torch.autograd.grad(sums.sum(), parameters, allow_unused=True) if sums.requires_grad else ()
        )
        loss_is_bad = not bool(torch.isfinite(sums).all())
        if loss_is_bad or any(g is not None and not bool(torch.isfinite(g).all()) for g in gradients):
            what = "loss" if loss_is_bad else "gradient of the loss"
            return (
                f"The {what} became non-finite in epoch {epoch + 1} at frame {alone.frames[0]} "
                f"({alone.sources[0] or 'source not named'}): terms {', '.join(TERMS)} = "
                f"{sums.detach().tolist()}. Look at that frame (atoms on top of each other, a label in a "
                f"wrong unit); if it is sound, lower learning_rate or set gradient_clip."
            )
    return (
        f"The loss became non-finite in epoch {epoch + 1}, at no single frame of this process's batch "
        f"(frames {list(batch.frames)}): the sum overflows, or a frame of another process is the cause."
    )
