"""
A Slurm on this machine: its own munge, controller and node daemons, folders and ports; needs root.

One node of two cores has the partitions `low` and `high`. Two of one core are the partition `two`, `first` before
`second`; a node does not begin a job if a file of its name lies in the folder `sick`, which its prolog takes away.

All else is as Slurm has it unless somebody says otherwise, but that a job which is queued again waits 60 s and not 120
(`cred_expire`), that the queue is looked at every second, and that a node is missed after 10 s. The wait must be longer
than `KillWait`: a node on which a job still ends does not take it once more.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
_CONFIGURATION = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=60
CryptoType=crypto/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
Prolog={folder}/prolog
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=30
MinJobAge=60
JobRequeue=1
OverTimeLimit=0
NodeName={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=2000 State=UNKNOWN
NodeName=first NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=2000 Weight=1 State=UNKNOWN
NodeName=second NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=1 RealMemory=2000 Weight=2 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=high Nodes={host} MaxTime=60 PriorityTier=9 PreemptMode=OFF State=UP
PartitionName=two Nodes=first,second MaxTime=60 State=UP
"""
_PROLOG = """#!/bin/sh
! rm "{folder}/sick/$SLURMD_NODENAME" 2>/dev/null
"""


def missing() -> list[str]:
    """Programs of Slurm that are not on this machine."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Node:
    """A Slurm that runs."""

    folder: Path
    environment: dict[str, str]

    def ask(self, *words: str, script: str | None = None) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(
            words, env=os.environ | self.environment, input=script, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def sicken(self, name: str) -> None:
        """Let a node begin no job, once: Slurm holds the job and takes the node out of use."""
        (self.folder / "sick" / name).touch()

    def heal(self, name: str) -> None:
        """Take a node into use again."""
        if "drained" in self.ask("sinfo", "--noheader", f"--nodes={name}", "--format", "%T"):
            self.ask("scontrol", "update", f"nodename={name}", "state=resume")

    def jobs(self) -> dict[str, str]:
        """States of the jobs that wait or run, by task."""
        lines = self.ask("squeue", "--noheader", "--array", "--format", "%i %T").split("\n")
        return dict(line.split() for line in lines if line.strip())


@contextmanager
def node(folder: Path) -> Iterator[Node]:
    """A Slurm with its files below a folder (a short path: sockets lie there), whose daemons end with the block."""
    for name in ("state", "sick"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    host, ports = socket.gethostname().split(".")[0], [_free_port() for _ in range(4)]
    (folder / "prolog").write_text(_PROLOG.format(folder=folder))
    (folder / "prolog").chmod(0o755)
    configuration = folder / "slurm.conf"
    configuration.write_text(_CONFIGURATION.format(host=host, ports=ports, folder=folder, user=getpass.getuser()))
    environment = {"SLURM_CONF": str(configuration), "PATH": _path()}
    subprocess.run(["mungekey", "--create", f"--keyfile={folder}/key"], env=os.environ | environment, check=True)
    with ExitStack() as stack:

        def start(*words: str) -> None:
            log = stack.enter_context((folder / f"{words[0]}.out").open("ab"))
            daemon = subprocess.Popen(
                words, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(_end, daemon)

        start(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={folder}/key",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed",
        )
        _until((folder / "munge.socket").exists, folder)
        start("slurmctld", "-D", "-c")
        for name in (host, "first", "second"):
            start("slurmd", "-D", "-c", "-N", name)
        here = Node(folder, environment)
        _until(lambda: set(_quiet(here, "sinfo", "--noheader", "--format", "%t").split()) == {"idle"}, folder)
        yield here
        _quiet(here, "scancel", "--user", getpass.getuser())
        time.sleep(1)


def _quiet(here: Node, *words: str) -> str:
    done = subprocess.run(words, env=os.environ | here.environment, capture_output=True, text=True, check=False)
    return done.stdout


def _until(holds, folder: Path) -> None:
    end = time.monotonic() + 60
    while not holds():
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
        assert time.monotonic() < end, logs
        time.sleep(0.2)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    os.killpg(daemon.pid, signal.SIGTERM)
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]
