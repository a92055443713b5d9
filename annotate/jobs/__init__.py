"""Runs on a cluster that is reached through the job server of its Ray head.

    folder      what of a pipeline's folder goes to the cluster
    server      the job server: is it there, does it let us in, which versions does it run
    submission  submits a run
    running     what became of a job: its state, its log, its end

Nothing here runs a pipeline: `annotate run` does, as a job on the head.
"""

from typing import TYPE_CHECKING

from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.jobs.folder import Shipped
    from annotate.jobs.running import Job, cancel_job, find_job, job_log, list_jobs
    from annotate.jobs.server import Versions
    from annotate.jobs.submission import Submission, submit

_HOMES = {
    "Job": "annotate.jobs.running",
    "Shipped": "annotate.jobs.folder",
    "Submission": "annotate.jobs.submission",
    "Versions": "annotate.jobs.server",
    "cancel_job": "annotate.jobs.running",
    "find_job": "annotate.jobs.running",
    "job_log": "annotate.jobs.running",
    "list_jobs": "annotate.jobs.running",
    "submit": "annotate.jobs.submission",
}

__all__ = [
    "Job",
    "Shipped",
    "Submission",
    "Versions",
    "cancel_job",
    "find_job",
    "job_log",
    "list_jobs",
    "submit",
]

__getattr__ = attributes(__name__, _HOMES)
