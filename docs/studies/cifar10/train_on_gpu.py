"""Trains the study's networks on one GPU in minutes: a step of training is one captured graph.

    python train_on_gpu.py unet SECONDS TRAIN.npz OUT.pt      # HELD=HELD.npz shows its PSNR, too
    python train_on_gpu.py classifiers PLAN.json TRAIN.npz OUT_FOLDER
    python train_on_gpu.py purified TRAIN.npz UNET.pt OUT_FOLDER EPOCHS SECONDS   # JOBS="purified:0.25:0"
    python train_on_gpu.py speed TRAIN.npz OUT_FOLDER         # COMPILED=1 compiles as well

The images lie on the device as bytes; drawing, augmenting, noise, gradients and update are replayed as
one graph, so that the processor has nothing to do. The convolutions of classifiers compute in bf16 from
float32 weights. PLAN.json: {"seconds": 500, "epochs": 15, "lanes": [["gauss:0.25:0"], ["consistency:0.5:0"]]};
a job is METHOD:SIGMA:SEED, those of a lane follow each other, lanes run side by side. TINY=1 tries it all
on a CPU.

Measured on one H200 (torch 2.11): U-Net of 7.3 M, compiled (77 s): 12,500 images/s; ResNet-110, batch 512:
21,700 images/s alone, 28,200 in three lanes, consistency 11,700, SmoothAdv of four steps 6,100; compiled
it is slower (12,400, beside another job).
"""

import copy
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from diffsmooth.models import (
    DiffusionSchedule,
    OneShotPurifier,
    build_classifier,
    build_unet,
    load_unet,
)
from diffsmooth.models.attacks.target import ascend, unit_directions
from diffsmooth.models.checkpoints.weights import CheckpointMetadata, write_checkpoint
from diffsmooth.models.classifiers.dataset_info import CIFAR10

cuda = torch.cuda.is_available()
dev = torch.device("cuda" if cuda else "cpu")
T0 = time.time()
TINY = bool(os.environ.get("TINY"))


def say(*a):
    print(f"[{time.time() - T0:6.1f}s]", *a, flush=True)


torch.backends.cudnn.benchmark = True
torch.set_float32_matmul_precision("high")


def load(path):
    z = np.load(path)
    return torch.from_numpy(z["images"]).permute(0, 3, 1, 2).contiguous().to(dev), torch.from_numpy(
        z["labels"].astype(np.int64)
    ).to(dev)


def consistency(log_p):  # as diffsmooth.lit.training.consistency
    log_mean = log_p.logsumexp(dim=1, keepdim=True) - math.log(log_p.shape[1])
    mean = log_mean.exp()
    return (mean * (log_mean - log_p)).sum(dim=2).mean(dim=1), -(mean * log_mean).sum(dim=(1, 2))


class Graphed:
    """work() captured; replayed on a stream of its own, with a random stream of its own."""

    def __init__(self, seed):
        self.gen = torch.Generator(dev).manual_seed(seed)
        self.stream = torch.cuda.Stream() if cuda else None
        self.graph = None

    def capture(self, work, warm=4):
        if not cuda:
            self.work = work
            return
        with torch.cuda.stream(self.stream):
            for _ in range(warm):
                work()
        self.stream.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.gen)
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            work()

    def replay(self):
        if cuda:
            with torch.cuda.stream(self.stream):
                self.graph.replay()
        else:
            self.work()


class Classifier(Graphed):
    def __init__(
        self,
        name,
        data,
        labels,
        epochs,
        batch=512,
        lr=0.2,
        draws=None,
        out=None,
        compiled=False,
        arch="cifar_resnet110",
        wd=2e-4,
    ):
        super().__init__(0)
        torch.manual_seed(0)
        self.sigma_t = torch.zeros((), device=dev)
        self.weight_t = torch.zeros((), device=dev)
        self.kind = name.split(":")[0]
        self.arch, self.out, self.x8, self.y, self.draws, self.batch, self.lr0 = (
            arch,
            out,
            data,
            labels,
            draws,
            batch,
            lr,
        )
        self.n = len(data)
        self.per_epoch = self.n // batch
        self.steps = epochs * self.per_epoch
        self.epochs = epochs
        self.step = 0
        full = build_classifier(arch, 10).to(dev)
        self.layer, self.net = full[0], full[1].to(memory_format=torch.channels_last)
        self.net.train()
        # Convolutions and the last layer compute in bf16 from float32 weights, batch norms in float32.
        self.names = [k for k, _ in self.net.named_parameters()]
        self.masters = [p.detach().clone() for p in self.net.parameters()]
        if cuda:
            for m in self.net.modules():
                if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)):
                    m.to(torch.bfloat16)
        self.params = list(self.net.parameters())
        self.velocity = [torch.zeros_like(p) for p in self.masters]
        self.grads = [torch.zeros_like(p) for p in self.masters]
        self.dtype = self.params[0].dtype
        self.forward = torch.compile(self.net, dynamic=False) if compiled else self.net
        self.index = torch.zeros(batch, dtype=torch.int64, device=dev)
        self.neg_lr = torch.zeros((), device=dev)
        self.loss = torch.zeros((), device=dev)
        self.acc = torch.zeros((), device=dev)
        self.wd = wd
        self.perm = None
        self.mark = None
        self.step = 0
        if self.stream:
            self.stream.wait_stream(torch.cuda.current_stream())
        self.capture(self.train_step)
        if cuda:
            torch.cuda.synchronize()
        self.reset(name)

    def reset(self, name):
        kind, sigma, seed = name.split(":")
        assert kind == self.kind
        self.name, self.sigma, self.seed, self.step, self.mark = (
            name,
            float(sigma),
            int(seed),
            0,
            None,
        )
        if cuda:
            torch.cuda.synchronize()
        self.gen.manual_seed(1000 + self.seed)
        self.sigma_t.fill_(self.sigma)
        self.weight_t.fill_(
            {"consistency": 20.0 if self.sigma < 0.4 else 10.0, "purified": 5.0}.get(kind, 0.0)
        )
        torch.manual_seed(self.seed)
        fresh = build_classifier(self.arch, 10)[1]
        with torch.no_grad():
            for m, p, f in zip(self.masters, self.params, fresh.parameters(), strict=False):
                m.copy_(f.to(dev))
                p.copy_(m)
            for v in self.velocity:
                v.zero_()
            for k, b in self.net.named_buffers():
                if k.endswith("running_var"):
                    b.fill_(1)
                else:
                    b.zero_()
        if cuda:
            torch.cuda.synchronize()
        self.started = time.time()

    def logits(self, x):
        return self.forward(self.layer(x).to(self.dtype)).float()

    def images(self):
        b, i, g = self.batch, self.index, self.gen
        if self.draws is None:
            x = self.x8[i][:, None]
        else:  # two different draws of the purified image
            d = self.draws.shape[1]
            first = torch.randint(d, (b,), device=dev, generator=g)
            other = (first + 1 + torch.randint(d - 1, (b,), device=dev, generator=g)) % d
            x = torch.stack([self.draws[i, first], self.draws[i, other]], 1)
        v = x.shape[1]
        x = x.flatten(1, 2).float() / 255
        x = torch.where(torch.rand(b, 1, 1, 1, device=dev, generator=g) < 0.5, x.flip(3), x)
        x = F.pad(x, (4,) * 4)
        o = torch.randint(9, (2, b, 1, 1, 1), device=dev, generator=g)
        r = torch.arange(32, device=dev)
        bb = torch.arange(b, device=dev).view(-1, 1, 1, 1)
        c = torch.arange(3 * v, device=dev).view(1, -1, 1, 1)
        return x[bb, c, o[0] + r.view(1, 1, -1, 1), o[1] + r.view(1, 1, 1, -1)].unflatten(1, (v, 3))

    def noise(self, like):
        return self.sigma_t * torch.randn(like.shape, device=dev, generator=self.gen)

    def train_step(self):
        views, y = self.images(), self.y[self.index]
        x = views[:, 0]
        if self.kind in ("consistency", "purified"):
            two = (views if views.shape[1] == 2 else views.expand(-1, 2, -1, -1, -1)).flatten(0, 1)
            logits = self.logits(two + self.noise(two)).unflatten(0, (-1, 2))
            lp = logits.log_softmax(2)
            spread, entropy = consistency(lp)
            fit = -lp.gather(2, y[:, None, None].expand(-1, 2, 1)).squeeze(2).mean(1)
            loss = (fit + self.weight_t * spread + 0.5 * entropy).mean()
            logits = logits[:, 0]
        elif self.kind == "smoothadv":
            eps, steps = 0.25, 4
            noise = self.noise(x)
            self.net.eval()
            delta = torch.zeros_like(x)
            for _ in range(steps):
                delta = delta.detach().requires_grad_()
                (g,) = torch.autograd.grad(
                    F.cross_entropy(self.logits(x + delta + noise), y, reduction="sum"), delta
                )
                delta = ascend(x, delta.detach(), unit_directions(g, self.gen), eps, steps)
            self.net.train()
            logits = self.logits((x + delta).clamp(0, 1) + noise)
            loss = F.cross_entropy(logits, y)
        else:
            logits = self.logits(x + self.noise(x))
            loss = F.cross_entropy(logits, y)
        for p in self.params:
            p.grad = None
        loss.backward()
        with torch.no_grad():
            torch._foreach_copy_(self.grads, [p.grad for p in self.params])
            torch._foreach_add_(self.grads, self.masters, alpha=self.wd)
            torch._foreach_mul_(self.velocity, 0.9)
            torch._foreach_add_(self.velocity, self.grads)
            torch._foreach_add_(self.grads, self.velocity, alpha=0.9)
            torch._foreach_mul_(self.grads, self.neg_lr)
            torch._foreach_add_(self.masters, self.grads)
            torch._foreach_copy_(self.params, self.masters)
            self.loss.copy_(loss.detach())
            self.acc.copy_((logits.argmax(1) == y).float().mean())

    def advance(self):
        k = self.step % self.per_epoch
        ctx = (
            torch.cuda.stream(self.stream)
            if self.stream
            else __import__("contextlib").nullcontext()
        )
        with ctx:
            if k == 0:
                self.perm = torch.from_numpy(
                    np.random.default_rng([self.seed, self.step]).permutation(self.n)
                ).to(dev)
            self.index.copy_(self.perm[k * self.batch : (k + 1) * self.batch])
            u = self.step / self.steps
            self.neg_lr.fill_(
                -self.lr0
                * min(1.0, (self.step + 1) / (0.08 * self.steps))
                * 0.5
                * (1 + math.cos(math.pi * u))
            )
        self.replay()
        self.step += 1
        if cuda and self.step % 8 == 0:
            if self.mark is not None:
                self.mark.synchronize()
            self.mark = torch.cuda.Event()
            self.mark.record(self.stream)
        return self.step < self.steps

    def save(self):
        if self.stream:
            self.stream.synchronize()
        s = time.time() - self.started
        state = {k: v.detach().float().cpu() for k, v in self.net.state_dict().items()}
        for k, m in zip(self.names, self.masters, strict=False):
            state[k] = m.detach().cpu()
        state = {
            f"1.{k}": (v.contiguous() if "num_batches" not in k else torch.tensor(self.step))
            for k, v in state.items()
        }
        i = CIFAR10
        meta = CheckpointMetadata(
            "classifier",
            "cifar10",
            self.arch,
            "standard",
            list(i.image_shape),
            list(i.class_names),
            list(i.mean),
            list(i.std),
            self.sigma,
        )
        out = Path(self.out) / (self.name.replace(":", "_") + ".pt")
        write_checkpoint(out, meta, state)
        say(
            f"DONE {self.name}: {self.epochs} epochs, {self.step} steps, loss {self.loss.item():.4f}, batch accuracy {self.acc.item():.3f}, {self.step * self.batch / s:.0f} images/s over {s:.0f}s"
        )


def speed(job, seconds=5.0):
    if cuda:
        torch.cuda.synchronize()
    t, k = time.time(), job.step
    while time.time() - t < seconds:
        job.advance()
    if cuda:
        torch.cuda.synchronize()
    return (job.step - k) * job.batch / (time.time() - t)


class UNetTraining(Graphed):
    def __init__(self, data, batch=256, lr=8e-4, compiled=True, max_sigma=1.0, seed=0):
        super().__init__(seed)
        torch.manual_seed(seed)
        self.x8, self.batch, self.lr0, self.max_sigma = data, batch, lr, max_sigma
        self.over = dict(
            model_channels=32 if TINY else 64,
            num_res_blocks=1 if TINY else 2,
            channel_mult=(1, 2, 2),
            out_channels=3,
            dropout=0.0,
        )
        self.net = build_unet("improved-cifar10", **self.over).to(dev).train()
        self.schedule = DiffusionSchedule("cosine", 4000)
        self.abar = (
            torch.from_numpy(np.asarray(self.schedule.alphas_cumprod, dtype=np.float64))
            .float()
            .to(dev)
        )
        self.T = self.schedule.timestep(max_sigma) + 1
        self.time = float(self.schedule.network_time(1))
        self.ema = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.forward = (
            torch.compile(self.net, dynamic=False, fullgraph=True) if compiled else self.net
        )
        self.lr = torch.tensor(0.0, device=dev)
        self.opt = torch.optim.Adam(self.net.parameters(), lr=self.lr, capturable=cuda, fused=cuda)
        self.loss = torch.zeros((), device=dev)
        self.params, self.averages = list(self.net.parameters()), list(self.ema.parameters())
        self.step = 0
        self.mark = None
        if self.stream:
            self.stream.wait_stream(torch.cuda.current_stream())
        t = time.time()
        self.capture(self.train_step)
        say(f"U-Net captured, compiled={compiled}, {time.time() - t:.0f}s, T={self.T}")

    def train_step(self):
        g, b = self.gen, self.batch
        i = torch.randint(len(self.x8), (b,), device=dev, generator=g)
        x = self.x8[i].float() / 127.5 - 1
        x = torch.where(torch.rand(b, 1, 1, 1, device=dev, generator=g) < 0.5, x.flip(3), x)
        t = torch.randint(self.T, (b,), device=dev, generator=g)
        ab = self.abar[t].view(-1, 1, 1, 1)
        eps = torch.randn(x.shape, device=dev, generator=g)
        with torch.autocast(dev.type, torch.bfloat16):
            out = self.forward(ab.sqrt() * x + (1 - ab).sqrt() * eps, t.float() * self.time)
        loss = F.mse_loss(out.float(), eps)
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0, foreach=True)
        self.opt.step()
        self.loss.copy_(loss.detach())

    def advance(self, u):
        ctx = (
            torch.cuda.stream(self.stream)
            if self.stream
            else __import__("contextlib").nullcontext()
        )
        with ctx:
            self.lr.fill_(
                self.lr0 * min(1.0, (self.step + 1) / 500) * 0.5 * (1 + math.cos(math.pi * u))
            )
        self.replay()
        self.step += 1
        with (
            (
                torch.cuda.stream(self.stream)
                if self.stream
                else __import__("contextlib").nullcontext()
            ),
            torch.no_grad(),
        ):
            if self.step % 4 == 0:
                torch._foreach_lerp_(
                    self.averages,
                    self.params,
                    1 - min(0.9995, (1 + self.step) / (10 + self.step)) ** 4,
                )
        if cuda and self.step % 8 == 0:
            if self.mark is not None:
                self.mark.synchronize()
            self.mark = torch.cuda.Event()
            self.mark.record(self.stream)

    def save(self, out, final):
        if self.stream:
            self.stream.synchronize()
        over = {k: list(v) if isinstance(v, tuple) else v for k, v in self.over.items()}
        meta = CheckpointMetadata(
            kind="unet",
            dataset="cifar10",
            preset="improved-cifar10",
            overrides=over,
            max_sigma=self.max_sigma,
        )
        state = {k: v.detach().cpu().contiguous() for k, v in self.ema.state_dict().items()}
        write_checkpoint(Path(out), meta, {k: v.half() for k, v in state.items()})
        say(f"unet saved, final={final}, step {self.step}, {self.step * self.batch} images")

    @torch.inference_mode()
    def psnr(self, x8):
        x = x8[:512].float() / 255
        g = torch.Generator(dev).manual_seed(1)
        noise = torch.randn(x.shape, device=dev, generator=g)
        r = []
        for s in (0.25, 0.5):
            with torch.autocast(dev.type, torch.bfloat16):
                d = OneShotPurifier(self.ema, self.schedule)(x + s * noise, s)
            r.append(
                f"PSNR at {s}: {float((-10 * torch.log10(((d.float() - x) ** 2).mean((1, 2, 3)))).mean()):.2f} dB"
            )
        return "; ".join(r)


@torch.inference_mode()
def purified_draws(path, x8, sigma=0.5, draws=4):
    schedule = DiffusionSchedule("cosine", 4000)
    unet = load_unet(path).to(dev).eval()
    purify = OneShotPurifier(unet, schedule)
    g = torch.Generator(dev).manual_seed(7)
    out = torch.empty((len(x8), draws, 3, 32, 32), dtype=torch.uint8, device=dev)
    with torch.autocast(dev.type, torch.bfloat16):
        for k in range(0, len(x8), 500):
            x = (x8[k : k + 500].float() / 255).repeat_interleave(draws, 0)
            d = purify(x + sigma * torch.randn(x.shape, device=dev, generator=g), sigma).float()
            out[k : k + 500] = (255 * d).round().to(torch.uint8).unflatten(0, (-1, draws))
    return out


def run_unet(seconds, data, out):
    x8, _ = load(data)
    held = load(os.environ["HELD"])[0] if os.environ.get("HELD") else x8
    try:
        job = UNetTraining(x8, batch=8 if TINY else 256, compiled=not TINY)
    except Exception as e:
        say("NOT compiled:", repr(e)[:600])
        job = UNetTraining(x8, compiled=False)
    begun = last = saved = time.time()
    k = 0
    end = T0 + seconds
    while True:
        now = time.time()
        u = min(1.0, (now - begun) / max(1.0, end - begun))
        job.advance(u)
        if now - last > (2 if TINY else 20):
            say(
                f"unet step {job.step} loss {job.loss.item():.4f} {(job.step - k) * job.batch / (now - last):.0f} images/s u={u:.2f}"
            )
            last, k = now, job.step
        if now - saved > 120:
            job.save(out, False)
            say("held-out", job.psnr(held))
            saved = time.time()
        if u >= 1:
            break
    job.save(out, True)
    say("train", job.psnr(x8), "| held-out", job.psnr(held))


def run_classifiers(plan, data, out):
    """A lane's jobs, of one method, share one captured graph."""
    plan = json.loads(Path(plan).read_text())
    x8, y = load(data)
    end = T0 + plan["seconds"]
    last = time.time()
    lanes = [list(lane) for lane in plan["lanes"]]
    jobs = []
    for lane in lanes:
        try:
            jobs.append(
                Classifier(
                    lane.pop(0),
                    x8,
                    y,
                    plan["epochs"],
                    batch=16 if TINY else 512,
                    out=out,
                    compiled=plan.get("compiled", False)
                    and "smoothadv" not in str(lane)
                    and not TINY,
                    arch="cifar_resnet8" if TINY else "cifar_resnet110",
                )
            )
            say("captured", jobs[-1].name, jobs[-1].steps, "steps")
        except Exception as e:
            say("FAILED to start", repr(e)[:600])
            jobs.append(None)
    while any(jobs):
        for k, job in enumerate(jobs):
            if job is None or job.advance():
                continue
            job.save()
            need = (time.time() - job.started) * 0.7
            if lanes[k] and time.time() + need < end:
                job.reset(lanes[k].pop(0))
            else:
                say("lane", k, "ends; left", lanes[k])
                jobs[k] = None
        if time.time() - last > (2 if TINY else 15):
            last = time.time()
            say(
                "; ".join(
                    f"{j.name} {j.step}/{j.steps} loss {j.loss.item():.3f} acc {j.acc.item():.2f}"
                    for j in jobs
                    if j
                )
            )
        if time.time() > end:
            for job in jobs:
                if job:
                    say("out of time:", job.name, job.step, "of", job.steps)
                    job.name += ":cut"
                    job.save()
            break


def test_speed(data, out):
    x8, y = load(data)
    result = {}

    def measure(key, work):
        try:
            result[key] = work()
            say(key, result[key])
        except Exception as e:
            say(key, "FAILED", repr(e)[:500])
        (Path(out) / "speed.json").write_text(json.dumps(result))

    def one(name, **k):
        return round(speed(Classifier(name, x8, y, 30, out=out, **k), 4))

    measure("gauss eager graph", lambda: one("gauss:0.25:0"))
    measure("gauss eager graph, batch 1024", lambda: one("gauss:0.25:0", batch=1024))
    measure("consistency eager graph", lambda: one("consistency:0.25:0"))
    measure("smoothadv 4 eager graph", lambda: one("smoothadv:0.25:0"))

    def three():
        jobs = [Classifier(f"gauss:0.25:{k}", x8, y, 30, out=out) for k in range(3)]
        torch.cuda.synchronize()
        t = time.time()
        n = 0
        while time.time() - t < 5:
            for j in jobs:
                j.advance()
            n += 3
        torch.cuda.synchronize()
        return round(n * 512 / (time.time() - t))

    measure("three gauss at once, sum", three)

    def learns():
        j = Classifier("gauss:0.25:0", x8, y, 2, out=out)
        go = True
        while go:
            go = j.advance()
        torch.cuda.synchronize()
        return [round(j.loss.item(), 3), round(j.acc.item(), 3)]

    measure("loss and accuracy after 2 epochs", learns)
    if os.environ.get("COMPILED"):
        measure("gauss compiled graph", lambda: one("gauss:0.25:0", compiled=True))
        measure("consistency compiled graph", lambda: one("consistency:0.25:0", compiled=True))


def purified(data, unet, out, epochs, seconds):
    x8, y = load(data)
    t = time.time()
    draws = purified_draws(unet, x8)
    say(f"draws {tuple(draws.shape)} in {time.time() - t:.0f}s")
    ends = T0 + seconds
    jobs = [
        Classifier(
            n,
            x8,
            y,
            epochs,
            batch=16 if TINY else 512,
            out=out,
            draws=draws,
            arch="cifar_resnet8" if TINY else "cifar_resnet110",
        )
        for n in os.environ["JOBS"].split()
    ]
    last = time.time()
    while jobs:
        for j in list(jobs):
            if not j.advance():
                j.save()
                jobs.remove(j)
        if time.time() - last > 10:
            last = time.time()
            say(
                "; ".join(
                    f"{j.name} {j.step}/{j.steps} loss {j.loss.item():.3f} acc {j.acc.item():.2f}"
                    for j in jobs
                )
            )
        if time.time() > ends:
            for j in jobs:
                say("out of time", j.name)
                j.save()
            break


if __name__ == "__main__":
    what, *a = sys.argv[1:]
    if what == "unet":
        run_unet(float(a[0]), a[1], a[2])
    elif what == "classifiers":
        run_classifiers(*a)
    elif what == "speed":
        test_speed(*a)
    elif what == "purified":
        purified(a[0], a[1], a[2], int(a[3]), float(a[4]))
