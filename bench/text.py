"""One epoch of SST-2 on one core: our loop beside a plain one of transformers on the same weights, and the arithmetic floor.

    python bench/text.py FOLDER [--rows N] [--precision float32|bfloat16]      (GLUE's folder; extra [text])

Seconds are of the processor, not of the wall: others may use the machine. Steps of both loops alternate in one process, and
medians of all are told. The floor is the floating-point operations of all steps over what one core does in a plain matrix
product of the same sizes; no loop in this precision can be faster.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import torch

from distill_prune.artifacts import Sentences
from distill_prune.data import DATASETS, prepare
from distill_prune.models import MODELS, build_model, resolved
from distill_prune.rng import Streams
from distill_prune.training import Recipe, epoch_order, flops_of_examples
from distill_prune.training.loop import step_loss


def cpu(call) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def peak(kind: torch.dtype, rows: int) -> float:
    """Operations a second of a product (rows, 384) x (384, 1536), the largest of the encoder."""
    a, b = torch.randn(rows, 384).to(kind), torch.randn(384, 1536).to(kind)
    return 2 * rows * 384 * 1536 / min(cpu(lambda: a @ b) for _ in range(20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int, default=6920)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--precision", default="float32")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = prepare(DATASETS["glue"].Settings(task="sst2", path=given.folder, rows=given.rows, validation=0))
    assert isinstance(data, Sentences)
    model = build_model(resolved(MODELS["minilm"].Settings()), data.shape, 2)
    examples = data.examples("train")
    recipe = Recipe(
        length="1ep", batch=32, optimizer="adamw", lr=1e-4, head_lr=1e-3, batches="by_length", precision=given.precision
    )
    state = model.fresh(0, "init")
    ours, noise = model.instance(state).train(), Streams(0, ("bench",))
    plain = model.instance(state).train()
    trained = [[p for p in net.parameters() if p.requires_grad] for net in (ours, plain)]
    optimizers = [torch.optim.AdamW(p, 1e-4, fused=True) for p in trained]
    order = epoch_order(examples, recipe, noise("order"))
    batches = list(torch.split(order, 32))
    picked = batches[:: max(1, len(batches) // given.steps)][: given.steps]

    def step(net, optimizer, loss) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(net).backward()
        optimizer.step()

    def by_hand(net, rows):
        """What a user of transformers writes: ids, types and mask into BertModel, padded to the longest."""
        ids, segments = examples.x[rows].unbind(1)
        long = int((segments > 0).sum(1).max())
        ids, mask = ids[:, :long], (segments[:, :long] > 0).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bfloat16"):
            h = net.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            mean = (h * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
            logits = net.classifier(mean)
        return torch.nn.functional.cross_entropy(logits.float(), examples.y[rows])

    seconds: list[tuple[float, float]] = []
    for rows in picked:
        a = cpu(lambda r=rows: step(ours, optimizers[0], lambda n: step_loss(n, examples, r, recipe, noise, 0)))
        b = cpu(lambda r=rows: step(plain, optimizers[1], lambda n: by_hand(n, r)))
        seconds.append((a, b))
    seconds = seconds[1:]
    mean = statistics.mean(a for a, _ in seconds)
    ratio = statistics.median(a / b for a, b in seconds)
    flops = flops_of_examples(model, 32, examples) * len(batches)
    kind = torch.bfloat16 if given.precision == "bfloat16" else torch.float32
    speed = peak(kind, 32 * round(float(examples.lengths.float().mean())))
    print(
        f"SST-2, {len(examples)} phrases, {float(examples.lengths.float().mean()):.1f} word pieces on average, "
        f"{given.precision}"
    )
    print(f"one epoch: {mean * len(batches):.0f} s of one core ({1e3 * mean:.0f} ms a step, {len(seconds)} steps)")
    print(f"a plain loop of transformers: {ratio:.2f} of its time (median of {len(seconds)} pairs)")
    print(f"floor: {flops / 1e12:.2f} TFLOP at {speed / 1e9:.0f} GFLOP/s = {flops / speed:.0f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
