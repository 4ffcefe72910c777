#!/usr/bin/env bash
# A Slurm of four nodes on this machine, for tests and for trying `vnp launch slurm`. As root:
#
#   tools/slurm_cluster.sh up DIR      starts munged, slurmctld and four slurmd; writes DIR/slurm.conf
#   export SLURM_CONF=DIR/slurm.conf   for sbatch, squeue and vnp
#   tools/slurm_cluster.sh down DIR    ends them and their jobs
#
# Nodes n1 to n4 have 2 CPUs and one GPU that is none. Jobs of the partition `urgent` preempt those of
# `main`, which are requeued. Needs slurmctld, slurmd, slurm-client and munge. Where there is no
# /etc/slurm/slurm.conf, it is a link to DIR's meanwhile, for tools that drop SLURM_CONF from their jobs.
set -euo pipefail
[ $# = 2 ] || { echo "usage: $0 up|down DIR" >&2; exit 2; }
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
export SLURM_CONF="$dir/slurm.conf"

write_conf() {
  local host
  host=$(hostname -s)
  mkdir -p "$dir/state" "$dir/spool" "$dir/munge"
  printf 'Name=gpu Type=fake File=/dev/null\n' >"$dir/gres.conf"
  cat >"$SLURM_CONF" <<CONF
ClusterName=vnp
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmctldPort=17817
SlurmdParameters=config_overrides
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
SlurmdTimeout=5
SlurmctldTimeout=10
InactiveLimit=0
KillWait=10
MinJobAge=300
JobRequeue=1
GresTypes=gpu
NodeName=n[1-4] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17901-17904] CPUs=2 RealMemory=6000 Gres=gpu:fake:1 State=UNKNOWN
PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=5
PartitionName=urgent Nodes=n[1-4] Default=NO MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
}

up() {
  [ "$(id -u)" = 0 ] || { echo "$0: slurmd starts jobs as their users: run this as root" >&2; exit 1; }
  write_conf
  mkdir -p /etc/slurm
  local name link
  for name in slurm.conf gres.conf; do
    link=/etc/slurm/$name
    # The link of such a cluster that was killed is replaced.
    if [ ! -e "$link" ] || { [ -L "$link" ] \
      && grep -qx ClusterName=vnp "$(dirname "$(readlink "$link")")/slurm.conf"; }; then
      ln -sfn "$dir/$name" "$link"
    fi
  done
  head -c 1024 /dev/urandom >"$dir/munge/key"
  chmod 400 "$dir/munge/key"
  # A munged of its own: a machine's own key and daemon are left alone.
  munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --num-threads=2 \
    --pid-file="$dir/munge/pid" --seed-file="$dir/munge/seed" --log-file="$dir/munge/log"
  slurmctld
  for node in n1 n2 n3 n4; do slurmd -N "$node"; done
  for _ in $(seq 120); do
    [ "$(sinfo --noheader --partition main --states idle --format %D 2>/dev/null)" = 4 ] && return
    sleep 0.25
  done
  echo "$0: the nodes are not idle after 30 s; see $dir/*.log" >&2
  sinfo >&2 || true
  exit 1
}

down() {
  scancel --user root 2>/dev/null || true
  local pids=() file
  for file in "$dir"/slurmd-*.pid "$dir/slurmctld.pid" "$dir/munge/pid"; do
    [ ! -s "$file" ] || pids+=("$(cat "$file")")
  done
  kill "${pids[@]}" 2>/dev/null || true
  for _ in $(seq 30); do
    kill -0 "${pids[@]}" 2>/dev/null || break  # fails once one has ended: the others soon do
    sleep 0.1
  done
  sleep 0.2
  kill -9 "${pids[@]}" 2>/dev/null || true
  for name in slurm.conf gres.conf; do
    [ "$(readlink "/etc/slurm/$name")" != "$dir/$name" ] || rm "/etc/slurm/$name"
  done
}

case $action in
  up) up ;;
  down) down ;;
  *) echo "usage: $0 up|down DIR" >&2; exit 2 ;;
esac
