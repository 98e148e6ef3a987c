#!/bin/bash
# The study's certifications, in their order; begun again, it goes on where it stopped.
#   docs/studies/cifar10/certify.sh IMAGES.npz OUT_FOLDER [DEVICES [METHOD_SIGMA]]
# IMAGES.npz: test images 500 to 999 of the study's order. On a CPU with one thread a process, so that the number of
# processes (DEVICES) changes nothing. CERTIFY=docs/studies/cifar10/certify_sharing.py computes what the U-Net makes of a noisy
# image once for all methods of a sigma; the votes are the same. METHOD_SIGMA (such as cohen_0.50): that one alone.
set -euo pipefail
cd "$(dirname "$0")/../../.."
images=$1 out=$2 devices=${3:-1} only=${4:-}
study="--n0 100 --n 1000 --alpha 0.001 --skip 1 --accelerator cpu --precision float32 --threads 1 --batch 50 --no_sanity_check"
unet=checkpoints/cifar10_diffusion.pt
python=${PYTHON:-python}
export ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2  # so that a run goes on, on newer processors, too

arm() {  # NAME CLASSIFIER SIGMA OPTIONS...
    local name=$1 classifier=$2 sigma=$3
    shift 3
    [ "${only:-$name}" = "$name" ] || return 0
    [ -f "$classifier" ] || { echo "$name: $classifier is not trained yet"; return; }
    $python "${CERTIFY:-certify.py}" "$images" "$classifier" "$sigma" "$out/$name.txt" $study --devices "$devices" --logdir "$out/logs" "$@"
}

networks=${NETWORKS:-checkpoints}
gaussian_025=$networks/cifar10_resnet20_gaussian_0.25.pt
gaussian_050=$networks/cifar10_resnet20_gaussian_0.50.pt
clean=$networks/cifar10_resnet20_clean.pt
local="--diffusion $unet --m 5 --sigma_local 0.25"
once="--diffusion $unet --m 1 --sigma_local 0"
plain="--purifier none --m 1 --sigma_local 0"

arm cohen_0.50 $gaussian_050 0.50 $plain
arm diffsmooth_0.50 $gaussian_025 0.50 $local
arm purified_0.50 $gaussian_025 0.50 $once
arm denoised_0.50 $clean 0.50 $once
arm cohen_0.25 $gaussian_025 0.25 $plain
arm diffsmooth_0.25 $gaussian_025 0.25 $local
arm denoised_0.25 $clean 0.25 $once
