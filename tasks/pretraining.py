"""The tasks that make the demo: one for the data, one for each model.

They are never cached. What they write are the files of a folder that belongs to nobody's results,
and whoever calls them asks to train again.
"""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from editcollapse.progress import reporter
from editcollapse.recipes import PretrainRecipe


@task(
    name="demo-data",
    task_run_name="demo data, world {world_seed}",
    description="Write the demo's edit requests, held-out texts and corpus.",
    cache_policy=NO_CACHE,
    persist_result=False,
    tags=["pretrain"],
)
def write_data(folder: str, world_seed: int) -> list[str]:
    """Return the paths of the written files."""
    from editcollapse.demo_data import write_demo_data
    from editcollapse.world import build_world

    return [str(path) for path in write_demo_data(build_world(world_seed), Path(folder))]


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
    from editcollapse.pretraining import pretrain

    report = reporter(f"pretrain {recipe.name}")
    return pretrain(recipe, Path(folder), lambda step, steps, _loss: report(step, steps))
