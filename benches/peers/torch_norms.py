"""PyTorch's normalization layers on the problems of the `norms` benchmark.

Runs on a CUDA device where there is one, else on the processor. Every contender is compared with a float64
computation, then all run once in each round, on tensors that take turns so that none finds its own in cache.
"""

import argparse
import collections
import pathlib
import re
import sys
import time
from typing import Callable, NamedTuple, Protocol

import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
EPS = 1e-5
# What RMSNorm has where nobody says otherwise, in the benchmark.
RMS_EPS = torch.finfo(torch.float32).eps
MOMENTUM = 0.1
# Channels, side and multiplicity of ResNet-50's layers, as `--list resnet50` of the benchmark has them.
RESNET50 = [(64, 112, 1), (64, 56, 6), (256, 56, 4), (128, 56, 1), (128, 28, 7), (512, 28, 5), (256, 28, 1),
            (256, 14, 11), (1024, 14, 7), (512, 14, 1), (512, 7, 5), (2048, 7, 4)]
ROWS = ["n4096c1024", "n512c4096", "n16384c128", "n1024c12288"]
# The benchmark's lists of the same names.
LISTS = {
    "common": ["n32c64h56w56", "n32c256h14w14", "n32c512h7w7"],
    "instance": ["instance n8c64h56w56", "instance n6c256d2h28w28"],
    "group": ["group n8c256h28w28 groups=32", "group n1c128h256w256 groups=32", "group n8c256h28w28 groups=32 silu",
              "group n1c128h256w256 groups=32 silu", "group n2c320h96w96 groups=32 silu"],
    **{norm: [f"{norm} {rows}" for rows in ROWS] + [f"{norm} {rows} prenorm" for rows in ROWS[:3]]
       for norm in ("layer", "rms")},
}
NORMS = ["batch", "instance", "group", "layer", "rms"]
ACTIVATIONS = {"silu": F.silu, "relu": F.relu}
LAYOUTS = ["nc", "ncl", "nlc", "nchw", "nhwc", "ncdhw", "ndhwc"]
# Rounds that compile, choose and allocate, at least.
WARM_UP = 2
# Clock cycles that a CUDA device waits, about half a millisecond, while the host queues what is to be timed.
HEAD_START = 1_000_000
# What a turn computes.
Results = tuple[torch.Tensor, ...]


class Problem(NamedTuple):
    """A problem line, such as "n32c64h56w56 nhwc f16" or "group n8c256h28w28 groups=32 silu"."""

    line: str
    count: int
    # What differs between the lines of problems that are summed up: all but the extents.
    kind: str
    norm: str
    shape: list[int]
    channels_last: bool
    dtype: torch.dtype
    groups: int
    activation: str | None
    # Whether a residual is added before the norm.
    prenorm: bool


def listed(line: str, layout: str, dtype: str) -> str:
    """A line of a list, with a layout of the right rank and a storage type after the extents."""
    words = line.split()
    at = next(index for index, word in enumerate(words) if word not in NORMS)
    spatial = re.sub(r"[^a-z]", "", words[at])[2:]
    order = f"nc{spatial}" if layout.startswith("nc") else f"n{spatial}c"
    return " ".join([*words[:at + 1], order, dtype, *words[at + 1:]])


def parse(line: str, count: int = 1) -> Problem:
    words = line.split()
    norm = words.pop(0) if words[0] in NORMS else "batch"
    extents, *rest = words
    shape = [int(number) for number in re.findall(r"[a-z](\d+)", extents)]
    names = [word for word in rest if word in DTYPES]
    layouts = [word for word in rest if word in LAYOUTS]
    groups = [word for word in rest if re.fullmatch(r"groups=\d+", word) and norm == "group"]
    activations = [word for word in rest if word in ACTIVATIONS and norm != "batch"]
    prenorm = [word for word in rest if word == "prenorm" and norm != "batch"]
    known = names + layouts + groups + activations + prenorm
    # A word that means nothing would be timed as f32, channels first, under its own name.
    if len(shape) < 2 or len(known) < len(rest) or any(len(word) != len(shape) for word in layouts):
        raise SystemExit(f"{line} is no problem line such as n32c64h56w56 nhwc f16 or rms n4096c1024 prenorm")
    return Problem(
        line, count, " ".join(word for word in line.split() if word != extents), norm, shape,
        any(len(word) > 2 and word.endswith("c") for word in layouts), DTYPES[names[0] if names else "f32"],
        int(groups[0].removeprefix("groups=")) if groups else 32 if shape[1] % 32 == 0 else 1,
        activations[0] if activations else None, bool(prenorm))


def tensor(problem: Problem, device: torch.device) -> torch.Tensor:
    values = torch.rand(problem.shape, device=device) * 2 - 1
    if problem.channels_last:
        values = values.movedim(1, -1).contiguous().movedim(-1, 1)
    return values.to(problem.dtype)


def turns(rotate: int, tensors: list[torch.Tensor]) -> int:
    """The number of sets of such tensors that take so many bytes."""
    return min(64, max(1, -(-rotate // sum(each.nbytes for each in tensors))))


class Work(NamedTuple):
    """What one contender does in a turn."""

    name: str
    contender: str
    cudnn: bool
    # Tensors that must be read or written, each once.
    tensors: int
    run: Callable[[int], Results]


class Norm(Protocol):
    """A norm with what a problem reads and writes, in several sets."""

    sets: list[Results]

    def works(self) -> list[Work]:
        """The contenders, a copy first."""

    def wanted(self, name: str) -> Results:
        """What a contender of this name should compute of the first set, in float64; it may compute more."""


class BatchNorm:
    """Batch normalization: torch's own kernels, and cuDNN where torch takes it."""

    def __init__(self, problem: Problem, device: torch.device, rotate: int) -> None:
        self.device = device
        x, dy = tensor(problem, device), tensor(problem, device)
        count = turns(rotate, [x, dy, x])
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

    def train(self, turn: int) -> Results:
        x, _, _ = self.sets[turn % len(self.sets)]
        return (F.batch_norm(x, self.mean, self.var, self.weight, self.bias, True, MOMENTUM, EPS),)

    def eval(self, turn: int) -> Results:
        x, _, _ = self.sets[turn % len(self.sets)]
        return (F.batch_norm(x, self.mean, self.var, self.weight, self.bias, False, MOMENTUM, EPS),)

    def copy(self, turn: int) -> Results:
        x, _, out = self.sets[turn % len(self.sets)]
        return (out.copy_(x),)

    def backward(self, turn: int) -> Results:
        x, dy, _ = self.sets[turn % len(self.sets)]
        return torch.ops.aten.native_batch_norm_backward(
            dy, x, self.weight, self.mean, self.var, self.saved_mean, self.saved_inv_std, True, EPS, [True] * 3)

    def cudnn_backward(self, turn: int) -> Results:
        x, dy, _ = self.sets[turn % len(self.sets)]
        mean, inv_std, reserve = self.cudnn_saved[turn % len(self.sets)]
        return torch.ops.aten.cudnn_batch_norm_backward(
            x, dy, self.weight, self.mean, self.var, mean, inv_std, EPS, reserve)

    def works(self) -> list[Work]:
        native = "native" if self.device.type == "cuda" else "torch"
        works = [Work("copy", "torch", False, 2, self.copy),
                 Work("train", native, False, 2, self.train),
                 Work("eval", native, False, 2, self.eval),
                 Work("backward", native, False, 3, self.backward)]
        if self.device.type == "cuda":
            # Only where torch does take cuDNN: else its own kernels would be timed under another's name.
            torch.backends.cudnn.enabled = True
            if self.cudnn_is_used(training=True):
                self.keep_cudnn()
                works += [Work("train", "cudnn", True, 2, self.train),
                          Work("backward", "cudnn", True, 3, self.cudnn_backward)]
            if self.cudnn_is_used(training=False):
                works.append(Work("eval", "cudnn", True, 2, self.eval))
        return works

    def wanted(self, name: str) -> Results:
        x, dy, _ = self.sets[0]
        weight, bias = self.weight.double(), self.bias.double()
        if name == "copy":
            return (x,)
        if name == "eval":
            return (F.batch_norm(x.double(), self.mean.double(), self.var.double(), weight, bias, False, 0, EPS),)
        wide = x.double().requires_grad_()
        y = F.batch_norm(wide, None, None, weight, bias, True, MOMENTUM, EPS)
        return (y.detach(),) if name == "train" else torch.autograd.grad(y, wide, dy.double())


class SampleNorm:
    """A norm whose statistics come from each sample alone, with an activation after it or an addition before it: one
    call of torch for each, and autograd for backward. Weight and bias are of the activations' type, as `half()` has it.
    """

    def __init__(self, problem: Problem, device: torch.device, rotate: int) -> None:
        self.problem = problem
        x, dy, residual, dadded = (tensor(problem, device) for _ in range(4))
        if problem.norm in ("layer", "rms"):
            # Rows of neighbours in memory: the channels where they are innermost, and else a whole sample.
            inner = problem.shape[1] if problem.channels_last else x[0].numel()
            x, dy, residual, dadded = (
                (each.movedim(1, -1) if problem.channels_last else each).reshape(-1, inner)
                for each in (x, dy, residual, dadded))
            parameters = inner
        else:
            parameters = problem.shape[1]
        kinds = [x, dy, residual, dadded] if problem.prenorm else [x, dy]
        # The output, and the sum, take their turns, too.
        count = turns(rotate, kinds + [x] * (2 if problem.prenorm else 1))
        self.sets = [tuple(each.clone() for each in kinds) for _ in range(count)]
        self.out = [torch.empty_like(x) for _ in range(count)]
        weight = torch.rand(parameters, device=device) + 0.5
        bias = torch.rand(parameters, device=device) - 0.5
        pair = (weight,) if problem.norm == "rms" else (weight, bias)
        self.parameters = tuple(each.to(problem.dtype).requires_grad_() for each in pair)
        # What is normalized and what comes out, with the graph between them that backward walks.
        self.graphs = [self.graph(number) for number in range(count)]

    def normalized(self, x: torch.Tensor, parameters: Results) -> torch.Tensor:
        weight, bias = (*parameters, None)[:2]
        match self.problem.norm:
            case "group":
                y = F.group_norm(x, self.problem.groups, weight, bias, EPS)
            case "instance":
                y = F.instance_norm(x, None, None, weight, bias, True, 0, EPS)
            case "layer":
                y = F.layer_norm(x, x.shape[1:], weight, bias, EPS)
            case _:
                y = F.rms_norm(x, x.shape[1:], weight, RMS_EPS)
        return ACTIVATIONS[self.problem.activation](y) if self.problem.activation else y

    def graph(self, number: int) -> Results:
        x, _, *more = self.sets[number]
        x = (x + more[0] if more else x).detach().requires_grad_()
        return x, self.normalized(x, self.parameters)

    def forward(self, turn: int) -> Results:
        x, _, *more = self.sets[turn % len(self.sets)]
        with torch.no_grad():
            if not more:
                return (self.normalized(x, self.parameters),)
            added = x + more[0]
            return self.normalized(added, self.parameters), added

    def backward(self, turn: int) -> Results:
        _, dy, *more = self.sets[turn % len(self.sets)]
        x, y = self.graphs[turn % len(self.sets)]
        dx, *rest = torch.autograd.grad(y, (x, *self.parameters), dy, retain_graph=True)
        # The gradient of the sum by its other way. Nobody else has dx, so that it may grow in place, as in autograd.
        return (dx.add_(more[1]) if more else dx, *rest)

    def copy(self, turn: int) -> Results:
        number = turn % len(self.sets)
        return (self.out[number].copy_(self.sets[number][0]),)

    def works(self) -> list[Work]:
        forward, backward = (4, 4) if self.problem.prenorm else (2, 3)
        return [Work("copy", "torch", False, 2, self.copy),
                Work("forward", "torch", False, forward, self.forward),
                Work("backward", "torch", False, backward, self.backward)]

    def wanted(self, name: str) -> Results:
        x, dy, *more = self.sets[0]
        if name == "copy":
            return (x,)
        # Rounded as it is stored.
        added = x + more[0] if more else x
        wide = added.double().requires_grad_()
        parameters = tuple(each.detach().double().requires_grad_() for each in self.parameters)
        y = self.normalized(wide, parameters)
        if name == "forward":
            return (y.detach(), added) if more else (y.detach(),)
        dx, *rest = torch.autograd.grad(y, (wide, *parameters), dy.double())
        return (dx + more[1].double() if more else dx, *rest)


def verify(norm: Norm, works: list[Work], dtype: torch.dtype) -> None:
    """What every contender computes, against float64."""
    tolerance = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    for work in works:
        torch.backends.cudnn.enabled = work.cudnn
        for result, wanted in zip(work.run(0), norm.wanted(work.name)):
            error = (result.double() - wanted).abs().max().item()
            if not error <= tolerance * max(1.0, wanted.abs().max().item()):
                raise SystemExit(f"{work.name} of {work.contender} is off by {error}")


def timer(device: torch.device) -> Callable[[Work, int], tuple[float, Results]]:
    """A function that returns the milliseconds of a turn, and its results."""
    if device.type == "cuda":
        def measure(work: Work, turn: int) -> tuple[float, Results]:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            # Without this the device would wait for Python between the events, which takes longer than small
            # problems do.
            torch.cuda._sleep(HEAD_START)
            start.record()
            results = work.run(turn)
            end.record()
            end.synchronize()
            return start.elapsed_time(end), results
    else:
        def measure(work: Work, turn: int) -> tuple[float, Results]:
            start = time.perf_counter()
            results = work.run(turn)
            return (time.perf_counter() - start) * 1e3, results
    return measure


def run_rounds(sets: int, works: list[Work], device: torch.device, rounds: int) -> list[list[float]]:
    """The milliseconds of every work, in order."""
    measure = timer(device)
    times: list[list[float]] = [[] for _ in works]
    # torch allocates outputs. They are held as long as the sets last, so that they take turns too; else each would
    # be written over the one before, which is in cache yet.
    held: collections.deque[Results] = collections.deque(maxlen=sets)
    warm_up = max(WARM_UP, 1 + -(-sets // len(works)))
    turn = 0
    for number in range(warm_up + rounds):
        for work, own in zip(works, times):
            torch.backends.cudnn.enabled = work.cudnn
            took, results = measure(work, turn)
            held.append(results)
            turn += 1
            if number >= warm_up:
                own.append(took)
    return [sorted(own) for own in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", help='problem lines such as "n32c64h56w56 nhwc f16"')
    parser.add_argument("--list", default="common", help=f"{', '.join([*LISTS, 'resnet50'])}, separated by commas")
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
    lists = {name: [(line, 1) for line in lines] for name, lines in LISTS.items()}
    lists["resnet50"] = [(f"n{arguments.batch}c{c}h{s}w{s}", count) for c, s, count in RESNET50]
    names = arguments.list.split(",")
    if unknown := [name for name in names if name not in lists]:
        parser.error(f"{unknown[0]} is no list; there are {', '.join(lists)}")
    layouts = arguments.layout.split(",")
    if unknown := [layout for layout in layouts if layout not in LAYOUTS]:
        parser.error(f"{unknown[0]} is no layout; there are {', '.join(LAYOUTS)}")
    lines = [(line, 1) for line in arguments.problems] or [
        (listed(line, layout, dtype), count) for name in names for line, count in lists[name]
        for layout in layouts for dtype in arguments.dtype.split(",")]
    # A layout of features is that of both orders.
    problems = [parse(line, count) for line, count in dict.fromkeys(lines)]

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
        make = BatchNorm if problem.norm == "batch" else SampleNorm
        norm = make(problem, device, arguments.rotate << 20)
        works = norm.works()
        verify(norm, works, problem.dtype)
        times = run_rounds(len(norm.sets), works, device, arguments.rounds)
        copy = times[0][(arguments.rounds - 1) // 2]
        for (name, contender, _, moved, _), own in zip(works, times):
            low, median, high = (own[(len(own) - 1) * quarter // 4] for quarter in (1, 2, 3))
            bytes_ = moved * norm.sets[0][0].nbytes
            print(f"{line:<46} {name:<20} {contender:<8} {median:9.3f} ms {own[0]:9.3f} min "
                  f"{median / copy:7.2f} / copy {bytes_ / median * 1e-6:8.1f} GB/s")
            csv.append(f"{line},{count},{name},{contender},{median:.4f},{own[0]:.4f},{low:.4f},{high:.4f},"
                       f"{median / copy:.3f}")
            key = (problem.kind, name, contender)
            totals[key] = totals.get(key, 0.0) + count * median
    if len(problems) > 1:
        print("\nAll problems of a kind, each as often as it counts:")
        for (kind, name, contender), total in totals.items():
            print(f"{kind:<32} {name:<20} {contender:<8} {total:10.3f} ms")
    if arguments.record:
        with arguments.record.open("x") as record:
            record.write("\n".join(csv) + "\n")


if __name__ == "__main__":
    main()
