"""What the parts of a study file have in common: their base, and the words of several fields."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MethodName = Literal["rome", "c_rome", "r_rome", "p_rome", "v_relative"]
DtypeName = Literal["float32", "bfloat16", "float16", "float64"]
Count = Annotated[int, Field(ge=1)]


class Spec(BaseModel):
    """Base of every spec: immutable, and a name that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
