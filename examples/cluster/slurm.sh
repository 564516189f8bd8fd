#!/bin/bash
# Any command of rllib on a Ray cluster that lives as long as this Slurm job. The folder from which
# it is submitted, with the environment .venv in it, must be one that all nodes share.
#
# A study with hundreds of trials:
#   sbatch --nodes=16 examples/cluster/slurm.sh rllib study run tuned_examples/studies/paper.py \
#     --dataset-dir data -o results/paper --ray-address auto
# One run with several GPU learners:
#   sbatch --nodes=2 --gpus-per-node=4 examples/cluster/slurm.sh rllib study run \
#     examples/cluster/one_run.py --dataset-dir data -o results/one-run --ray-address auto
#
#SBATCH --job-name=fmq
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

if [ $# -eq 0 ]; then
  echo "usage: sbatch [--nodes=N] [--gpus-per-node=G] $0 COMMAND ..." >&2
  exit 2
fi

# shellcheck disable=SC1091
source "$SLURM_SUBMIT_DIR/.venv/bin/activate"
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts%%$'\n'*}
# Another port for each job: two of them may meet on a node where nodes are not exclusive.
port=$((20000 + SLURM_JOB_ID % 20000))
# Seconds in which all nodes must have joined: imports from a shared folder are slow.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600

# The same command on every node: Ray's head is where `head` is, the others join it. COMMAND runs on
# the head once all are there, and when it ends Ray is stopped everywhere. Since Slurm 22.05 srun does
# not take over --cpus-per-task from sbatch.
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
  --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \
  ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" -- "$@"
