"""The part of a study file that says what to do with edits that the forecast warns of."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from editcollapse.spec_parts import MethodName, Spec

Policy = Literal["refuse", "switch", "prefix"]
ActsAt = Literal["at risk", "will collapse"]
_Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class GuardSpec(Spec):
    """What is done with an edit whose forecast says that it is at risk, before it is made."""

    policy: Policy
    """`refuse`: it is not made. `switch`: another method makes it. `prefix`: it is made with a
    context template's text before its prompt. Where no method, or no text, is safe, it is
    refused."""
    acts_at: ActsAt = "at risk"
    """Verdict from which on the guard acts."""
    at_risk_at: _Bound | None = None
    """Change bound from which on an edit is at risk. Where left out, with `collapse_at`, the newest
    calibration of the model in the results folder counts, or the default where there is none;
    another calibration makes another study."""
    collapse_at: _Bound | None = None
    """Change bound from which on an edit will collapse."""
    switch_to: tuple[MethodName, ...] | None = None
    """With `switch`: the methods to take instead, the first that is safe; where left out c_rome,
    v_relative, p_rome."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "GuardSpec":
        if (self.at_risk_at is None) != (self.collapse_at is None):
            raise ValueError("give both `at_risk_at` and `collapse_at`, or neither")
        if (self.collapse_at or 0) < (self.at_risk_at or 0):
            raise ValueError(
                f"`collapse_at` {self.collapse_at:g} is below `at_risk_at` {self.at_risk_at:g}; an "
                "edit that will collapse is at risk as well"
            )
        if self.switch_to is not None:
            if self.policy != "switch":
                raise ValueError(
                    f'`switch_to` is for policy "switch", and the policy is "{self.policy}"; '
                    "leave it out"
                )
            if not self.switch_to or len(set(self.switch_to)) != len(self.switch_to):
                raise ValueError(
                    f"`switch_to` must be distinct methods and at least one, got {self.switch_to}"
                )
        return self
