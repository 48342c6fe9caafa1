"""A cluster of a few lines of shell: its commands answer what SLURM 22.05 does."""

from __future__ import annotations

from pathlib import Path

# Numbers jobs from 101 on, queues what it takes, and takes nothing from the call ``refused_from``.
_SBATCH = """#!/bin/bash
cd "{folder}"
calls=$(($(cat calls) + 1)); echo $calls > calls
if [ $calls -ge $(cat refused_from) ]; then cat refusal >&2; exit 1; fi
cp "$1" script_$calls.sh
name=$(sed -n 's/^#SBATCH --job-name=//p' "$1")
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
for index in $(if [ -n "$last" ]; then seq 0 $last; else echo N/A; fi); do
    echo "$name|$((100 + calls))|$index|PENDING|Priority" >> squeue.says
done
echo "Submitted batch job $((100 + calls))"
"""
_ANSWER = """#!/bin/bash
cd "{folder}"
echo "$@" >> {program}.calls
cat {program}.error >&2
cat {program}.says
exit $(cat {program}.code)
"""
NEVER = 10**6


class FakeCluster:
    """``squeue``, ``sacct``, ``scontrol``, ``sbatch`` and ``srun`` in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir(parents=True)
        for program in ("squeue", "sacct", "scontrol"):
            self._install(program, _ANSWER.format(folder=folder, program=program))
            self.says(program, "")
        self.says("scontrol", "ClusterName = test\nMaxArraySize            = 1001\n")
        self._install("sbatch", _SBATCH.format(folder=folder))
        self._install("srun", "#!/bin/bash\nexit 1\n")
        (folder / "calls").write_text("0")
        self.refuses(NEVER, "")

    def says(self, program: str, text: str, code: int = 0, error: str = "") -> None:
        """From now on ``program`` prints ``text``, ``error`` beside it, and ends with ``code``."""
        (self._folder / f"{program}.says").write_text(text)
        (self._folder / f"{program}.error").write_text(error)
        (self._folder / f"{program}.code").write_text(str(code))

    def refuses(self, call: int, reason: str) -> None:
        """From its so manieth ``call`` on sbatch says ``reason`` and takes nothing."""
        (self._folder / "refused_from").write_text(str(call))
        (self._folder / "refusal").write_text(reason)

    def lacks(self, program: str) -> None:
        """There is no such program."""
        (self.programs / program).unlink()

    def calls(self, program: str) -> list[str]:
        """The arguments of all calls of ``program``."""
        path = self._folder / f"{program}.calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def queue(self) -> str:
        """What squeue says."""
        return (self._folder / "squeue.says").read_text()

    @property
    def scripts(self) -> list[str]:
        """What sbatch has taken, in order."""
        paths = self._folder.glob("script_*.sh")
        return [path.read_text() for path in sorted(paths, key=lambda p: int(p.stem[7:]))]

    def _install(self, program: str, text: str) -> None:
        (self.programs / program).write_text(text)
        (self.programs / program).chmod(0o755)
