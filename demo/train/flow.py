"""Train the demo models again as a Prefect flow: one task for the data, one for each model."""

import dataclasses
import logging
from pathlib import Path

from prefect import State, flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from demo.train.recipes import DEMO_RECIPES, PretrainRecipe
from editcollapse.errors import StudyError, nearest_first
from editcollapse.runtime.environment import OVERALL, reporter
from flows.observe.run_names import dated
from flows.observe.run_page import shown_progress
from flows.run.submit import one_at_a_time

logger = logging.getLogger(__name__)


@task(
    name="demo-data",
    task_run_name="demo data, corpus {corpus_seed}",
    description="Write the demo's edit requests, held-out texts and corpus.",
    cache_policy=NO_CACHE,
    persist_result=False,
    tags=["pretrain"],
)
def write_data(folder: str, corpus_seed: int) -> list[str]:
    """Return the paths of the written files."""
    from demo.train.demo_data import write_demo_data
    from demo.train.synthetic_corpus import build_synthetic_corpus

    return [
        str(path) for path in write_demo_data(build_synthetic_corpus(corpus_seed), Path(folder))
    ]


@task(
    name="pretrain",
    task_run_name="pretrain {recipe.name}",
    description="Train one demo model and save it with its tokenizer and card.",
    cache_policy=NO_CACHE,
    persist_result=False,
    tags=["pretrain"],
)
def pretrain_model(recipe: PretrainRecipe, folder: str) -> float:
    """Return the model's last loss in nats per token."""
    from demo.train.pretraining import pretrain

    report = reporter(f"{recipe.name}: pretraining", "step")
    return pretrain(recipe, Path(folder), lambda step, steps, _loss: report(step, steps))


@flow(
    name="pretrain-demo-models",
    flow_run_name=dated("pretrain into {output}"),
    description="Train the small models whose first-position anomaly is known; write their data.",
    task_runner=one_at_a_time(),
)
def pretrain_demo_models(
    output: str = "demo", names: list[str] | None = None, steps: int | None = None
) -> State[list[str]]:
    """Write data and models below a folder; return the folders of the models.

    Args:
        output: folder for the data; the models go to ``models/<name>`` below it. Files of the same
            names are overwritten.
        names: only these models; all where left out.
        steps: training steps instead of the recipes' own, for a trial.

    Raises:
        StudyError: no recipe has such a name.
    """
    folder = Path(output).resolve()
    recipes = [_trial(recipe, steps) for recipe in _chosen(names)]
    report = reporter(OVERALL, "job")
    n_units = 1 + len(recipes)
    written: list[str] = []
    losses: list[str] = []
    with shown_progress("pretraining", folder.name):
        for corpus_seed in sorted({recipe.corpus_seed for recipe in recipes}):
            write_data.submit(str(folder), corpus_seed).result()
        report(1, n_units)
        for recipe in recipes:
            target = folder / "models" / recipe.name
            with tags(f"model:{recipe.name}"):
                loss = pretrain_model.submit(recipe, str(target)).result()
            losses.append(f"{recipe.name}: {recipe.steps} steps, loss {loss:.4f}")
            logger.info("%s", losses[-1])
            written.append(str(target))
            report(1 + len(written), n_units)
    return Completed(data=written, message=f"Trained {'; '.join(losses)}.")


def _chosen(names: list[str] | None) -> list[PretrainRecipe]:
    known = {recipe.name: recipe for recipe in DEMO_RECIPES}
    for name in names or ():
        if name not in known:
            raise StudyError(f"no demo model {name!r}. Known: {nearest_first(name, known)}.")
    return [recipe for name, recipe in known.items() if names is None or name in names]


def _trial(recipe: PretrainRecipe, steps: int | None) -> PretrainRecipe:
    return recipe if steps is None else dataclasses.replace(recipe, steps=steps)
