"""The library's front door: an ``Editor`` of one model, and what each edited model does.

    editor = Editor("openai-community/gpt2-xl", covariance="statistics.npz")
    edit = editor.edit("{} plays the sport of", subject="Pele", target="tennis", method="rome")
    edit.forecast.verdict, edit.denominator, edit.perplexity_ratio(texts), edit.generate("Pele is")

The numbers are those of a study's units. Arguments are checked when they are given; what they need
is loaded, measured and optimised when it is first asked for. What schedules and stores is not here.
"""

from editcollapse.api.edited_model import EditedModel
from editcollapse.api.editor import Editor, forecast_edit
from editcollapse.api.inputs import load_model, read_requests
from editcollapse.api.joint_edit import JointEdit
from editcollapse.api.rank_one_edit import Edit
from editcollapse.catalog.editors import EDITORS
from editcollapse.catalog.methods import METHODS
from editcollapse.config.sequence import EditorSpec
from editcollapse.data.datasets import edit_request
from editcollapse.data.requests import EditRequest
from editcollapse.forecast.verdicts import EditForecast

__all__ = [
    "EDITORS",
    "METHODS",
    "Edit",
    "EditForecast",
    "EditRequest",
    "EditedModel",
    "Editor",
    "EditorSpec",
    "JointEdit",
    "edit_request",
    "forecast_edit",
    "load_model",
    "read_requests",
]
