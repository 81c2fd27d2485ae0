"""The manifests, by Kubernetes' own schemas and by what they promise of each other. check-fleet runs it."""

import copy
import pathlib
import sys

import kubernetes_validate
import yaml

folder, versions = pathlib.Path(sys.argv[1]), sys.argv[2:]
documents = [
    (path.name, document)
    for path in sorted(folder.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]


def jobs():
    for name, document in documents:
        if document["kind"] == "Job":
            yield name, document["spec"]
        if document["kind"] == "CronJob":
            yield name, document["spec"]["jobTemplate"]["spec"]


def seconds(duration):
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def promises(job):
    """What no schema says, and what a pod would be refused or killed for; `AssertionError` if it does not hold."""
    pod = job["template"]["spec"]
    (runner,) = pod["containers"]
    environment = {one["name"]: one["value"] for one in runner["env"]}
    assert pod["restartPolicy"] == "Never", "podFailurePolicy takes only Never"
    assert pod["automountServiceAccountToken"] is False, "a job could speak to the cluster"
    assert pod["terminationGracePeriodSeconds"] >= seconds(environment["RUNUP_DRAIN"]) + 90, "killed while it drains"
    assert "--ephemeral" in runner["args"], "a runner that stays in a pod that goes"
    assert "RUNUP_TOKEN" not in environment, "a token is a file"
    (rule,) = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert {64, 77, 78, 80} <= set(rule["onExitCodes"]["values"]), "what no other pod does better"
    assert not {0, 75} & set(rule["onExitCodes"]["values"]), "what another pod does better"
    assert rule["onExitCodes"]["containerName"] == runner["name"]
    security = pod["securityContext"]
    assert security["runAsNonRoot"] and security["runAsUser"] > 0
    assert security["seccompProfile"]["type"] == "RuntimeDefault"
    for container in pod["initContainers"] + pod["containers"]:
        confined = container["securityContext"]
        assert confined["capabilities"]["drop"] == ["ALL"] and not confined["allowPrivilegeEscalation"]
        assert confined["readOnlyRootFilesystem"]
        assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    token = volumes["token"]["secret"]
    # The kubelet gives the file to root and the pod's group: 0400 could not be read by a user who is not root.
    assert token["defaultMode"] == 0o440 and security["fsGroup"] == security["runAsGroup"]
    (mount,) = [mount for mount in runner["volumeMounts"] if mount["name"] == "token"]
    assert environment["RUNUP_TOKEN_FILE"].startswith(mount["mountPath"] + "/")
    used = {mount["name"] for container in pod["initContainers"] + pod["containers"] for mount in container["volumeMounts"]}
    assert used == set(volumes), "a volume that nobody mounts, or that is not there"


def changed(job, change):
    job = copy.deepcopy(job)
    change(job, job["template"]["spec"])
    return job


def refused(check, what):
    try:
        check()
    except (AssertionError, kubernetes_validate.ValidationError):
        return
    sys.exit(f"NOT AS IT SHOULD BE: {what} was not refused")


templates = []
for name, job in jobs():
    promises(job)
    templates.append(job["template"])
    for what, change in {
        "a pod that is killed while it drains": lambda job, pod: pod.update(terminationGracePeriodSeconds=30),
        "a pod with the cluster's token": lambda job, pod: pod.update(automountServiceAccountToken=True),
        "a token that all can read": lambda job, pod: pod["volumes"][2]["secret"].update(defaultMode=0o444),
        "a pod that is started again in its place": lambda job, pod: pod.update(restartPolicy="OnFailure"),
        "trying again that ends the job": lambda job, pod: job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"].append(75),
    }.items():
        refused(lambda: promises(changed(job, change)), f"{name}: {what}")
assert len(templates) == 2 and templates[0] == templates[1], "job.yaml and pool.yaml have different pods"

for version in versions:
    for name, document in documents:
        kubernetes_validate.validate(document, version, strict=True)
    broken = [
        ("an unknown field", lambda job, pod: pod.update(terminationGracePeriod=1)),
        ("a number that is text", lambda job, pod: pod.update(terminationGracePeriodSeconds="long")),
        ("capabilities as text", lambda job, pod: pod["containers"][0]["securityContext"]["capabilities"].update(drop="ALL")),
        ("a job without a template", lambda job, pod: job.pop("template")),
        ("a rule without an action", lambda job, pod: job["podFailurePolicy"]["rules"][0].pop("action")),
        ("a volume without a name", lambda job, pod: pod["volumes"][0].pop("name")),
    ]
    (job,) = [document for _, document in documents if document["kind"] == "Job"]
    for what, change in broken:
        document = {**job, "spec": changed(job["spec"], change)}
        refused(lambda: kubernetes_validate.validate(document, version, strict=True), f"{version}: {what}")
print(f"{len(documents)} documents, Kubernetes {' and '.join(versions)}, {len(broken)} broken ones refused by each")
