"""What the daemons of the test cluster read: their configuration, as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """The size of a cluster, and what differs between one and another."""

    nodes: int = 4
    cpus: int = 4  # of each node; they need not exist
    gpus: int = 2  # of each node; they do nothing
    memory: int = 64_000  # of each node, in MB; it need not exist either
    # dbd: slurmdbd with MariaDB behind it, as clusters have it. none: `sacct` does not work.
    accounting: Literal["dbd", "none"] = "dbd"
    # So small that tests see how a longer array is cut.
    max_array_size: int = 13
    # What a preempted job in the partition `low` has to end by itself, in seconds.
    grace: int = 10
    # Further lines of slurm.conf.
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a cluster lives: all its files in one folder, its daemons on these ports."""

    folder: Path
    user: str
    slurmctld: int
    slurmdbd: int
    slurmds: tuple[int, ...]

    @property
    def munge(self) -> Path:
        return self.folder / "munge.socket"

    @property
    def database(self) -> Path:
        return self.folder / "mariadb.socket"


def slurm_conf(settings: Settings, place: Place) -> str:
    """The configuration of slurmctld, the slurmds and all commands (SLURM 22.05)."""
    lines = [
        *_identity(place),
        *_no_cgroups(),
        *_schedule(settings),
        *_quick_ends(),
        *_preemption(settings),
        *_accounting(settings, place),
        *_nodes(settings, place),
        *settings.more,
    ]
    return "\n".join(lines) + "\n"


def _identity(place: Place) -> list[str]:
    folder = place.folder
    return [
        "ClusterName=test",
        "SlurmctldHost=localhost",
        f"SlurmctldPort={place.slurmctld}",
        # All daemons run as whoever runs the tests, root or not.
        f"SlurmUser={place.user}",
        f"SlurmdUser={place.user}",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        # A requeued job starts again only once its old credential has expired: after 120 s, if
        # nothing is said; SLURM takes no less than 5 s.
        f"AuthInfo=socket={place.munge},cred_expire=5",
        f"StateSaveLocation={folder}/slurmctld",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        # %n is the node: there are many on one machine.
        f"SlurmdSpoolDir={folder}/slurmd-%n",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        f"SlurmdLogFile={folder}/log/slurmd-%n.log",
        "MailProg=/bin/true",
    ]


def _no_cgroups() -> list[str]:
    """Processes are found and measured through /proc: cgroups need root, and often systemd."""
    return [
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "JobAcctGatherType=jobacct_gather/linux",
        # A job that uses more memory than it asked for is killed at the next look, every 2 s.
        "JobAcctGatherFrequency=task=2",
        "JobAcctGatherParams=OverMemoryKill",
    ]


def _schedule(settings: Settings) -> list[str]:
    return [
        # The one that knows --gpus and its relatives, and packs several jobs on a node.
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "DefMemPerCPU=100",
        "SchedulerType=sched/backfill",
        # The defaults wait up to 3, 60 and 30 s before they look for what could start.
        "SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2",
        f"MaxArraySize={settings.max_array_size}",
    ]


def _quick_ends() -> list[str]:
    return [
        # From SIGTERM to SIGKILL; slurmd takes at least 5 s.
        "KillWait=5",
        # A silent node is DOWN about twice as long after its slurmd died.
        "SlurmdTimeout=10",
        # That node comes back by itself; one that was set DOWN stays so until it is resumed.
        "ReturnToService=1",
        "JobRequeue=1",
    ]


def _preemption(settings: Settings) -> list[str]:
    """A job in `high` ends one in `low`, which gets its `--signal` first and is requeued."""
    low = f"PriorityTier=1 PreemptMode=REQUEUE GraceTime={settings.grace}"
    return [
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        # Else a preempted job gets SIGTERM alone, and its `--signal` only before its time limit.
        "SlurmctldParameters=preempt_send_user_signal",
        "PartitionName=main Nodes=ALL Default=YES PriorityTier=10 PreemptMode=OFF",
        f"PartitionName=low Nodes=ALL {low}",
        "PartitionName=high Nodes=ALL PriorityTier=100 PreemptMode=OFF",
    ]


def _accounting(settings: Settings, place: Place) -> list[str]:
    if settings.accounting == "none":
        return ["AccountingStorageType=accounting_storage/none"]
    return [
        "AccountingStorageType=accounting_storage/slurmdbd",
        "AccountingStorageHost=localhost",
        f"AccountingStoragePort={place.slurmdbd}",
        # For slurmdbd the "password" is the socket of the munge to use.
        f"AccountingStoragePass={place.munge}",
        "AccountingStorageTRES=gres/gpu",
    ]


def node_names(settings: Settings) -> list[str]:
    return [f"n{number}" for number in range(1, settings.nodes + 1)]


def _nodes(settings: Settings, place: Place) -> list[str]:
    gpus = f" Gres=gpu:{settings.gpus}" if settings.gpus else ""
    size = f"CPUs={settings.cpus} RealMemory={settings.memory}{gpus}"
    return [
        *(["GresTypes=gpu"] if settings.gpus else []),
        # The sizes below count, not those of this machine.
        "SlurmdParameters=config_overrides",
        # One slurmd for each node, all on this machine, told apart by their ports.
        *(
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} {size}"
            for name, port in zip(node_names(settings), place.slurmds, strict=True)
        ),
    ]


def gpu_files(settings: Settings, place: Place) -> list[Path]:
    """The devices that stand for GPUs; the caller makes them links to /dev/null.

    SLURM allots a GPU (and sets CUDA_VISIBLE_DEVICES) only if its file is a character device.
    """
    return [place.folder / f"gpu{number}" for number in range(settings.gpus)]


def gres_conf(settings: Settings, place: Place) -> str:
    files = ",".join(map(str, gpu_files(settings, place)))
    lines = [f"NodeName={n} Name=gpu File={files}" for n in node_names(settings) if files]
    # Nothing is asked of the machine's own GPUs, if it has any.
    return "\n".join(["AutoDetect=off", *lines]) + "\n"


def slurmdbd_conf(place: Place) -> str:
    return f"""\
AuthType=auth/munge
AuthInfo={place.munge}
DbdHost=localhost
DbdPort={place.slurmdbd}
SlurmUser={place.user}
LogFile={place.folder}/log/slurmdbd.log
PidFile={place.folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
# Reached over the socket in $MYSQL_UNIX_PORT: no port, no password.
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm
# Rows are written at once, not each second.
CommitDelay=0
"""


def mariadb_conf(place: Place) -> str:
    return f"""\
[mariadbd]
user={place.user}
datadir={place.folder}/mariadb
socket={place.database}
pid-file={place.folder}/mariadb.pid
log-error={place.folder}/log/mariadbd.log
init-file={place.folder}/mariadb.sql
skip-networking
skip-name-resolve
# slurmdbd warns below these; the files stay small all the same.
innodb_buffer_pool_size=64M
innodb_log_file_size=16M
innodb_lock_wait_timeout=900
# Nothing here has to survive a crash of the machine.
innodb_flush_log_at_trx_commit=0
innodb_doublewrite=0
performance_schema=OFF
"""


def mariadb_sql() -> str:
    """What the database does when it starts: let slurmdbd in."""
    return """\
CREATE USER IF NOT EXISTS slurm@localhost;
GRANT ALL ON slurm.* TO slurm@localhost;
"""
