"""PyTorch's batch normalization on the problems of the `norms` benchmark.

Runs on a CUDA device where there is one, else on the processor. Every contender is compared with a float64
computation, then all run once in each round, on tensors that take turns so that none finds its own in cache.
"""

import argparse
import collections
import pathlib
import re
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
LAYOUTS = ["nc", "ncl", "nlc", "nchw", "nhwc", "ncdhw", "ndhwc"]
# Rounds that compile, choose and allocate, at least.
WARM_UP = 2
# Clock cycles that a CUDA device waits, about half a millisecond, while the host queues what is to be timed.
HEAD_START = 1_000_000


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
    layouts = [word for word in rest if word in LAYOUTS]
    # A word that means nothing would be timed as f32, channels first, under its own name.
    if len(shape) < 2 or len(names) + len(layouts) < len(rest) or any(len(word) != len(shape) for word in layouts):
        raise SystemExit(f"{line} is no problem line such as n32c64h56w56 nhwc f16")
    last = any(len(word) > 2 and word.endswith("c") for word in layouts)
    return Problem(line, count, shape, last, DTYPES[names[0] if names else "f32"])


def tensor(problem: Problem, device: torch.device) -> torch.Tensor:
    values = torch.rand(problem.shape, device=device) * 2 - 1
    if problem.channels_last:
        values = values.movedim(1, -1).contiguous().movedim(-1, 1)
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
        # What cuDNN's own forward leaves to its backward, for each set; see `keep_cudnn`.
        self.cudnn_saved: list[tuple[torch.Tensor, ...]] = []

    def cudnn_is_used(self, training: bool) -> bool:
        """Whether torch takes cuDNN for this problem, where cuDNN is enabled."""
        chosen = torch._C._select_batch_norm_backend(
            self.sets[0][0], self.weight, self.bias, self.mean, self.var, training, EPS)
        return chosen == torch._C._BatchNormBackend.Cudnn

    def keep_cudnn(self) -> None:
        for x, _, _ in self.sets:
            _, *saved = torch.ops.aten.cudnn_batch_norm(
                x, self.weight, self.bias, self.mean, self.var, True, MOMENTUM, EPS)
            self.cudnn_saved.append(tuple(saved))

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

    def cudnn_backward(self, turn: int) -> torch.Tensor:
        x, dy, _ = self.sets[turn % len(self.sets)]
        mean, inv_std, reserve = self.cudnn_saved[turn % len(self.sets)]
        return torch.ops.aten.cudnn_batch_norm_backward(
            x, dy, self.weight, self.mean, self.var, mean, inv_std, EPS, reserve)[0]


class Work(NamedTuple):
    """What one contender does in a turn."""

    name: str
    contender: str
    cudnn: bool
    run: Callable[[int], torch.Tensor]


def contenders(tensors: Tensors, device: torch.device) -> list[Work]:
    native = "native" if device.type == "cuda" else "torch"
    works = [Work("copy", "torch", False, tensors.copy),
             Work("train", native, False, tensors.train),
             Work("eval", native, False, tensors.eval),
             Work("backward", native, False, tensors.backward)]
    if device.type == "cuda":
        # Only where torch does take cuDNN: else its own kernels would be timed under another's name.
        torch.backends.cudnn.enabled = True
        if tensors.cudnn_is_used(training=True):
            tensors.keep_cudnn()
            works += [Work("train", "cudnn", True, tensors.train),
                      Work("backward", "cudnn", True, tensors.cudnn_backward)]
        if tensors.cudnn_is_used(training=False):
            works.append(Work("eval", "cudnn", True, tensors.eval))
    return works


def verify(tensors: Tensors, works: list[Work], dtype: torch.dtype) -> None:
    """Every contender's y or dx against float64."""
    x, dy, _ = tensors.sets[0]
    wide = x.double().requires_grad_()
    weight, bias = tensors.weight.double(), tensors.bias.double()
    y = F.batch_norm(wide, None, None, weight, bias, True, MOMENTUM, EPS)
    y.backward(dy.double())
    tolerance = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    for work in works:
        torch.backends.cudnn.enabled = work.cudnn
        if work.name == "eval":
            wanted = F.batch_norm(x.double(), tensors.mean.double(), tensors.var.double(), weight, bias, False, 0, EPS)
        else:
            wanted = {"copy": x, "train": y.detach(), "backward": wide.grad}[work.name]
        error = (work.run(0).double() - wanted).abs().max().item()
        if not error <= tolerance * max(1.0, wanted.abs().max().item()):
            raise SystemExit(f"{work.name} of {work.contender} is off by {error}")


def timer(device: torch.device) -> Callable[[Work, int], tuple[float, torch.Tensor]]:
    """A function that returns the milliseconds of a turn, and its result."""
    if device.type == "cuda":
        def measure(work: Work, turn: int) -> tuple[float, torch.Tensor]:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            # Without this the device would wait for Python between the events, which takes longer than small
            # problems do.
            torch.cuda._sleep(HEAD_START)
            start.record()
            result = work.run(turn)
            end.record()
            end.synchronize()
            return start.elapsed_time(end), result
    else:
        def measure(work: Work, turn: int) -> tuple[float, torch.Tensor]:
            start = time.perf_counter()
            result = work.run(turn)
            return (time.perf_counter() - start) * 1e3, result
    return measure


def run_rounds(tensors: Tensors, works: list[Work], device: torch.device, rounds: int) -> list[list[float]]:
    """The milliseconds of every work, in order."""
    measure = timer(device)
    times: list[list[float]] = [[] for _ in works]
    # torch allocates outputs. They are held as long as the sets last, so that they take turns too; else each would
    # be written over the one before, which is in cache yet.
    held: collections.deque[torch.Tensor] = collections.deque(maxlen=len(tensors.sets))
    warm_up = max(WARM_UP, 1 + -(-len(tensors.sets) // len(works)))
    turn = 0
    for number in range(warm_up + rounds):
        for work, own in zip(works, times):
            torch.backends.cudnn.enabled = work.cudnn
            took, result = measure(work, turn)
            held.append(result)
            turn += 1
            if number >= warm_up:
                own.append(took)
    return [sorted(own) for own in times]


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
    if arguments.rounds < 1:
        parser.error("there must be a round")
    if arguments.record and arguments.record.exists():
        sys.exit(f"{arguments.record} is a record already")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if device.type not in ("cpu", "cuda"):
        parser.error(f"{device} can not be timed here: cpu or cuda")
    lines = [(line, 1) for line in arguments.problems]
    if not lines:
        extents = [(line, 1) for line in COMMON]
        if arguments.list == "resnet50":
            extents = [(f"n{arguments.batch}c{c}h{s}w{s}", count) for c, s, count in RESNET50]
        lines = [(f"{line} {layout} {dtype}", count) for line, count in extents
                 for layout in arguments.layout.split(",") for dtype in arguments.dtype.split(",")]
    problems = [parse(line, count) for line, count in lines]

    if device.type == "cuda":
        # Events are recorded on the current device.
        torch.cuda.set_device(device)
        name = torch.cuda.get_device_name(device)
        head = f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {name}"
    else:
        kind = torch.backends.cpu.get_cpu_capability()
        head = f"torch {torch.__version__}, {torch.get_num_threads()} threads of the processor, {kind}"
    head += f"; medians of {arguments.rounds} rounds, rotating through {arguments.rotate} MiB"
    print(head)
    csv = [f"# {head}", "problem,count,pass,contender,median_ms,min_ms,quarter_ms,three_quarter_ms,ratio_to_copy"]
    totals: dict[tuple[str, str, str], float] = {}
    for problem in problems:
        line, count = problem.line, problem.count
        torch.manual_seed(0)
        tensors = Tensors(problem, device, arguments.rotate << 20)
        works = contenders(tensors, device)
        verify(tensors, works, problem.dtype)
        times = run_rounds(tensors, works, device, arguments.rounds)
        copy = times[0][(arguments.rounds - 1) // 2]
        for (name, contender, _, _), own in zip(works, times):
            low, median, high = (own[(len(own) - 1) * quarter // 4] for quarter in (1, 2, 3))
            bytes_ = (3 if name == "backward" else 2) * tensors.sets[0][0].nbytes
            print(f"{line:<30} {name:<20} {contender:<8} {median:9.3f} ms {own[0]:9.3f} min "
                  f"{median / copy:7.2f} / copy {bytes_ / median * 1e-6:8.1f} GB/s")
            csv.append(f"{line},{count},{name},{contender},{median:.4f},{own[0]:.4f},{low:.4f},{high:.4f},"
                       f"{median / copy:.3f}")
            key = (line.partition(" ")[2], name, contender)
            totals[key] = totals.get(key, 0.0) + count * median
    if len(problems) > 1:
        print("\nAll problems of a kind, each as often as it counts:")
        for (kind, name, contender), total in totals.items():
            print(f"{kind:<10} {name:<20} {contender:<8} {total:10.3f} ms")
    if arguments.record:
        with arguments.record.open("x") as record:
            record.write("\n".join(csv) + "\n")


if __name__ == "__main__":
    main()
