"""PyTorch's batch normalization on the problems of the `batch_norm` benchmark.

Runs on a CUDA device where there is one, else on the processor. Every contender is compared with a float64
computation, then all run once in each round, on tensors that take turns so that none finds its own in cache.
"""

import argparse
import pathlib
import re
import statistics
import sys
import time
from typing import Callable, NamedTuple

import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
EPS = 1e-5
MOMENTUM = 0.1
# Channels, side and multiplicity of ResNet-50's layers, as `--list resnet50` of the benchmark has them.
RESNET50 = [(64, 112, 1), (64, 56, 6), (256, 56, 4), (128, 56, 1), (128, 28, 7), (512, 28, 5), (256, 28, 1),
            (256, 14, 11), (1024, 14, 7), (512, 14, 1), (512, 7, 5), (2048, 7, 4)]
COMMON = ["n32c64h56w56", "n32c256h14w14", "n32c512h7w7"]


class Problem(NamedTuple):
    """A problem line, such as "n32c64h56w56 nhwc f16"."""

    line: str
    count: int
    shape: list[int]
    channels_last: bool
    dtype: torch.dtype


def parse(line: str, count: int = 1) -> Problem:
    extents, *rest = line.split()
    shape = [int(number) for number in re.findall(r"[a-z](\d+)", extents)]
    names = [word for word in rest if word in DTYPES]
    layouts = [word for word in rest if word not in DTYPES]
    last = any(len(word) > 2 and word.endswith("c") for word in layouts)
    return Problem(line, count, shape, last, DTYPES[names[0] if names else "f32"])


def tensor(problem: Problem, device: torch.device) -> torch.Tensor:
    values = torch.rand(problem.shape, device=device) * 2 - 1
    if problem.channels_last:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        values = values.to(memory_format=formats[len(problem.shape)])
    return values.to(problem.dtype)


class Tensors:
    """What a problem reads and writes, in several sets."""

    def __init__(self, problem: Problem, device: torch.device, rotate: int) -> None:
        x, dy = tensor(problem, device), tensor(problem, device)
        size = 3 * x.numel() * x.element_size()
        count = min(64, max(1, -(-rotate // size)))
        self.sets = [(x.clone(), dy.clone(), torch.empty_like(x)) for _ in range(count)]
        channels = problem.shape[1]
        # Parameters and statistics are f32, whatever the activations are.
        self.weight = torch.rand(channels, device=device) + 0.5
        self.bias = torch.rand(channels, device=device) - 0.5
        self.mean = torch.zeros(channels, device=device)
        self.var = torch.ones(channels, device=device)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        wide = x.double()
        self.saved_mean = wide.mean(axes).float()
        self.saved_inv_std = (wide.var(axes, unbiased=False) + EPS).rsqrt().float()

    def train(self, turn: int) -> torch.Tensor:
        x, _, _ = self.sets[turn % len(self.sets)]
        return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, True, MOMENTUM, EPS)

    def eval(self, turn: int) -> torch.Tensor:
        x, _, _ = self.sets[turn % len(self.sets)]
        return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, False, MOMENTUM, EPS)

    def copy(self, turn: int) -> torch.Tensor:
        x, _, out = self.sets[turn % len(self.sets)]
        return out.copy_(x)

    def backward(self, turn: int) -> torch.Tensor:
        x, dy, _ = self.sets[turn % len(self.sets)]
        return torch.ops.aten.native_batch_norm_backward(
            dy, x, self.weight, self.mean, self.var, self.saved_mean, self.saved_inv_std, True, EPS, [True] * 3)[0]

    def verify(self, dtype: torch.dtype) -> None:
        """Training's y and backward's dx against float64."""
        x, dy, _ = self.sets[0]
        wide = x.double().requires_grad_()
        y = F.batch_norm(wide, None, None, self.weight.double(), self.bias.double(), True, MOMENTUM, EPS)
        y.backward(dy.double())
        tolerance = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
        for name, actual, wanted in [("y", self.train(0), y), ("dx", self.backward(0), wide.grad)]:
            error = (actual.double() - wanted).abs().max().item()
            if not error <= tolerance * max(1.0, wanted.abs().max().item()):
                raise SystemExit(f"{name} is off by {error}")


def timer(device: torch.device) -> Callable[[Callable[[], object]], float]:
    """A function that returns the milliseconds of a call."""
    if device.type == "cuda":
        def measure(work: Callable[[], object]) -> float:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            return start.elapsed_time(end)
    else:
        def measure(work: Callable[[], object]) -> float:
            start = time.perf_counter()
            work()
            return (time.perf_counter() - start) * 1e3
    return measure


def contenders(tensors: Tensors, device: torch.device) -> list[tuple[str, str, bool, Callable]]:
    """Pass, name, whether cuDNN may be used, and the work of a turn."""
    works = [("copy", "torch", False, tensors.copy)]
    if device.type == "cuda":
        # cuDNN's backward needs what its own forward leaves, so that the two are also timed together.
        def both(turn: int) -> torch.Tensor:
            x, dy, _ = tensors.sets[turn % len(tensors.sets)]
            inputs = [tensor.detach().requires_grad_() for tensor in (x, tensors.weight, tensors.bias)]
            y = F.batch_norm(inputs[0], tensors.mean, tensors.var, inputs[1], inputs[2], True, MOMENTUM, EPS)
            return torch.autograd.grad(y, inputs, dy)[0]

        for name, enabled in [("cudnn", True), ("native", False)]:
            works.append(("train", name, enabled, tensors.train))
            works.append(("eval", name, enabled, tensors.eval))
            works.append(("train and backward", name, enabled, both))
        works.append(("backward", "native", False, tensors.backward))
    else:
        works += [("train", "torch", False, tensors.train), ("eval", "torch", False, tensors.eval),
                  ("backward", "torch", False, tensors.backward)]
    return works


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", help='problem lines such as "n32c64h56w56 nhwc f16"')
    parser.add_argument("--list", choices=["common", "resnet50"], default="common")
    parser.add_argument("--batch", type=int, default=32, help="the batch size of resnet50")
    parser.add_argument("--layout", default="nchw", help="of the list's problems, separated by commas")
    parser.add_argument("--dtype", default="f32", help="of the list's problems, separated by commas")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rotate", type=int, default=192, help="MiB of activations to rotate through")
    parser.add_argument("--threads", type=int, help="of the processor")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--record", type=pathlib.Path, help="a new CSV file")
    arguments = parser.parse_args()
    if arguments.record and arguments.record.exists():
        sys.exit(f"{arguments.record} is a record already")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    lines = [(line, 1) for line in arguments.problems]
    if not lines:
        extents = [(line, 1) for line in COMMON]
        if arguments.list == "resnet50":
            extents = [(f"n{arguments.batch}c{c}h{s}w{s}", count) for c, s, count in RESNET50]
        lines = [(f"{line} {layout} {dtype}", count) for line, count in extents
                 for layout in arguments.layout.split(",") for dtype in arguments.dtype.split(",")]

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        head = f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {name}"
    else:
        head = f"torch {torch.__version__}, {torch.get_num_threads()} threads of the processor"
    head += f"; medians of {arguments.rounds} rounds, rotating through {arguments.rotate} MiB"
    print(head)
    csv = [f"# {head}", "problem,count,pass,contender,median_ms,min_ms,quarter_ms,three_quarter_ms,ratio_to_copy"]
    measure = timer(device)
    totals: dict[tuple[str, str, str], float] = {}
    for line, count in lines:
        problem = parse(line, count)
        torch.manual_seed(0)
        tensors = Tensors(problem, device, arguments.rotate << 20)
        torch.backends.cudnn.enabled = False
        tensors.verify(problem.dtype)
        works = contenders(tensors, device)
        times: list[list[float]] = [[] for _ in works]
        turn = 0
        for number in range(arguments.rounds + 2):
            for (_, _, cudnn, work), own in zip(works, times):
                torch.backends.cudnn.enabled = cudnn
                took = measure(lambda: work(turn))
                turn += 1
                # The first two rounds compile, choose and allocate.
                if number >= 2:
                    own.append(took)
        copy = statistics.median(times[0])
        for (name, contender, _, _), own in zip(works, times):
            own.sort()
            low, median, high = (own[(len(own) - 1) * quarter // 4] for quarter in (1, 2, 3))
            bytes_ = (3 if name == "backward" else 2) * tensors.sets[0][0].nbytes
            print(f"{line:<30} {name:<20} {contender:<8} {median:9.3f} ms {own[0]:9.3f} min "
                  f"{median / copy:7.2f} / copy {bytes_ / median * 1e-6:8.1f} GB/s")
            csv.append(f"{line},{count},{name},{contender},{median:.4f},{own[0]:.4f},{low:.4f},{high:.4f},"
                       f"{median / copy:.3f}")
            key = (line.partition(" ")[2], name, contender)
            totals[key] = totals.get(key, 0.0) + count * median
    if len(lines) > 1:
        print("\nAll problems of a kind, each as often as it counts:")
        for (kind, name, contender), total in totals.items():
            print(f"{kind:<10} {name:<20} {contender:<8} {total:10.3f} ms")
    if arguments.record:
        arguments.record.write_text("\n".join(csv) + "\n")


if __name__ == "__main__":
    main()
