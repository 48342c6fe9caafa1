"""The programs of which a cluster is made, and where they come from."""

from __future__ import annotations

import os
import shutil

from tests.slurm_cluster.config import Settings

# Of Debian and its relatives.
PACKAGES = (
    "slurmctld slurmd slurm-client munge "
    "slurmdbd slurm-wlm-mysql-plugin mariadb-server-core mariadb-client-core"
)
# Daemons lie in sbin, which is not on the path of every user.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_ALWAYS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "setpriv")
_FOR_ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacct", "sacctmgr")


def missing_programs(settings: Settings) -> list[str]:
    """The programs that this cluster needs and this machine lacks."""
    needed = (*_ALWAYS, *(_FOR_ACCOUNTING if settings.accounting == "dbd" else ()))
    return [name for name in needed if shutil.which(name, path=PATH) is None]
