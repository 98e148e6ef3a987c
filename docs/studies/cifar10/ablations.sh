#!/bin/bash
# What the study's choices do, at sigma 0.50 on 100 images of their own; begun again, it goes on.
#   KEPT=FOLDER docs/studies/cifar10/ablations.sh IMAGES.npz OUT_FOLDER [DEVICES]
# IMAGES.npz: test images 1000 to 1099 of the study's order, which no other table holds. 500 votes an image; all one-shot
# methods vote on the same noise, so the U-Net runs once (certify_sharing.py).
set -euo pipefail
cd "$(dirname "$0")/../../.."
images=$1 out=$2 devices=${3:-1}
study="--n0 100 --n 400 --alpha 0.001 --accelerator cpu --precision float32 --threads 1 --batch 50 --no_sanity_check"
gaussian=checkpoints/cifar10_resnet20_gaussian_0.25.pt
export ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 PYTHONPATH=$PWD/docs/studies/cifar10:$PWD

ablation() {  # NAME OPTIONS...
    local name=$1
    shift
    ${PYTHON:-python} docs/studies/cifar10/certify_sharing.py "$images" "${classifier:-$gaussian}" 0.50 "$out/$name.txt" $study \
        --diffusion checkpoints/cifar10_diffusion.pt --devices "$devices" --logdir "$out/logs" "$@"
}

for m in 1 3 5 9; do ablation m_$m --skip 1 --m $m --sigma_local 0.25; done
ablation no_local_noise --skip 1 --m 1 --sigma_local 0
for sigma_local in 0.12 0.20 0.30 0.35; do ablation sigma_local_$sigma_local --skip 1 --m 5 --sigma_local $sigma_local; done
classifier=fresh_noise:classifier ablation fresh_local_noise --skip 1 --m 1 --sigma_local 0
# Five steps cost five U-Nets a vote: every fifth image.
ablation steps_5 --skip 5 --purifier multistep --steps 5 --m 5 --sigma_local 0.25
