"""A real SLURM cluster on one machine, of daemons that live as long as a `Cluster` is started."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.slurm_cluster import config
from tests.slurm_cluster.config import Place, Settings
from tests.slurm_cluster.daemons import Daemon, kill_jobs, reserve_ports
from tests.slurm_cluster.folders import new_folder, remove_orphans
from tests.slurm_cluster.programs import PATH

T = TypeVar("T")

# Names of variables that would reach the cluster from a job in which the tests themselves run.
JOB_VARIABLES = ("SLURM_", "SBATCH_", "SRUN_")


class Row(NamedTuple):
    """One line of `squeue`: a job, or an element of an array of jobs."""

    job: str  # of an array: its number, the same for all elements
    element: str  # its index in the array; "N/A" for a job that is none
    state: str
    name: str
    reason: str


class Cluster:
    """A cluster of its own, in a folder of its own; nothing outside is written or read.

    Commands find it by `environment`. It has the partitions `main` (the default), `low` and
    `high`, whose jobs preempt those in `low`; its nodes are `n1`, `n2`, ...
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        remove_orphans()
        self.folder, self._lock = new_folder()
        self.nodes = config.node_names(self.settings)
        self._sockets = reserve_ports(2 + len(self.nodes))
        slurmctld, slurmdbd, *slurmds = (held.getsockname()[1] for held in self._sockets)
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.place = Place(self.folder, user, slurmctld, slurmdbd, tuple(slurmds))
        self.slurm_conf = self.folder / "slurm.conf"
        ours = {k: v for k, v in os.environ.items() if not k.startswith(JOB_VARIABLES)}
        self.environment = {**ours, "PATH": PATH, "SLURM_CONF": str(self.slurm_conf)}
        self.daemons = self._daemons()

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    # The cluster as a whole

    def start(self) -> None:
        """Start all daemons and wait until every node is ready for jobs."""
        self._write()
        self.start_daemon("munged")
        if self.settings.accounting == "dbd":
            self._create_database()
            self.start_daemon("mariadbd")
            self.wait(self.place.database.exists, 60, "MariaDB")
            self.start_daemon("slurmdbd")
            self._wait_for_slurmdbd()
        self.start_daemon("slurmctld")
        for node in self.nodes:
            self.start_daemon(f"slurmd-{node}")
        self.wait(self.ready, 60, "all nodes")

    def stop(self) -> None:
        """End all jobs and daemons, and remove the folder."""
        if self.daemons["slurmctld"].alive():
            self._end_jobs()
        # slurmds first: they would report what is killed next, and hold what is left.
        for name in sorted(self.daemons, key=lambda name: not name.startswith("slurmd-")):
            if name not in ("mariadbd", "munged"):
                self.daemons[name].stop()
        kill_jobs(self.slurm_conf)
        for name in ("mariadbd", "munged"):
            if name in self.daemons:
                self.daemons[name].stop()
        for held in self._sockets:
            held.close()
        shutil.rmtree(self.folder)
        self._lock.close()

    def clear(self) -> None:
        """Leave no job behind, and every daemon and node up."""
        if not self.daemons["slurmctld"].alive():
            # It may have forgotten jobs that the slurmds still have, and use their numbers again.
            for node in self.nodes:
                self.kill_slurmd(node)
            kill_jobs(self.slurm_conf)
        for name in self.daemons:
            self.start_daemon(name)
        if self.settings.accounting == "dbd":
            self._wait_for_slurmdbd()
        self.wait(lambda: self._works("scontrol", "ping"), 60, "slurmctld")
        self._end_jobs()
        self.wait(lambda: not self.unfinished(), 60, "the end of all jobs")
        kill_jobs(self.slurm_conf)
        for node in self.nodes:
            if re.search("DOWN|DRAIN|FAIL", self.node(node)["State"]):
                self.node_up(node)
        self.wait(self.ready, 60, "all nodes")

    def ready(self) -> bool:
        """Whether every node would take a job; a state with a mark (`idle*`) says it does not."""
        done = self.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T")
        states = done.stdout.split()
        return done.returncode == 0 and states == ["idle"] * len(self.nodes)

    # Commands

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the cluster, whether it succeeds or not."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def output(self, *command: str) -> str:
        """What a command prints that must succeed.

        Raises:
            RuntimeError: if it does not, with what it said.
        """
        done = self.run(*command)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def submit(self, script: str, *options: str) -> str:
        """Submit lines of bash with these options of `sbatch`; its job's number."""
        log = f"--output={self.folder}/log/job-%j.out"
        # `sbatch --wrap` would run them with sh, which may hand its place to the last command.
        file = self.folder / "script"
        file.write_text(f"#!/bin/bash\n{script}\n")
        return self.output("sbatch", "--parsable", log, *options, str(file)).strip()

    def squeue(self, *options: str) -> list[Row]:
        """What SLURM still remembers: each job and element, also those that ended lately."""
        form = "--format=%F|%K|%T|%j|%r"
        command = ("squeue", "--noheader", "--array", "--all", "--states=all", form, *options)
        return [Row(*line.split("|")) for line in self.output(*command).splitlines()]

    def unfinished(self) -> list[str]:
        """The numbers of all jobs that wait, run or come to their end."""
        return sorted(set(self.output("squeue", "--noheader", "--all", "--format=%F").split()))

    def job(self, job: str) -> dict[str, str]:
        """What `scontrol` knows of a job, or of an element as `<array>_<index>`."""
        return _fields(self.output("scontrol", "--oneliner", "show", "job", job))

    def node(self, name: str) -> dict[str, str]:
        return _fields(self.output("scontrol", "--oneliner", "show", "node", name))

    def cancel(self, *jobs: str) -> None:
        self.output("scancel", *jobs)

    def signal(self, job: str, name: str, *options: str) -> None:
        """Send a signal (`USR2`) to the steps of a job; `--batch` and `--full` reach its script."""
        self.output("scancel", f"--signal={name}", *options, job)

    def requeue(self, job: str) -> None:
        """Have a job run once more from its start, as an administrator does."""
        self.output("scontrol", "requeue", job)

    # Misfortunes

    def node_down(self, name: str) -> None:
        """Give a node up: its jobs are requeued, or fail where they may not be."""
        self.output("scontrol", "update", f"nodename={name}", "state=down", "reason=test")

    def node_up(self, name: str) -> None:
        """Have a node back that was given up, drained, or lost."""
        self.start_daemon(f"slurmd-{name}")
        self.output("scontrol", "update", f"nodename={name}", "state=resume")

    def kill_slurmd(self, name: str) -> None:
        """Lose a node: its job runs on, unseen, and SLURM gives the node up after a while."""
        self.kill_daemon(f"slurmd-{name}")

    def kill_daemon(self, name: str) -> None:
        """Kill `slurmctld`, `slurmdbd`, `mariadbd`, `munged` or `slurmd-<node>`.

        slurmctld forgets what happened in the seconds before, jobs included.
        """
        self.daemons[name].kill()

    def stop_daemon(self, name: str) -> None:
        """End a daemon in good order, as for an update; commands that need it fail from then on."""
        self.daemons[name].stop()

    def start_daemon(self, name: str) -> None:
        """Start one of the daemons, unless it runs."""
        self.daemons[name].start()

    # Waiting

    def wait(self, predicate: Callable[[], T], seconds: float, what: str) -> T:
        """What ``predicate`` returns, as soon as that is true.

        Raises:
            TimeoutError: if it is not within so many seconds; with what the cluster says.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := predicate():
                return value
            time.sleep(0.1)
        raise TimeoutError(f"no {what} within {seconds} s\n{self._condition()}")

    def wait_for(self, job: str, *states: str, seconds: float = 60) -> dict[str, str]:
        """Wait until a job or an element is in one of these states; what is known of it then."""

        def seen() -> dict[str, str] | None:
            known = self.job(job)
            return known if known["JobState"] in states else None

        found = self.wait(seen, seconds, f"job {job} {' or '.join(states)}")
        assert found is not None
        return found

    def _condition(self) -> str:
        """For whoever reads a failed test: the queue, and the last errors of each daemon."""
        logs = sorted((self.folder / "log").glob("*.log"))
        errors = [
            f"{log.name}: {line}"
            for log in logs
            for line in re.findall(r".*(?:error|fatal|ERROR).*", log.read_text(errors="replace"))[
                -5:
            ]
        ]
        return "\n".join([self.run("squeue", "--all", "--array").stdout, *errors])

    # How it is made

    def _daemons(self) -> dict[str, Daemon]:
        """All daemons by name, in the order in which they start."""
        at = self.folder
        munge = [
            *("munged", "--foreground", "--num-threads=2", f"--socket={self.place.munge}"),
            *(f"--{kind}-file={at}/munge.{kind}" for kind in ("key", "pid", "seed")),
            f"--log-file={at}/log/munged.log",
        ]
        commands = {"munged": munge}
        if self.settings.accounting == "dbd":
            commands["mariadbd"] = ["mariadbd", f"--defaults-file={at}/mariadb.conf"]
            commands["slurmdbd"] = ["slurmdbd", "-D"]
        commands["slurmctld"] = ["slurmctld", "-D"]
        commands |= {f"slurmd-{name}": ["slurmd", "-D", "-N", name] for name in self.nodes}
        environment = {**self.environment, "MYSQL_UNIX_PORT": str(self.place.database)}
        return {
            name: Daemon(command, at / "log" / f"{name}.out", environment)
            for name, command in commands.items()
        }

    def _write(self) -> None:
        # munged refuses a socket that some users could not reach.
        self.folder.chmod(0o755)
        for name in ("log", "slurmctld"):
            (self.folder / name).mkdir()
        for file in config.gpu_files(self.settings, self.place):
            file.symlink_to("/dev/null")
        _write_secret(self.folder / "munge.key", os.urandom(128))
        # slurmdbd refuses a file that others may read.
        _write_secret(self.folder / "slurmdbd.conf", config.slurmdbd_conf(self.place).encode())
        self.slurm_conf.write_text(config.slurm_conf(self.settings, self.place))
        (self.folder / "gres.conf").write_text(config.gres_conf(self.settings, self.place))
        (self.folder / "mariadb.conf").write_text(config.mariadb_conf(self.place))
        (self.folder / "mariadb.sql").write_text(config.mariadb_sql())

    def _create_database(self) -> None:
        options = (
            *("--no-defaults", f"--user={self.place.user}", f"--datadir={self.folder}/mariadb"),
            *("--auth-root-authentication-method=normal", "--skip-name-resolve", "--skip-test-db"),
        )
        self.output("mariadb-install-db", *options)

    def _end_jobs(self) -> None:
        """Kill what runs, then cancel all: a task that ignores SIGTERM would cost seconds."""
        if jobs := self.unfinished():
            self.run("scancel", "--full", "--signal=KILL", *jobs)
            self.run("scancel", *jobs)

    def _wait_for_slurmdbd(self) -> None:
        self.wait(lambda: self._works("sacctmgr", "list", "cluster"), 60, "slurmdbd")

    def _works(self, *command: str) -> bool:
        return self.run(*command).returncode == 0


def _write_secret(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)


def _fields(line: str) -> dict[str, str]:
    """`A=1 B=x=2 C=two words` as a dictionary."""
    return dict(re.findall(r"(\S+?)=(.*?)(?=\s+[\w/:]+=|\s*$)", line.partition("\n")[0]))
