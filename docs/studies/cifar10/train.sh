#!/bin/bash
# One network of the study; begun again, it goes on from its last epoch.
#   docs/studies/cifar10/train.sh DATA NAME "LAYER ..." [OPTIONS]
# DATA: a folder with train.npz, the first 48,000 training images of the study's order, and test.npz, the last 2,000.
# LAYER: what is laid over training/gaussian_0.25.yaml, such as clean or "gaussian_0.50 consistency"; "" for none.
# OPTIONS: of train.py, such as --seed_everything 1 --model.init_args.seed 1 --data.seed 1 for another seed of all. Logs go to logs/NAME, the network to checkpoints/NAME.pt.
set -euo pipefail
cd "$(dirname "$0")/../../.."
data=$1 name=$2 layers=$3
shift 3
export OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
python=${PYTHON:-python} training=docs/studies/cifar10/training
configs=(-c $training/gaussian_0.25.yaml)
for layer in $layers; do configs+=(-c $training/$layer.yaml); done
begun=$(find "logs/$name" -name last.ckpt 2> /dev/null | head -1 || true)
$python train.py fit "${configs[@]}" --name "$name" --data.root "$data" --trainer.accelerator cpu ${begun:+--ckpt_path last} "$@"
$python -m diffsmooth export "$(find "logs/$name" -name last.ckpt)" "${NETWORKS:-checkpoints}/$name.pt" --half
