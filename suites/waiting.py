"""The jobs of a plan that wait: for the stages that they need, or for their turn."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from suites.plan import Job


class Waiting:
    """Jobs that wait, by key. Each start, end and failure costs the same, however many there are.

    One that is ready comes before those that stand behind it in the plan.
    """

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        """``jobs``: by key, in the order of the plan; what they need besides is finished."""
        self._jobs = dict(jobs)
        self._place = {key: place for place, key in enumerate(jobs)}
        self._unmet = {key: set(job.needs) & jobs.keys() for key, job in jobs.items()}
        self._users: dict[str, list[str]] = {}
        for key, unmet in self._unmet.items():
            for need in unmet:
                self._users.setdefault(need, []).append(key)
        self._ready = [place for key, place in self._place.items() if not self._unmet[key]]
        self._keys = list(jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def pop_ready(self) -> Job | None:
        """Take out the first job whose stages are finished; None where there is none."""
        while self._ready:
            # A signal may have taken out all.
            if (job := self._jobs.pop(self._keys[heapq.heappop(self._ready)], None)) is not None:
                return job
        return None

    def finished(self, key: str) -> None:
        """The job ``key`` is finished: what waited for nothing else is ready."""
        for user in self._users.get(key, ()):
            self._unmet[user].discard(key)
            if not self._unmet[user]:
                heapq.heappush(self._ready, self._place[user])

    def put_back(self, job: Job) -> None:
        """Have ``job``, which was ready, wait for its turn once more."""
        self._jobs[job.key] = job
        heapq.heappush(self._ready, self._place[job.key])

    def pop_users(self, key: str) -> list[Job]:
        """Take out the jobs that need ``key``."""
        users = [user for user in self._users.get(key, ()) if user in self._jobs]
        return [self._jobs.pop(user) for user in users]

    def clear(self) -> None:
        """Take out all jobs."""
        self._jobs.clear()
