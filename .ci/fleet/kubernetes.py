"""Checks the manifests against Kubernetes' schemas, and their consistency. check-fleet runs it."""

import copy
import pathlib
import sys

import kubernetes_validate
import yaml

directory, versions = pathlib.Path(sys.argv[1]), sys.argv[2:]
documents = [
    (path.name, document)
    for path in sorted(directory.glob("*.yaml"))
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


def names(container, key):
    return {one["name"] for one in container.get(key, [])}


def values(container):
    return {one["name"]: one["value"] for one in container["env"]}


def place(pod, container, path):
    """The volume that a container has at a file's path, and how it is mounted."""
    (mount,) = [mount for mount in container["volumeMounts"] if path.startswith(mount["mountPath"] + "/")]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
    return volume, mount


def promises(job):
    """What no schema checks, and what a pod would be rejected or killed for. Raises `AssertionError`."""
    pod = job["template"]["spec"]
    (runner,) = pod["containers"]
    inits = pod["initContainers"]
    order = [container["name"] for container in inits]
    by_name = {container["name"]: container for container in inits}
    create, delete = by_name["create"], by_name["delete"]
    assert pod["restartPolicy"] == "Never", "podFailurePolicy needs Never"
    assert pod["automountServiceAccountToken"] is False, "a job could use the cluster's API"
    environment = values(runner)
    assert pod["terminationGracePeriodSeconds"] >= seconds(environment["RUNUP_DRAIN"]) + 90, "killed while it drains"

    # Jobs cannot reach the token: in a file, a variable, a process that they see, or as their user.
    security = pod["securityContext"]
    secrets = {volume["name"] for volume in pod["volumes"] if "secret" in volume}
    holders = [container for container in inits + [runner] if names(container, "volumeMounts") & secrets]
    assert holders == [delete, create], "the token is where it is not needed"
    assert not any("TOKEN" in name for name in environment), "a runner with a token"
    assert all("valueFrom" not in one for container in inits + [runner] for one in container.get("env", []))
    assert not any(container.get("envFrom") for container in inits + [runner]), "a token is a file"
    assert pod["shareProcessNamespace"] is False, "a job sees the processes that hold the token"
    for holder in holders:
        user = holder["securityContext"]["runAsUser"]
        assert user not in (0, security["runAsUser"]), "the token's processes run as the jobs' user"
        assert holder["securityContext"]["runAsGroup"] != security["runAsGroup"]
        assert "RUNUP_TOKEN" not in values(holder), "a token is a file"
        volume, _ = place(pod, holder, values(holder)["RUNUP_TOKEN_FILE"])
        # The kubelet creates the file for root and the pod's group: with 0400 only root could read it.
        assert volume["secret"]["defaultMode"] == 0o440
    assert "runAsUser" not in runner["securityContext"] and security["fsGroup"] == security["runAsGroup"]

    # The configuration is passed on to the runner; the receipt is not.
    path = values(create)["RUNUP_JIT_CONFIG_OUT"]
    assert environment["RUNUP_JIT_CONFIG_FILE"] == path
    (out, _), (back, mount) = place(pod, create, path), place(pod, runner, path)
    assert out == back and out["emptyDir"].get("medium") == "Memory", "the configuration is not passed on, or is on a disk"
    assert mount.get("readOnly") is True, "a job could leave something for another container"
    receipts = [place(pod, holder, values(holder)["RUNUP_RECEIPT"])[0] for holder in holders]
    assert receipts[0] == receipts[1] and receipts[0]["name"] not in names(runner, "volumeMounts"), "a job could write it"
    assert values(create)["RUNUP_RECEIPT"] == values(delete)["RUNUP_RECEIPT"]
    assert values(create)["RUNUP_URL"] == values(delete)["RUNUP_URL"]
    assert create["command"][-1] == "create-jit" and delete["command"][-1] == "delete-on-stop"
    assert delete.get("restartPolicy") == "Always" and "restartPolicy" not in create, "only `delete` is a sidecar"
    assert order.index("copy") < order.index("delete") < order.index("create"), "the created runner would not be deleted"

    failing = {
        rule["onExitCodes"]["containerName"]: set(rule["onExitCodes"]["values"])
        for rule in job["podFailurePolicy"]["rules"]
        if rule["action"] == "FailJob"
    }
    assert {64, 77, 78} <= failing["create"] and {64, 78, 80} <= failing["runner"], "a permanent failure must fail the Job"
    # 69 from the runner: its configuration was used, or the runner was deleted; the next pod gets a runner of its own.
    assert not {0, 75} & failing["create"] and not {0, 69, 75} & failing["runner"], "another pod could succeed"
    assert security["runAsNonRoot"] and security["runAsUser"] > 0
    assert security["seccompProfile"]["type"] == "RuntimeDefault"
    for container in inits + [runner]:
        confined = container["securityContext"]
        assert confined["capabilities"]["drop"] == ["ALL"] and not confined["allowPrivilegeEscalation"]
        assert confined["readOnlyRootFilesystem"]
        assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]
    used = {name for container in inits + [runner] for name in names(container, "volumeMounts")}
    assert used == names(pod, "volumes"), "a volume is not mounted, or does not exist"


def changed(job, change):
    job = copy.deepcopy(job)
    change(job, job["template"]["spec"])
    return job


def volume(pod, name):
    return next(volume for volume in pod["volumes"] if volume["name"] == name)


def refused(check, what):
    try:
        check()
    except (AssertionError, kubernetes_validate.ValidationError):
        return
    sys.exit(f"FAILED: {what} was not refused")


templates = []
for name, job in jobs():
    promises(job)
    templates.append(job["template"])
    for what, change in {
        "a pod that is killed while it drains": lambda job, pod: pod.update(terminationGracePeriodSeconds=30),
        "a pod with the cluster's token": lambda job, pod: pod.update(automountServiceAccountToken=True),
        "a token that all can read": lambda job, pod: volume(pod, "token")["secret"].update(defaultMode=0o444),
        "a pod that is started again in its place": lambda job, pod: pod.update(restartPolicy="OnFailure"),
        "trying again that ends the job": lambda job, pod: job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"].append(75),
        "a clean stop that ends the job": lambda job, pod: job["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"].append(0),
        "a deleted runner that ends the pool": lambda job, pod: job["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"].append(69),
        "a runner with the token's file": lambda job, pod: pod["containers"][0]["volumeMounts"].append(
            {"name": "token", "mountPath": "/run/secrets/runup"}
        ),
        "a runner with a token in a variable": lambda job, pod: pod["containers"][0]["env"].append(
            {"name": "RUNUP_TOKEN_FILE", "value": "/run/runup/token"}
        ),
        "a variable from a secret": lambda job, pod: pod["initContainers"][2]["env"].append(
            {"name": "X", "value": "", "valueFrom": {"secretKeyRef": {"name": "runup", "key": "token"}}}
        ),
        "processes that a job sees": lambda job, pod: pod.update(shareProcessNamespace=True),
        "a holder that is the jobs' user": lambda job, pod: pod["initContainers"][2]["securityContext"].update(runAsUser=1001),
        "a configuration that a job can write": lambda job, pod: pod["containers"][0]["volumeMounts"][2].pop("readOnly"),
        "a configuration on a disk": lambda job, pod: volume(pod, "jit").update(emptyDir={}),
        "a receipt that a job can write": lambda job, pod: pod["containers"][0]["volumeMounts"].append(
            {"name": "receipt", "mountPath": "/run/receipt"}
        ),
        "a runner that nothing deletes": lambda job, pod: pod["initContainers"][1].pop("restartPolicy"),
        "a runner that is created before it can be deleted": lambda job, pod: pod["initContainers"].reverse(),
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
