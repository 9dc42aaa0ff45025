"""prefect.yaml: every deployment's parameters fit its flow and can be run as they stand."""

import dataclasses
import importlib
import json
import re
from importlib import resources

import jsonschema
import pytest
import yaml
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import ValidationError, validate
from prefect.utilities.templating import apply_values
from pydantic import TypeAdapter

from editcollapse.config.spec import EvaluationSpec, StudySpec
from editcollapse.config.study_file import read_study, with_absolute_paths
from editcollapse.errors import StudyError
from editcollapse.study.plan import plan_study
from flows.__main__ import USER_ERROR
from flows.deploy.register import (
    AUTOMATIONS,
    NOTIFICATIONS,
    OVERRIDES,
    ROOT,
    ServerError,
    _block_id,
    deploy_all,
    read_deployment_file,
    register_automations,
    register_pool,
    study_inputs,
    withdraw_deployments,
)
from flows.run.outcome import COLLAPSED
from flows.run.study_form import StudyForm
from tests.support.small_study import write_toml

NAMES = (
    "collapse-study",
    "precompute-covariance",
    "reevaluate",
    "collapse-forecast",
    "collapse-anatomy",
    "tune-settings",
    "edit-sequence",
    "collapse-check",
    "judge-downstream",
)
CONTAINERS = ("docker", "kubernetes")
_FORM = TypeAdapter(StudyForm)
TERMINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


@pytest.fixture(scope="module")
def inputs():
    """Return what the build step hands to prefect.yaml, as Prefect's templates see it."""
    found = study_inputs(str(read_deployment_file().study))
    return {"inputs": json.loads(json.dumps(found))}


def _deployment(name, on="process"):
    (found,) = (
        each for each in read_deployment_file(on).content["deployments"] if each["name"] == name
    )
    return found


def test_deployments_are_those_of_the_documentation():
    """They are those of the documentation, in the same pool, one flow run at a time."""
    file = read_deployment_file()
    assert file.names == NAMES
    assert (file.pool.name, file.pool.type, file.pool.concurrency_limit) == ("gpu", "process", 1)
    assert {each["work_pool"]["name"] for each in file.content["deployments"]} == {"gpu"}
    schedules = {name: [each["cron"] for each in _deployment(name)["schedules"]] for name in NAMES}
    assert schedules == {
        "collapse-study": ["0 6 * * 1"],
        "precompute-covariance": ["0 2 * * *"],
        "reevaluate": [],
        "collapse-forecast": [],
        "collapse-anatomy": [],
        "tune-settings": [],
        "edit-sequence": [],
        "collapse-check": [],
        "judge-downstream": [],
    }


@pytest.mark.parametrize("name", NAMES)
def test_default_parameters_fit_the_flow(name, inputs):
    """The server's check of a run's parameters and the flow's own take them as they are."""
    deployment = _deployment(name)
    parameters = apply_values(deployment["parameters"], inputs)
    path, function = deployment["entrypoint"].split(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)
    assert flow.name == name  # what make deploy says to copy
    schema = parameter_schema(flow).model_dump(mode="json")
    validate(parameters, schema, raise_on_error=True, preprocess=False)
    flow.validate_parameters(parameters)
    missing = set(schema["required"]) - parameters.keys()
    assert not missing, f"the form of {name} cannot be sent as it is: {missing}"


def test_server_refuses_a_wrong_form(inputs):
    """A field that a study does not have is refused before a run is made."""
    from flows.study import collapse_study

    schema = parameter_schema(collapse_study).model_dump(mode="json")
    study = inputs["inputs"]["study"]
    for wrong in (
        study | {"batch_sise": 2},
        study | {"advanced": study["advanced"] | {"batch_sise": 2}},
    ):
        with pytest.raises(ValidationError, match="batch_sise"):
            validate({"study": wrong}, schema, raise_on_error=True, preprocess=False)


def test_parameters_are_the_study_file(inputs, tmp_path):
    """Registered parameters say what the file says, name nothing of the machine, and can be run."""
    content = inputs["inputs"]
    spec = with_absolute_paths(_FORM.validate_python(content["study"]), ROOT)
    asked = read_study(read_deployment_file().study)
    assert spec == asked
    assert str(ROOT) not in json.dumps(content)
    assert plan_study(spec, tmp_path).study_id == plan_study(asked, tmp_path).study_id
    again = EvaluationSpec.model_validate(content["evaluation"])
    assert again != asked.evaluation


def test_study_elsewhere_keeps_its_absolute_paths(study):
    """A study file outside of the project's folder is registered with paths that still hold."""
    found = _FORM.validate_python(study_inputs(str(study))["study"])
    assert found == read_study(study)


def test_every_field_of_the_form_is_described():
    """The form explains each field of a study, however deep; a table by its own first line."""
    schema = StudySpec.model_json_schema()
    tables = schema["$defs"]
    fields = {
        f"{title}.{name}": field.get("description") or _table_of(field, tables)["description"]
        for title, part in {"study": schema, **tables}.items()
        for name, field in part["properties"].items()
    }
    assert len(fields) > 30
    assert [name for name, description in fields.items() if not description] == []


def _table_of(field, tables):
    return tables[field["$ref"].rpartition("/")[2]]


def test_wrong_study_is_told_before_anything_is_registered(study):
    """Deploy reads the study first: a mistake is told whether or not a server answers."""
    wrong = write_toml(study.with_name("wrong.toml"), batch_sise=2)
    file = dataclasses.replace(read_deployment_file(), study=wrong)
    with pytest.raises(StudyError, match="unknown field `batch_sise`"):
        list(deploy_all(file))


@pytest.mark.slow
def test_deploy_without_a_server_is_explained(tmp_path):
    """Where no server answers, the sentence says how to start one."""
    from tests.support.flow_runs import run_command

    done = run_command("deploy", home=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == USER_ERROR, done.stderr
    assert "no Prefect server answers at http://127.0.0.1:9/api" in done.stderr
    assert "make server" in done.stderr
    assert "Traceback" not in done.stderr


def test_pool_is_made_once_and_corrected(backend):
    """Registered twice it is one pool; a limit that somebody changed is set right again."""
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolUpdate

    pool = read_deployment_file().pool
    with get_client(sync_client=True) as client:
        register_pool(client, pool)
        made = client.read_work_pool(pool.name)
        client.update_work_pool(pool.name, WorkPoolUpdate(concurrency_limit=7, is_paused=True))
        register_pool(client, pool)
        found = client.read_work_pool(pool.name)
        assert (found.id, found.concurrency_limit, found.is_paused) == (made.id, 1, True)
        assert sum(each.name == pool.name for each in client.read_work_pools()) == 1
        with pytest.raises(ServerError, match="is of type 'process', and 'docker' is needed"):
            register_pool(client, pool.model_copy(update={"type": "docker"}))


def test_automations_are_made_once(backend):
    """Registered twice each is one; what somebody changed is set right, a switch stays off."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        names = list(register_automations(client))
        assert len(set(names)) == 3
        for name in names:
            (made,) = client.read_automations_by_name(name)
            changed = AutomationCore.model_validate(
                made.model_dump(exclude={"id", "owner_resource"})
            )
            changed.description, changed.enabled = "something else", False
            client.update_automation(made.id, changed)
            assert list(register_automations(client)) == names
            (found,) = client.read_automations_by_name(name)
            assert (found.id, found.description) == (made.id, made.description)
            assert not found.enabled


def test_old_deployments_are_removed(backend):
    """A deployment that is ours no longer goes with its trigger; another of its name stays."""
    from prefect import flow, get_client

    @flow(name="report")
    def report():
        """Do nothing."""

    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(report)

        def registered(*tags):
            made = client.create_deployment(flow_id, "report", tags=list(tags))
            return client.read_deployment(made)

        somebody_s = registered("mine")
        assert list(withdraw_deployments(client)) == []
        assert client.read_deployment_by_name("report/report").id == somebody_s.id
        ours = registered("editcollapse")
        rule = AutomationCore.model_validate(_rules(AUTOMATIONS)[0] | {"name": "of report"})
        rule.owner_resource = f"prefect.deployment.{ours.id}"
        client.create_automation(rule)
        assert client.read_automations_by_name("of report")
        assert list(withdraw_deployments(client)) == ["report/report"]
        assert client.read_automations_by_name("of report") == []
        with pytest.raises(ObjectNotFound):
            client.read_deployment_by_name("report/report")
        assert list(withdraw_deployments(client)) == []


def test_notifications_need_a_block(backend):
    """Each is one, sends by the block that was named, and moves to another; no block is told."""
    from prefect import get_client
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    blocks = {}
    for name in ("team", "others"):
        block = CustomWebhookNotificationBlock(name=name, url="http://127.0.0.1:9/")
        blocks[name] = block.save(name)
    with get_client(sync_client=True) as client:
        for name, block_id in blocks.items():
            assert _block_id(client, f"custom-webhook/{name}") == block_id
            names = list(register_automations(client, NOTIFICATIONS, block_id))
            assert len(set(names)) == 2
            for each in names:
                (made,) = client.read_automations_by_name(each)
                assert [action.block_document_id for action in made.actions] == [block_id]
        with pytest.raises(ServerError, match=r"no block 'slack-webhook/team'.*Slack Webhook"):
            _block_id(client, "slack-webhook/team")


def _rules(file):
    return yaml.safe_load(file.read_text(encoding="utf-8"))["automations"]


def test_notifications_know_every_flow_of_ours():
    """The one waits for the ends of all our flows, the other for the event that a study emits."""
    failed, collapsed = (rule["trigger"] for rule in _rules(NOTIFICATIONS))
    named = failed["match_related"]["prefect.resource.name"]
    assert set(failed["expect"]) == {
        f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")
    }
    texts = (path.read_text("utf-8") for path in (ROOT / "flows").glob("*.py"))
    flows = [name for text in texts for name in re.findall(r'@flow\(\n    name="([a-z-]+)"', text)]
    assert sorted(flows) == sorted(named)
    assert set(NAMES) < set(named)
    assert collapsed["expect"] == [COLLAPSED]


def test_automations_know_every_pool_and_every_state():
    """Each pool has one rule for runs that do not start; each state of Prefect's is looked at."""
    silent, *unstarted = (rule["trigger"] for rule in _rules(AUTOMATIONS))
    pools = [rule["match_related"]["prefect.resource.name"] for rule in unstarted]
    named = [name for each in pools for name in ([each] if isinstance(each, str) else each)]
    assert named == [read_deployment_file(on).pool.name for on in ("process", *CONTAINERS)]
    ends = {event for event in silent["expect"] if not event.endswith("heartbeat")}
    assert {f"prefect.flow-run.{state.capitalize()}" for state in TERMINAL} <= ends
    for rule in unstarted:
        assert ends <= set(rule["expect"])
        assert not set(rule["after"]) & set(rule["expect"])


@pytest.mark.parametrize("on", CONTAINERS)
def test_job_variables_fit_the_pool(on, backend):
    """Each variable is one that the pool's template knows, of its type; a server takes the pool."""
    from prefect import get_client

    file = read_deployment_file(on)
    template = json.loads((OVERRIDES / file.pool.base_job_template).read_text(encoding="utf-8"))
    for name in NAMES:
        variables = _deployment(name, on)["work_pool"]["job_variables"]
        assert (
            variables["env"].keys() > _deployment(name)["work_pool"]["job_variables"]["env"].keys()
        )
        assert variables.keys() <= template["variables"]["properties"].keys()
        jsonschema.validate(variables, template["variables"])
    with get_client(sync_client=True) as client:
        register_pool(client, file.pool)
        assert client.read_work_pool(file.pool.name).base_job_template == template


@pytest.mark.parametrize("on", CONTAINERS)
def test_pool_template_is_prefects_own_and_more(on):
    """Nothing of Prefect's template is lost, and every placeholder of ours has its variable."""
    own = json.loads((OVERRIDES / f"{on}-pool.json").read_text(encoding="utf-8"))
    shipped = _shipped()[f"prefect-{on}"][on]["default_base_job_configuration"]
    unknown = shipped["variables"]["properties"].keys() - own["variables"]["properties"].keys()
    assert unknown <= {"container_wait_timeout"}  # newer than the release that the file is of
    placeholders = set(re.findall(r"{{ (\w+) }}", json.dumps(own["job_configuration"])))
    assert placeholders == own["variables"]["properties"].keys()


def test_container_runs_ask_for_a_gpu():
    """Resolved as a worker does it, a job has a GPU, a volume for results, and our environment."""
    for on in CONTAINERS:
        file = read_deployment_file(on)
        template = json.loads((OVERRIDES / f"{on}-pool.json").read_text(encoding="utf-8"))
        defaults = {
            name: field["default"]
            for name, field in template["variables"]["properties"].items()
            if field.get("default") is not None
        }
        variables = defaults | _deployment("collapse-study", on)["work_pool"]["job_variables"]
        job = apply_values(template["job_configuration"], variables)
        assert job["env"]["HF_HOME"] == "/data/hub"
        assert job["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
        assert str(file.results).startswith("/data/")
        if on == "docker":
            (request,) = job["container_create_kwargs"]["device_requests"]
            assert request["capabilities"] == [["gpu"]]
            assert [each.split(":")[1] for each in job["volumes"]] == ["/data"]
        else:
            pod = job["job_manifest"]["spec"]["template"]["spec"]
            assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
            assert pod["containers"][0]["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]


def test_unknown_override_is_explained():
    """A kind of pool without a file is refused by the file's name."""
    with pytest.raises(StudyError, match=r"nomad.yaml cannot be read as YAML: .*No such file"):
        read_deployment_file("nomad")


def _shipped():
    """Return the templates of all worker types that Prefect ships."""
    import prefect

    path = "server/api/collections_data/views/aggregate-worker-metadata.json"
    return json.loads((resources.files(prefect) / path).read_text(encoding="utf-8"))


def test_compose_opens_no_port_to_others():
    """Ports of compose.yaml are of this machine alone; its services are those of the Procfile."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    ports = [port for each in services.values() for port in each.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert services.keys() == {"server", "worker", "reports"}
    own = [line.split(":")[0] for line in (ROOT / "Procfile").read_text("utf-8").splitlines()]
    assert own == list(services)
