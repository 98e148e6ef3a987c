"""What is published of each training that configs/train/ repeats, value by value, with its source.

The tests hold each config against its record, and the tables of docs/training.md are made of them:
`python configs/published_tables.py` writes them anew. Repositories are GitHub's, files are theirs.
What a repository's command leaves out is its script's default. No script sets a seed.
"""

from published_classifiers import CLASSIFIERS
from published_records import (
    CIFAR10,
    COHEN,
    CONSISTENCY,
    IMAGENET,
    MACER,
    SALMAN,
    SMOOTHMIX,
    Diffusion,
    Loop,
)

__all__ = ["CLASSIFIERS", "DIFFUSIONS", "LOOPS"]

DIFFUSIONS = (
    Diffusion(
        config="cifar10_diffusion",
        dataset=CIFAR10,
        side=32,
        flags="--image_size 32 --num_channels 128 --num_res_blocks 3 --learn_sigma True"
        " --dropout 0.3 --diffusion_steps 4000 --noise_schedule cosine",
        batch=128,
        steps=500_000,
        learning_rate=1e-4,
        ema=0.9999,
        flip=False,
        precision="float32",
        sources=(
            "openai/improved-diffusion, README, unconditional CIFAR-10 with L_hybrid:"
            " image_train.py with the flags and --lr 1e-4 --batch_size 128",
            "openai/improved-diffusion, scripts/image_train.py: the defaults; the steps by the"
            " name of cifar10_uncond_50M_500K.pt",
        ),
        our_precision="32-true",
    ),
    Diffusion(
        config="imagenet_diffusion",
        dataset=IMAGENET,
        side=256,
        flags="--image_size 256 --num_channels 256 --num_res_blocks 2 --attention_resolutions"
        " 32,16,8 --num_head_channels 64 --resblock_updown True --use_scale_shift_norm True"
        " --learn_sigma True --class_cond False --diffusion_steps 1000 --noise_schedule linear",
        batch=256,
        steps=2_000_000,
        learning_rate=1e-4,
        ema=0.9999,
        flip=True,
        precision="float16",
        sources=(
            "openai/guided-diffusion, README, 256x256 model (unconditional): the flags, which are"
            " those of sampling; no command for training is published",
            "openai/guided-diffusion, scripts/image_train.py and guided_diffusion/"
            "image_datasets.py: the defaults",
            "Dhariwal & Nichol 2021, table 4: batch 256, 2M steps",
        ),
        our_precision="bf16-mixed",
    ),
)

LOOPS = (
    Loop(
        "GaussianTraining",
        f"{COHEN}, code/train.py",
        "one step on B images, each under one noise",
    ),
    Loop(
        "SmoothAdvTraining",
        f"{SALMAN}, code/train_pgd.py",
        "attacks B / m images at a time, each under m noises. With --train-multi-noise each such"
        " part is a step, on its B / m images x m noises: m steps. Without it one step on all B"
        " images, each under the first of its noises",
    ),
    Loop(
        "StabilityTraining",
        f"{CONSISTENCY}, code/train_stab.py",
        "one step on B images, each clean and under one noise, which are two passes of the"
        " network, so that batch norms see them apart",
    ),
    Loop(
        "ConsistencyTraining",
        f"{CONSISTENCY}, code/train_consistency.py",
        "m steps, each on B / m images x m noises, with the attack on them or without",
    ),
    Loop(
        "MacerTraining",
        f"{MACER}, macer.py",
        "one step on B images x k noises",
    ),
    Loop(
        "SmoothMixTraining",
        f"{SMOOTHMIX}, code/train.py",
        "m steps, each on B / m images x m noises; the mixed images are a second pass of the"
        " network under the same noises",
    ),
)
