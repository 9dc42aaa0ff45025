"""The job of a check: an edited model beside the one that it was made from."""

from editcollapse.config.check import CheckSpec
from editcollapse.fingerprints import unit_key
from editcollapse.judging.inputs import CheckInputs
from editcollapse.study.jobs import Job


class CheckJob(Job):
    """Compare two models, and measure both."""

    spec: CheckSpec
    """With absolute paths; no part of the key."""
    check_id: str
    """Of the content of all inputs."""
    label: str
    """For people; no part of the key."""

    @classmethod
    def of(cls, inputs: CheckInputs, results: str) -> "CheckJob":
        """Return the job of a check."""
        return cls(results=results, spec=inputs.spec, check_id=inputs.check_id, label=inputs.name)

    @property
    def key(self) -> str:
        """Cache key of the job; names and the rule of collapse are no part of it."""
        return unit_key("check", self.check_id)
